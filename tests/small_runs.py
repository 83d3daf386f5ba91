"""Small runs of every kind that a report has to show, written by `Run` itself."""

from collections.abc import Mapping
from pathlib import Path

from localemp.dialogue import Dialogue, Message
from localemp.engines.base import Completion
from localemp.errors import EngineError
from localemp.runs.run import Run, failure_record, response_record
from localemp.strategies.base import Exemplar, Response, Stage

HOSTILE = (
    "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\"> & {{ 7 * 7 }}"
)
EMOTIONS = ("sad", "joyful", "angry", "proud")
TELLING = {"a": "I am so sad today.", "b": "Joyful, I would say.", "c": "They are furious.", "d": "Hard to say."}


def dialogue(name: str, number: int = 0) -> Dialogue:
    """A dialogue of one turn, with everything known."""
    return Dialogue(
        name, (f"This is the story {name}.",), EMOTIONS[number % 4], f"Story {name}.", f"Tell me more of {name}."
    )


def make_run(
    folder: Path,
    replies: Mapping[str, str],
    strategy: str = "zero-shot",
    dialogues: int | None = None,
    failed: str = "",
    tokens: int | None = 4,
    **settings: object,
) -> Path:
    """A run with these replies by id; two-stage ones name the feelings in TELLING."""
    kept = {"model": "scripted", "strategy": strategy, "variant": "paper", "seed": 3, "sampling": {"temperature": 0}}
    with Run.open(folder, kept | settings) as run:
        run.add_session(
            {
                "command": f"localemp generate -s {strategy}",
                "dialogues": dialogues or len(replies) + bool(failed),
                "versions": {"localemp": "0.1.0"},
                "machine": {"processor": "an old one", "GPU": "none"},
            }
        )
        for number, (name, text) in enumerate(replies.items()):
            asked = dialogue(name, number)
            prompt = (Message("system", "You listen."), Message("user", asked.turns[-1]))
            stages = [Stage("reply", prompt, Completion(text, "stop", 12, tokens, seconds=0.5))]
            if "two-stage" in strategy:
                told = TELLING.get(name, "Hard to say.")
                stages.insert(0, Stage("feeling", prompt, Completion(told, "stop", 10, 6, seconds=0.25)))
            exemplars = (Exemplar(dialogue("train:1"), 0.75),) if "similar" in strategy else ()
            run.append(response_record(Response(asked, text, text, tuple(stages), exemplars)))
        if failed:
            run.append(failure_record(failed, EngineError("too hot")))
    return folder


def four(folder: Path, strategy: str = "zero-shot", **settings: object) -> Path:
    """A run of four dialogues, a to d."""
    return make_run(folder, {name: f"I hear you, {name}, and I am here." for name in "abcd"}, strategy, **settings)
