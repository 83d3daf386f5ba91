"""A server's settings. They travel in the environment, which other users cannot read, unlike arguments."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from localemp.errors import OptionError
from localemp.models.adapters import Adapter
from localemp.pipeline.config import RunConfig
from localemp.serving.names import ModelNames

CHAT = "/v1/chat/completions"
"""The path of chat requests, for the server and for those who ask it; these need no server's packages."""

VARIABLE = "LOCALEMP_SERVE"
MOST_ADAPTERS = 64
"""The most adapters of one server; vLLM loads all of them when it starts."""


class ServeSettings(BaseModel):
    """The settings of a server: models, address, access.

    Attributes:
        model: The name under which the model is served; strategies are "MODEL:STRATEGY".
        config: The settings of a `RunConfig` that differ from its defaults.
        strategies: Canonical names of the offered strategies.
        flows: The texts of the operator's flows among them, by their files' names without ending.
        adapters: The SHA-256 of each adapter, by name; "MODEL@ADAPTER" is the model with it.
        api_keys: Valid keys; without any, every client is served.
        ui: Whether a web page is served at `/`.
        host: The host to listen on, which decides the names that the server answers to.
        origins: Other sites whose pages may use it, as browsers name them in `Origin`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    config: dict[str, Any] = Field(default_factory=dict)
    strategies: tuple[str, ...] = ()
    flows: dict[str, str] = Field(default_factory=dict)
    adapters: Annotated[dict[str, str], Field(max_length=MOST_ADAPTERS)] = Field(default_factory=dict)
    api_keys: tuple[str, ...] = Field(default=(), repr=False)
    ui: bool = True
    host: str = "127.0.0.1"
    origins: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        model: str,
        config: RunConfig,
        *,
        strategies: Sequence[str],
        flows: Mapping[str, str] | None = None,
        adapters: Sequence[Adapter] = (),
        api_keys: Sequence[str] = (),
        ui: bool = True,
        host: str = "127.0.0.1",
        origins: Sequence[str] = (),
    ) -> Self:
        """Return the settings for a config and the options of `localemp serve`."""
        return cls(
            model=model,
            config={name: value for name, value in config.changed().items() if name != "adapter"},  # see `adapters`
            strategies=tuple(strategies),
            flows=dict(flows or {}),
            adapters={adapter.name: adapter.sha256 for adapter in adapters},
            api_keys=tuple(api_keys),
            ui=ui,
            host=host,
            origins=tuple(origins),
        )

    @property
    def names(self) -> ModelNames:
        """The names of all models that clients can ask for."""
        return ModelNames(self.model, tuple(self.adapters), self.strategies)

    def to_config(self) -> RunConfig:
        """Return the config, its paths and tuples restored from JSON."""
        types = get_type_hints(RunConfig)
        settings = {
            name: TypeAdapter(types[name]).validate_python(value) if name in types else value
            for name, value in self.config.items()
        }
        return RunConfig(**settings)

    def to_env(self) -> dict[str, str]:
        """Return the environment variable that carries these settings to another process."""
        # In ASCII, since the locale may have no more for the environment.
        return {VARIABLE: json.dumps(self.model_dump(mode="json"))}

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Return the settings that `to_env` wrote.

        Raises:
            OptionError: The variable is missing or invalid. Its content is not shown: it holds keys.
        """
        try:
            return cls.model_validate_json(environment[VARIABLE])
        except KeyError:
            raise OptionError(f"{VARIABLE} is not set", "start the server with `localemp serve`") from None
        except ValidationError as error:
            where = {".".join(map(str, each["loc"])) or "JSON" for each in error.errors()}
            raise OptionError(f"{VARIABLE} cannot be read: {', '.join(sorted(where))}") from None
