"""The operator's own flows in a server.

The command reads every file once and hands the texts to the server's process, which reads none: a file that changes or
disappears later changes nothing, and no name that a client sends is ever a path.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

from localemp.errors import OptionError
from localemp.prompting.flow import GIVEN
from localemp.prompting.flow_files import form_for, parse_flow, read_bytes
from localemp.strategies.flows import part_of
from localemp.strategies.parts import Part
from localemp.strategies.registry import all_strategies, is_flow_file, parse_strategy, parts, register_part
from localemp.utils.paths import at_home

MOST_FLOWS = 32
"""The most flows of one server."""

LARGEST_FLOWS = 96 * 2**10
"""Bytes of all flows together, as JSON: Linux takes 128 KiB in one environment variable, which has the other settings,
too."""


def offered_strategies(listed: str | None, paths: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the canonical names of the strategies that a server offers, and the flows in them.

    Args:
        listed: Strategies, separated by commas, whose parts may be files; None for the paper's, and for the flows alone
            and joined with the paper's lookups.
        paths: Flows that are offered alone, too, whether they are listed or not.

    Returns:
        The names, in which a file is called by its stem, and the text of each file by its name without ending: "mine",
        "mine.given-emotion".

    Raises:
        LocalempError: A strategy does not exist, or a file is not a valid flow or has a name that is taken.
    """
    names = [[part.strip() for part in name.split("+")] for name in listed.split(",")] if listed is not None else []
    texts = read_flows([*paths, *(part for parts in names for part in parts if is_flow_file(part))])
    register_flows(texts)
    if listed is None:
        return all_strategies(texts), texts
    joined = ["+".join(Path(part).stem if is_flow_file(part) else part for part in parts) for parts in names]
    found = ["+".join(parse_strategy(name, allow="files")) for name in joined]
    return tuple(dict.fromkeys([*found, *(at_home(path).stem for path in paths)])), texts


def register_flows(texts: Mapping[str, str]) -> None:
    """Make flows parts of strategies; those that are already stay.

    Args:
        texts: The text of each file by its name without ending.

    Raises:
        OptionError: A name is taken.
        PromptError: A text is not a valid flow.
    """
    for name in texts:
        if "." in name:
            continue
        part = _part(name, tuple((form, text) for form, text in texts.items() if form.partition(".")[0] == name))
        if name not in parts():
            register_part(name, part)
        elif parts()[name] is not part:
            raise OptionError(f"{name}.toml: there is a strategy {name!r} already", "give the file another name")


@cache
def _part(name: str, texts: tuple[tuple[str, str], ...]) -> Part:
    files = {form: partial(parse_flow, text.encode(), name, f"{form}.toml") for form, text in texts}
    names = {given: form_for(Path(f"{name}.toml"), given).stem for given in GIVEN}
    return part_of(files[name](), {given: files[form] for given, form in names.items() if form in files})


def read_flows(paths: Iterable[str]) -> dict[str, str]:
    """Return the texts of flows and of their forms for given facts, by the files' names without ending.

    Raises:
        PromptError: A file is not a valid flow.
        OptionError: Two have the same name, or all of them are too many or too large.
    """
    found: dict[str, Path] = {}
    for typed in paths:
        path = at_home(typed)
        if not is_flow_file(typed):
            hint = "the bundled ones are offered by name: --strategies two-stage,similar+two-stage"
            raise OptionError(f"--flow {typed}: a flow is a file whose name ends with .toml", hint)
        if "." in path.stem:
            flow = f"{path.stem.partition('.')[0]}.toml"
            raise OptionError(f"{typed}: a flow's name has no dot", f"forms for given facts are served with {flow}")
        other = found.setdefault(path.stem, path)
        if other.resolve() != path.resolve():
            raise OptionError(f"{other} and {path} have the same name, {path.stem!r}", "rename one of them")
    if len(found) > MOST_FLOWS:
        raise OptionError(f"{len(found)} flows; a server has at most {MOST_FLOWS}", "start a second server")
    texts: dict[str, str] = {}
    for name, path in found.items():
        for file in (path, *(form for given in GIVEN if (form := form_for(path, given)).exists())):
            content = read_bytes(file)
            parse_flow(content, name, str(file))
            texts[file.stem] = content.decode()
    size = len(json.dumps(texts))
    if size > LARGEST_FLOWS:
        raise OptionError(
            f"the flows have {size // 2**10} KiB together; a server takes at most {LARGEST_FLOWS // 2**10}",
            "shorten them, or start a second server",
        )
    return texts
