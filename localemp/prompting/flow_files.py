"""Reads flows: the bundled ones, the user's own, and the forms of a flow for what is given."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from localemp.errors import PromptError, nearest
from localemp.prompting.flow import FlowForm, Stage
from localemp.prompting.flow_checks import is_stage_name, problems_of
from localemp.prompting.flow_problems import Problem, in_words, places_of, shown_key, value_at
from localemp.utils.files import open_regular
from localemp.utils.paths import resource
from localemp.utils.text import one_line
from localemp.utils.toml_lines import line_of, lines_of_keys
from localemp.utils.toml_reader import LARGEST_FILE, TOMLError, parse_toml

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}(?:\.given-(?:emotion|situation|emotion-situation))?")
_HINT = "docs/flows.md describes the form"
_BEGIN = f'begin with about = "...", then [[stages]]; {_HINT}'
_MOST_TOLD = 10
_MOST_FOUND = 1000
_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)")
# What is often behind a message of Python's reader, by a part of the message.
_TOML_HINTS = {
    "('stages',)": "write [[stages]], in double brackets, before each stage",
    "Cannot overwrite a value": "the key appears twice; keep one",
    "Cannot declare": "the table appears twice; keep one",
    "Unescaped": "in \"...\" write \\\\ for a backslash, or put the text in '...'",
    "Illegal character '\\n'": 'put a text of several lines in """..."""',
    "Invalid value": 'put texts in quotes: ask = "..."',
    "Expected newline or end of document": 'write \\" for a quotation mark inside "...", or put the text in \'...\'',
}


@dataclass(frozen=True)
class FlowFile:
    """A flow that has been read and checked.

    Attributes:
        name: Its name in a strategy: the file's, without its ending.
        about: One line for `--help`.
        source: The publication it is from; empty if it is from none.
        stages: The stages, the reply last.
        sha256: Hash of the stages; comments, `about` and `source` do not count.
        where: The file, for errors.
    """

    name: str
    about: str
    source: str
    stages: tuple[Stage, ...]
    sha256: str
    where: str = ""

    @cached_property
    def needs(self) -> Mapping[str, tuple[str, ...]]:
        """The earlier stages whose answers each stage needs, by name."""
        names = [stage.name for stage in self.stages]
        return {stage.name: tuple(name for name in names if name in stage.quoted) for stage in self.stages}

    @cached_property
    def in_a_row(self) -> bool:
        """Whether each stage needs the one before it, so that no two can run at once."""
        return all(before.name in self.needs[after.name] for before, after in pairwise(self.stages))


def load_flow(path: Path) -> FlowFile:
    """Read and check a file.

    Raises:
        PromptError: The file cannot be read, or is not a valid flow; names file, line, stage and key.
    """
    return parse_flow(read_bytes(path), path.stem, str(path))


def read_bytes(path: Path) -> bytes:
    """Read a file, within the limit of `parse_flow`.

    Raises:
        PromptError: It cannot be read.
    """
    try:
        with open_regular(path) as file:
            return file.read(LARGEST_FILE + 1)
    except FileNotFoundError as error:
        raise PromptError(f"{path}: no such file", f"a flow is a TOML file; {_HINT}") from error
    except OSError as error:
        raise PromptError(f"{path}: cannot be read: {error.strerror}", f"a flow is a TOML file; {_HINT}") from error
    except ValueError as error:  # a null character, or half a surrogate pair
        raise PromptError(f"{one_line(str(path))}: it is not a path", f"a flow is a TOML file; {_HINT}") from error


def parse_flow(content: bytes, name: str, where: str) -> FlowFile:
    """Read and check the contents of a file.

    Args:
        content: The bytes.
        name: The name of the flow.
        where: The file, for errors.

    Raises:
        PromptError: It is not a valid flow; names line, stage and key. Further problems are in `others`.
    """
    if not _NAME.fullmatch(name):
        hint = "name the file with letters, digits, hyphens and underscores, 64 at most: my-flow.toml"
        raise PromptError(f"{where}: {one_line(name, 60)!r} is not a name for a flow", hint)
    try:
        fields = parse_toml(content)
    except TOMLError as error:
        raise _not_toml(str(error), where) from error
    if kind := _other_kind(fields):
        raise PromptError(f"{where}: {kind[0]}", kind[1])
    try:
        # As JSON, since pydantic is strict there, and still takes lists for tuples.
        form = FlowForm.model_validate_json(json.dumps(fields, default=str))
    except ValidationError as error:
        raise _told(where, content, fields, _misfits(error, fields)) from error
    if found := list(islice(problems_of(form), _MOST_FOUND)):
        raise _told(where, content, fields, found)
    said = form.model_dump(mode="json", include={"stages"}, exclude_defaults=True, by_alias=True)
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return FlowFile(name.partition(".")[0], form.about, form.source, form.stages, digest, where)


def _not_toml(said: str, where: str) -> PromptError:
    """Return the error for a text that is not TOML, with the line and column that Python's reader tells."""
    if said == "not valid UTF-8":
        return PromptError(f"{where}: it is not a text in UTF-8", f"a flow is a TOML file; {_HINT}")
    place = _AT.search(said)
    hint = next((hint for part, hint in _TOML_HINTS.items() if part in said), _HINT)
    at = f":{place[1]}:{place[2]}" if place and place[1] else ""
    return PromptError(f"{where}{at}: {one_line(_AT.sub('', said))}", hint)


