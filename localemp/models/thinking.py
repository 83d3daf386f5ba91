"""The table `[thinking]` of a profile: how a model thinks before it replies."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StringConstraints, model_validator

_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w-]*$", max_length=64)]
_Value = StrictBool | StrictInt | Annotated[str, StringConstraints(strict=True, max_length=64)]
_Mark = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class Thinking(BaseModel):
    """The table `[thinking]` of a profile, for a model that thinks before it replies.

    Attributes:
        switch: The chat template's argument that turns thinking on and off; None for a model that always thinks.
            Without `--thinking`, `[chat_template_kwargs]` decides; if that does not set the argument, the model thinks.
        on, off: The argument's values.
        budget: The most tokens of thinking before one reply.
        parser: vLLM's name for the parser of this model's thinking.
        start, end: The marks around the thinking, if `parser` does not know them; "<think>" and "</think>" by default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    switch: _Name | None = None
    on: _Value = True
    off: _Value = False
    budget: Annotated[int, Field(gt=0, le=2**30)] = 1024
    parser: _Name | None = None
    start: _Mark | None = None
    end: _Mark | None = None

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if (self.start is None) != (self.end is None):
            raise ValueError("start: give start and end together")
        if self.switch is not None and self.on == self.off:
            raise ValueError("on: it is the same as off")
        return self

    @property
    def marks(self) -> tuple[str, str] | None:
        """The marks around the thinking; None if the parser knows them."""
        if self.start is not None and self.end is not None:
            return self.start, self.end
        return None if self.parser else ("<think>", "</think>")
