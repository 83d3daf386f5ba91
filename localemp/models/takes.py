"""The table `[takes]` of a profile: the values that a hosted model takes for some fields of requests."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from localemp.errors import OptionError

_Value = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_-]{0,31}$")]
_Values = Annotated[tuple[_Value, ...], Field(max_length=16)]


class Takes(BaseModel):
    """The table `[takes]` of a profile.

    Attributes:
        reasoning_effort: Values of `--reasoning-effort`, from the least reasoning to the most.
        verbosity: Values of `--verbosity`, from the shortest answers to the longest.
        service_tier: Values of `--service-tier`, for a model that is not in all tiers of its service.

    Each is empty for a model that does not take the field at all, and None if nothing is known: any value is sent then.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    reasoning_effort: _Values | None = None
    verbosity: _Values | None = None
    service_tier: _Values | None = None

    def check(self, name: str, **chosen: str | None) -> None:
        """Check values that a user has chosen, before a service refuses them.

        Args:
            name: The model's name, for the message.
            **chosen: The values by the names of the attributes; None where none was chosen.

        Raises:
            OptionError: The model does not take one of them; lists those that it takes.
        """
        for field, value in chosen.items():
            _check(name, f"--{field.replace('_', '-')}", value, getattr(self, field))


def _check(name: str, option: str, value: str | None, known: Sequence[str] | None) -> None:
    if value is None or known is None or value in known:
        return
    if not known:
        raise OptionError(f"{option} {value}: {name} does not take it", f"omit {option}")
    raise OptionError(f"{option} {value}: {name} does not take this value", f"it takes {', '.join(known)}")
