"""Sampling parameters: how a reply is drawn from a model's distribution."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters of a reply. Temperature 0 (greedy) is the paper's setting (section 4.4).

    Attributes:
        schema: A JSON schema, as text, that the engine enforces if it can.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: str | None = None

    def describe(self) -> dict[str, Any]:
        """Return the parameters for a manifest; the schema only if there is one."""
        return {name: value for name, value in asdict(self).items() if name != "schema" or value is not None}
