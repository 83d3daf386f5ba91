"""Writes docs/profiles.md from the classes that validate profiles: `python docs/make_profiles.py`.

A test fails when the file is stale.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from localemp.engines.openai.servers import known_servers
from localemp.models.price import Price, Rates
from localemp.models.profiles import HubSource, MergedSource, PackageSource, Profile
from localemp.models.sampling import ELSEWHERE, DrawingSettings, SamplingSettings
from localemp.models.takes import Takes
from localemp.models.thinking import Thinking
from localemp.models.unused_keys import who_has

TARGET = Path(__file__).parent / "profiles.md"

_BEGIN = """# Profiles: every key, and every sampling parameter

Made by `python docs/make_profiles.py` from the classes that validate profiles. [models.md](models.md) says which
models there are.

A profile is a TOML file: one of [models/](../models), or your own (`--model mine.toml`). `localemp models show
mine.toml` reads it and shows what is set. A key that is unknown, of the wrong type, or without effect for this kind
of model is an error that says so.
"""

_SAMPLING = """## `[sampling]`: sampling parameters

They have vLLM's names and meaning. The same ones can be set

- in a profile, as the model's defaults: `[sampling]`;
- for a run: `--sampling NAME=VALUE`, as often as you like (values are JSON, else texts), or
  `RunConfig(sampling={"top_k": 40})` in Python. `--max-tokens`, `--temperature` and `--top-p` are short for three
  of them;
- for all strategies of a server: the same options of `localemp serve`;
- in a plan of experiments: `sampling = { top_k = 40 }` in a row, a model's table or `[defaults]`, and for a judge;
- for one stage of a flow, all but the last four: `sampling = { top_k = 40 }` ([flows.md](flows.md)).

What a run sets takes precedence over the profile's, parameter by parameter. A manifest has the parameters of all
runs, and of the others those that are set.

    localemp generate --model llama --temperature 0.7 --sampling top_k=40 --sampling min_p=0.05 --out runs/warm
    localemp generate --model llama --sampling 'choice=["yes", "no"]' --out runs/yes-or-no

`min_tokens`, `choice`, `regex`, `grammar` and `json_schema` hold the reply; other stages of a strategy are asked
without them. `top_k` and `min_p` are errors at temperature 0, where nothing is drawn.
"""

_WHO = """### Which engine takes what

vLLM in this process takes all of them. A server is sent those that are set, by vLLM's names (`choice`, `regex` and
`grammar` as `structured_outputs`, `json_schema` as `response_format`). What a service is known not to take is an
error before anything is asked; what another one refuses is an error of the first request. Only a server that
ignores a field without a word cannot be told from one that heeds it. `temperature`, `top_p`, `seed` and `stop` that
a server refuses when it is asked are left out: that is logged, and noted in each reply's line. An engine of a
plug-in takes what it is registered with ([extending.md](extending.md)).

| server | takes of the others |
|---|---|"""

_REQUEST = """## `[request]`: further fields of requests

What a hosted model is sent besides messages and sampling, such as `reasoning_effort`, by the service's own names,
whatever they are. A model that runs here is sent no requests, so there it is an error. So is a sampling parameter,
which belongs in `[sampling]`, where a manifest records it and an option can change it.
"""

_NOT_AMONG = """### What is not among them

| name | |
|---|---|"""

_TABLES: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("hub", "Weights on the Hugging Face hub", HubSource),
    ("package", "Weights in packages of a Python package index", PackageSource),
    ("merged", "Weights made of a base and a LoRA adapter", MergedSource),
    ("thinking", "A model that thinks before it replies; see [thinking.md](thinking.md)", Thinking),
    ("price", "Prices of a hosted model, in US dollars per million tokens; see [hosted.md](hosted.md)", Price),
    ("takes", "The values that a hosted model takes for some options", Takes),
)


def reference() -> str:
    """Return docs/profiles.md."""
    parts = [_BEGIN, "## The file\n", *_rows(Profile, who_has), ""]
    parts += [_SAMPLING, *_rows(SamplingSettings), "", _WHO, *_servers(), "", _NOT_AMONG]
    parts += [f"| `{name}` | {instead} |" for name, instead in ELSEWHERE.items()]
    parts += [
        "",
        _REQUEST,
    ]
    for name, title, model in _TABLES:
        parts += [f"## `[{name}]`\n", f"{title}.\n", *_rows(model), ""]
    return "\n".join(parts).rstrip() + "\n"


def _rows(model: type[BaseModel], who: Any = None) -> Iterator[str]:
    """Yield a table of a model's fields."""
    yield f"| key | value |{' for |' if who else ''} |"
    yield f"|---|---|{'---|' if who else ''}---|"
    about, schema = _docs(model), model.model_json_schema()
    for name, field in model.model_fields.items():
        form = schema["properties"][getattr(field.validation_alias, "choices", [name])[0]]
        whose = f" {who(name)} |" if who else ""
        yield f"| `{name}` | {_value(form)} |{whose} {about[name]} |"


def _docs(model: type[BaseModel]) -> dict[str, str]:
    """Return what the docstrings of a model and its bases say about each field."""
    found: dict[str, str] = {}
    for each in (Rates, DrawingSettings, model):
        if not issubclass(model, each):
            continue
        _, _, attributes = (inspect.getdoc(each) or "").partition("Attributes:\n")
        for names, text in re.findall(r"^    ([\w, ]+): (.*(?:\n     .*)*)", attributes, re.MULTILINE):
            told = re.sub(r"(^|\. )None\b", r"\1Missing", " ".join(text.split()))
            told = re.sub(r"\bNone\b", "missing", told)
            found |= dict.fromkeys(names.split(", "), told)
    return found


def _value(form: dict[str, Any]) -> str:
    """Return the values of a field in words, from its JSON schema."""
    forms = [each for each in form.get("anyOf", [form]) if each.get("type") != "null"]
    return " or ".join(dict.fromkeys(map(_kind, forms)))


def _kind(form: dict[str, Any]) -> str:
    if "enum" in form:
        return ", ".join(f"`{each}`" for each in form["enum"])
    if "const" in form:
        return f"`{form['const']}`"
    kind = form.get("type", "table")
    if kind == "array":
        return f"list of {_kind(form.get('items', {'type': 'string'})).partition(',')[0]}s"
    words = {"number": "number", "integer": "whole number", "string": "text", "boolean": "true or false"}
    if kind not in words:
        return "table"
    return f"{'date' if form.get('format') == 'date' else words[kind]}{_range(form)}"


def _range(form: dict[str, Any]) -> str:
    limits = {"minimum": "at least", "exclusiveMinimum": "over", "maximum": "at most", "exclusiveMaximum": "under"}
    told = [f"{words} {form[name]:,g}" for name, words in limits.items() if abs(form.get(name, 2**30)) < 10_000]
    return f", {', '.join(told)}" if told else ""


def _servers() -> Iterator[str]:
    """Yield a row for each server of which it is known what it takes."""
    for server in known_servers():
        if server.takes is not None:
            yield f"| {server.name} | {', '.join(f'`{name}`' for name in sorted(server.takes)) or 'none'} |"
    unknown = [server.name for server in known_servers() if server.takes is None]
    yield f"| {', '.join(unknown)}, any other | not known: all are sent |"


if __name__ == "__main__":
    TARGET.write_text(reference(), "utf-8")
