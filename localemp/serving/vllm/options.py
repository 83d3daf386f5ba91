"""Engine arguments as options of `vllm serve`, and the user's options read as engine arguments."""

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any


def as_options(engine_args: Mapping[str, Any]) -> list[str]:
    """Return engine arguments as options of `vllm serve`."""
    options = []
    for name, value in engine_args.items():
        option = name.replace("_", "-")
        options.append(f"--no-{option}" if value is False else f"--{option}")
        if not isinstance(value, bool):
            options.append(value if isinstance(value, str) else json.dumps(value))
    return options


def read_options(options: Sequence[str]) -> dict[str, Any]:
    """Return what options of `vllm serve` say, as engine arguments; of several for one argument the last, as vLLM does.

    A flag is true or false, a whole number is a number; all else stays the text that it is, for vLLM to judge.
    """
    given: dict[str, Any] = {}
    for option, following in zip_longest(options, options[1:], fillvalue=""):
        if not option.startswith("--"):
            continue
        name, equals, value = option[2:].partition("=")
        name = name.replace("-", "_")
        value = value if equals or following.startswith("--") else following
        if equals or value:
            given[name] = int(value) if value.isdecimal() else value
        else:
            given[name.removeprefix("no_")] = not name.startswith("no_")
    return given
