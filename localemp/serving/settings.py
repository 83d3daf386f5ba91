"""What a server is told. It travels in the environment, which other users cannot read, unlike arguments."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from localemp.errors import OptionError
from localemp.pipeline.config import RunConfig

VARIABLE = "LOCALEMP_SERVE"


class ServeSettings(BaseModel):
    """What is served, and to whom.

    Attributes:
        model: The name that the model is served by; strategies are "MODEL:STRATEGY".
        config: The settings of a `RunConfig` that differ from its defaults.
        strategies: Canonical names of those that are offered.
        api_keys: Keys of which a client must know one; without keys everyone is served.
        ui: Whether there is a page at `/`.
        host: Where the server listens, which tells by which names it may be called.
        origins: Other sites whose pages may use it, as browsers name them in `Origin`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    config: dict[str, Any] = Field(default_factory=dict)
    strategies: tuple[str, ...] = ()
    api_keys: tuple[str, ...] = Field(default=(), repr=False)
    ui: bool = True
    host: str = "127.0.0.1"
    origins: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        model: str,
        config: RunConfig,
        strategies: Sequence[str],
        api_keys: Sequence[str],
        ui: bool,
        host: str = "127.0.0.1",
        origins: Sequence[str] = (),
    ) -> Self:
        """Settings that a config and the options of `localemp serve` make."""
        return cls(
            model=model,
            config=config.changed(),
            strategies=tuple(strategies),
            api_keys=tuple(api_keys),
            ui=ui,
            host=host,
            origins=tuple(origins),
        )

    def to_recipe(self) -> RunConfig:
        """The config as it was, whatever JSON made of its paths and tuples."""
        types = get_type_hints(RunConfig)
        told = {
            name: TypeAdapter(types[name]).validate_python(value) if name in types else value
            for name, value in self.config.items()
        }
        return RunConfig(**told)

    def to_env(self) -> dict[str, str]:
        """The variable that carries these settings to another process."""
        return {VARIABLE: self.model_dump_json()}

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The settings that `to_env` wrote.

        Raises:
            OptionError: There are none, or they cannot be read. Their content is not shown: it holds keys.
        """
        try:
            return cls.model_validate_json(environment[VARIABLE])
        except KeyError:
            raise OptionError(f"{VARIABLE} is not set", "start the server with `localemp serve`") from None
        except ValidationError as error:
            where = {".".join(map(str, each["loc"])) or "JSON" for each in error.errors()}
            raise OptionError(f"{VARIABLE} cannot be read: {', '.join(sorted(where))}") from None
