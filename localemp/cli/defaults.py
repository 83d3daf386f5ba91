"""Options whose defaults a user can set.

What is typed counts, then the environment (`LOCALEMP_MODEL`), then the user's config file (`utils/user_config.py`),
then localemp's own default. Settings that belong to one model are not among these options: they go into a profile.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click

from localemp.errors import LocalempError, OptionError, nearest
from localemp.utils.redaction import redact_settings, redact_text
from localemp.utils.text import one_line
from localemp.utils.user_config import UserConfig, Value, read_config

VARIABLES = {"model": "LOCALEMP_MODEL"}
"""Environment variables by key."""

KEYS = ("model", "base-url", "server", "strategy", "variant", "data", "split", "instances", "max-tokens", "temperature",
        "top-p", "sampling", "seed", "concurrency", "engine-arg")  # fmt: skip
"""The options that can have a default of the user's, in the order in which they are listed."""

_META, _USED = "localemp.defaults", "localemp.defaults.used"
_NO_SECRETS = "keys are not kept here: put them into the environment, such as export OPENAI_API_KEY=..."


@dataclass(frozen=True, slots=True)
class Default:
    """A default of the user's.

    Attributes:
        value: The value, as the file has it.
        source: Where it is from: "LOCALEMP_MODEL", or the path of the file.
        config: The file, if it is from there.
    """

    value: Value
    source: str
    config: UserConfig | None = None

    def error(self, key: str, message: str) -> LocalempError:
        """Return the error for an invalid value, which names its place."""
        if self.config is None:
            return OptionError(f"{self.source}: {message}", f"unset {self.source}, or set another value")
        return self.config.error(key, message, f"localemp config set {key} VALUE, or localemp config unset {key}")


class DefaultableOption(click.Option):
    """An option whose default a user can set; `--help` says where it is from.

    Attributes:
        heeds_user: Whether it has the user's default in this command; a plan's rows have the plan's.
    """

    heeds_user = True

    @property
    def key(self) -> str:
        """The option's key in the config file."""
        return self.opts[0].removeprefix("--")

    def get_default(self, ctx: click.Context, call: bool = True) -> Any:
        """Return the user's default, else localemp's own."""
        found = None if ctx.resilient_parsing else self._default_of_user(ctx)  # as completion and help do
        if found is None:
            return super().get_default(ctx, call)
        _used(ctx)[self.key] = found
        return self.converted(ctx, found)

    def _default_of_user(self, ctx: click.Context) -> Default | None:
        return user_defaults(ctx).get(self.key) if self.heeds_user else None

    def converted(self, ctx: click.Context, default: Default) -> Any:
        """Return a default as the option's type has it.

        Raises:
            LocalempError: It is invalid.
        """
        try:
            return self.type_cast_value(ctx, as_typed(default.value, several=self.multiple))
        except click.BadParameter as error:
            raise default.error(self.key, error.message) from error

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Return what `--help` adds; it names the place of a user's default."""
        extra = super().get_help_extra(ctx)
        with suppress(LocalempError):  # what is wrong with the file is told when the command runs
            if found := self._default_of_user(ctx):
                extra["default"] = f"{shown(found.value)}, from {found.source}"
        return extra


def as_typed(value: Value, *, several: bool) -> Any:
    """Return a value as the words of a command line that give it."""
    if isinstance(value, list):
        return tuple(value) if several else ",".join(value)
    text = value if isinstance(value, str) else repr(value)
    return (text,) if several else text


def shown(value: Value) -> str:
    """Return a value for people."""
    return ", ".join(value) if isinstance(value, list) else str(value)


def user_defaults(ctx: click.Context) -> Mapping[str, Default]:
    """Return the user's defaults by key, read once for a command.

    Raises:
        DataError: The config file is damaged, or has a key that no option has; names the line.
    """
    if _META not in ctx.meta:
        ctx.meta[_META] = find_defaults(read_config())
    found: Mapping[str, Default] = ctx.meta[_META]
    return found


def find_defaults(config: UserConfig) -> dict[str, Default]:
    """Return the defaults of a config file and of the environment, which comes first.

    Raises:
        DataError: The file has a key that no option has, or a secret.
    """
    found: dict[str, Default] = {}
    for name, value in config.values.items():
        key = checked_key(name, value, config)
        if key in found:
            raise config.error(name, f"{key} is there twice")
        found[key] = Default(value, str(config.path), config)
    for key, variable in VARIABLES.items():
        if os.environ.get(variable, "").strip():
            found[key] = Default(os.environ[variable].strip(), variable)
    return found


def as_key(name: str) -> str:
    """Return a name as keys are written: `base-url` for `--base_url`."""
    return name.strip().removeprefix("--").replace("_", "-").lower()


def checked_key(name: str, value: Value | None, config: UserConfig | None = None) -> str:
    """Return the key for a name as it was written, `base_url` for one.

    Args:
        name: The name.
        value: Its value, if there is one; it may not be a secret.
        config: The file that has it; None if it was typed.

    Raises:
        LocalempError: No option has this key, or name or value are a secret's.
    """

    def error(message: str, hint: str) -> LocalempError:
        return (
            OptionError(f"{one_line(name, 60)}: {message}", hint)
            if config is None
            else config.error(name, message, hint)
        )

    key = as_key(name)
    texts = value if isinstance(value, list) else [str(value)]
    told = redact_settings({key: texts[0] if texts else ""})[key]
    if (key not in KEYS and told == "***") or any(redact_text(text) != text for text in texts):
        raise error("it looks like a secret", _NO_SECRETS)
    if key not in KEYS:
        near = nearest(key, KEYS)
        guess = f"did you mean {near!r}? " if near else ""
        raise error("no option that can have a default", f"{guess}known: {', '.join(KEYS)}")
    return key


def note_of(ctx: click.Context) -> str:
    """Return which defaults of the user's counted in a process; empty if none did."""
    return "; ".join(f"{key} = {shown(each.value)} is from {each.source}" for key, each in _used(ctx).items())


def _used(ctx: click.Context) -> dict[str, Default]:
    used: dict[str, Default] = ctx.meta.setdefault(_USED, {})
    return used