def _other_kind(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return what a file is that is no flow at all, and what to do with it."""
    if not fields:
        return "the file is empty", _BEGIN
    if "stages" in fields:
        return None
    kinds = {
        ("extends",): ("it is a prompt variant, not a flow", "give it with --variant; a flow extends nothing"),
        ("task", "exemplars", "context"): ("it is a prompt variant, not a flow", "give it with --variant"),
        ("kind", "description"): ("it is the profile of a model, not a flow", "give it with --model"),
        ("rows",): ("it is the plan of an experiment, not a flow", "give it to `localemp experiment`"),
    }
    for keys, said in kinds.items():
        if all(key in fields for key in keys):
            return said
    if "about" in fields or nearest("stages", fields):
        return None
    return "it is not a flow: it has neither about nor stages", _BEGIN


def _misfits(error: ValidationError, fields: Mapping[str, Any]) -> list[Problem]:
    """Return what does not have the form of a flow."""
    found = [in_words(place, each, fields) for place, each in places_of(error)[:_MOST_FOUND]]
    return [problem for problem in found if problem is not None]


def _told(where: str, content: bytes, fields: Mapping[str, Any], problems: Sequence[Problem]) -> PromptError:
    """Return one error for all problems, in the order of the file."""
    lines = lines_of_keys(content.decode("utf-8-sig"))
    placed = sorted(((line_of(each.place, lines), each) for each in problems), key=lambda both: both[0] or 0)
    told: list[PromptError] = []
    for line, problem in placed[:_MOST_TOLD]:
        at = "" if line is None else f":{line}"
        again = bool(told) and problem.hint == placed[len(told) - 1][1].hint
        told.append(PromptError(f"{where}{at}: {_said(problem, fields)}", "" if again else problem.hint))
    if more := len(placed) - len(told):
        told.append(PromptError(f"{where}: and {more} more problem{'s' if more > 1 else ''}"))
    return PromptError(told[0].message, told[0].hint, told[1:])


def _said(problem: Problem, fields: Mapping[str, Any]) -> str:
    """Return a problem with its stage and its key: "stage 'reply', ask: unknown placeholder {feelings}"."""
    place = problem.place
    if place[:1] == ("stages",) and len(place) > 1:
        name = value_at(fields, (*place[:2], "name"))
        number = place[1] + 1 if isinstance(place[1], int) else 1
        stage = f"stage {name!r}" if isinstance(name, str) and is_stage_name(name) else f"stage {number}"
        key = shown_key(place[2:])
        return f"{stage}, {key}: {problem.message}" if key else f"{stage}: {problem.message}"
    return f"{shown_key(place)}: {problem.message}" if place else problem.message


def bundled_flows() -> dict[str, Path]:
    """Return the files of the flows that ship with localemp, by name."""
    files = sorted(resource("prompts", "flows").glob("*.toml"))
    return {path.stem: path for path in files if "." not in path.stem}


def form_for(path: Path, given: Sequence[str]) -> Path:
    """Return the file of a flow for given facts: "two-stage.given-emotion.toml" beside "two-stage.toml"."""
    return path.with_name(f"{path.stem}.given-{'-'.join(given)}.toml") if given else path
