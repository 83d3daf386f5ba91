"""`two-stage`: name the feeling and the situation first, then reply (section 3.3.2, Eq. 5)."""

from collections.abc import Sequence
from typing import Any, Literal

from localemp.dialogue import Dialogue
from localemp.errors import OptionError, UnknownNameError
from localemp.strategies.base import Exchange, Flow
from localemp.strategies.parts import Part
from localemp.utils.option import Option

GIVEN = ("emotion", "situation")

GIVEN_FACTS = Option(
    name="given",
    type=tuple[Literal["emotion", "situation"], ...],
    default=(),
    help="two-stage: take the true one from the data; may be repeated.",
    of_data=True,
)
LIST_LABELS = Option(
    name="list_labels",
    type=bool | None,
    flags="--labels/--no-labels",
    help="two-stage: list the 32 emotions in the question; the variant's default.",
)


class TwoStage(Flow):
    """Two calls: the question about feeling and situation, then the reply that combines the answer.

    Args:
        given: What is taken from the data in place of the inferred ("emotion", "situation"). With both, there is no
            first call.
        list_labels: Whether the question lists the 32 emotions; None leaves it to the prompt variant.

    Raises:
        UnknownNameError: Something else was given.
    """

    def __init__(self, given: Sequence[str] = (), list_labels: bool | None = None) -> None:
        for name in given:
            if name not in GIVEN:
                raise UnknownNameError("--given", name, GIVEN)
        self.given = tuple(name for name in GIVEN if name in given)
        self.list_labels = list_labels

    def check(self, dialogue: Dialogue) -> None:
        """The dialogue must have what is to be given."""
        for name in self.given:
            if not getattr(dialogue, name):
                raise OptionError(f"dialogue {dialogue.id!r} has no {name}", f"leave out --given {name}, or add it")

    async def run(self, exchange: Exchange) -> None:
        """Stage "feeling" (unless everything is given), then stage "reply"."""
        dialogue, prompts = exchange.draft.dialogue, exchange.prompts
        question = prompts.question(self.given, self.list_labels)
        asked = () if question is None else (question,)
        found = await exchange.ask("feeling", *asked) if asked else None
        emotion = dialogue.emotion if "emotion" in self.given else None
        situation = dialogue.situation if "situation" in self.given else None
        await exchange.ask("reply", *asked, thought=prompts.thought(found, emotion, situation))

    def describe(self) -> dict[str, Any]:
        """What was given, and whether the labels were listed."""
        return {"given": list(self.given), "list_labels": self.list_labels}


TWO_STAGE = Part(
    place="flow",
    about="feeling and situation first, then the reply (section 3.3.2)",
    options=(GIVEN_FACTS, LIST_LABELS),
    make=lambda context: TwoStage(context.option(GIVEN_FACTS), context.option(LIST_LABELS)),
)
