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
    help="two-stage: take this from the data instead of inferring it; may be repeated.",
    of_data=True,
)
LIST_LABELS = Option(
    name="list_labels",
    type=bool | None,
    flags="--labels/--no-labels",
    help="two-stage: whether the question lists the 32 emotions; by default as the variant says.",
)


class TwoStage(Flow):
    """Makes two calls: the question about feeling and situation, then the reply that uses the answer.

    Args:
        given: Facts from the data that replace inferred ones ("emotion", "situation"); with both, there is no first
            call.
        list_labels: Whether the question lists the 32 emotions; None for the prompt variant's default.

    Raises:
        UnknownNameError: `given` has another name.
    """

    def __init__(self, given: Sequence[str] = (), list_labels: bool | None = None) -> None:
        for name in given:
            if name not in GIVEN:
                raise UnknownNameError("--given", name, GIVEN)
        self.given = tuple(name for name in GIVEN if name in given)
        self.list_labels = list_labels

    def check(self, dialogue: Dialogue) -> None:
        """Raise OptionError if the dialogue lacks a given fact."""
        for name in self.given:
            if not getattr(dialogue, name):
                raise OptionError(
                    f"dialogue {dialogue.id!r} has no {name}", f"omit --given {name}, or add it to the data"
                )

    async def run(self, exchange: Exchange) -> None:
        """Run the stage "feeling", unless everything is given, and then "reply"."""
        dialogue, prompts = exchange.draft.dialogue, exchange.prompts
        question = prompts.question(self.given, self.list_labels)
        asked = () if question is None else (question,)
        found = await exchange.ask("feeling", *asked) if asked else None
        emotion = dialogue.emotion if "emotion" in self.given else None
        situation = dialogue.situation if "situation" in self.given else None
        await exchange.ask("reply", *asked, thought=prompts.thought(found, emotion, situation))

    def describe(self) -> dict[str, Any]:
        """Return the given facts, and whether labels are listed."""
        return {"given": list(self.given), "list_labels": self.list_labels}


TWO_STAGE = Part(
    place="flow",
    about="feeling and situation first, then the reply (section 3.3.2)",
    options=(GIVEN_FACTS, LIST_LABELS),
    make=lambda context: TwoStage(context.option(GIVEN_FACTS), context.option(LIST_LABELS)),
)
