"""vLLM's engine arguments as options of its command line."""

import json
from collections.abc import Mapping
from typing import Any


def option_name(name: str) -> str:
    """Return an argument's option: "--max-num-seqs" for "max_num_seqs"."""
    return f"--{name.replace('_', '-')}"


def as_options(engine_args: Mapping[str, Any]) -> list[str]:
    """Return engine arguments as options of `vllm serve`."""
    options = []
    for name, value in engine_args.items():
        if isinstance(value, bool):
            options.append(option_name(name if value else f"no_{name}"))
        else:
            options += [option_name(name), value if isinstance(value, str) else json.dumps(value)]
    return options
