"""How a reply is drawn from a model's distribution."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a reply is drawn. Temperature 0 (greedy) is the paper's setting (section 4.4).

    Attributes:
        schema: A JSON schema, as text, that the reply must follow where the engine can hold it to one.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: str | None = None

    def describe(self) -> dict[str, Any]:
        """For a manifest; without the schema where there is none."""
        return {name: value for name, value in asdict(self).items() if name != "schema" or value is not None}
