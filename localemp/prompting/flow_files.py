"""Reads flows: the bundled ones, the user's own, and the forms of a flow for what is given."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from pydantic import ValidationError

from localemp.errors import PromptError
from localemp.prompting.flow import FlowForm, Stage
from localemp.prompting.flow_checks import problems_of
from localemp.utils.files import open_regular
from localemp.utils.paths import resource
from localemp.utils.toml_reader import LARGEST_FILE, TOMLError, parse_toml
from localemp.utils.validation import format_validation_error

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HINT = "docs/flows.md describes the form"


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
        PromptError: The file cannot be read, or is not a valid flow; names file, stage and key.
    """
    try:
        with open_regular(path) as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError as error:
        raise PromptError(f"{path}: no such file", "a flow is a TOML file; docs/flows.md describes the form") from error
    except OSError as error:
        raise PromptError(f"{path}: cannot be read: {error.strerror}", _HINT) from error
    return parse_flow(content, path.name.removesuffix(".toml").partition(".")[0], str(path))


def parse_flow(content: bytes, name: str, where: str) -> FlowFile:
    """Read and check the contents of a file.

    Args:
        content: The bytes.
        name: The name of the flow.
        where: The file, for errors.

    Raises:
        PromptError: It is not a valid flow; names stage and key.
    """
    if not _NAME.fullmatch(name):
        raise PromptError(f"{where}: {name[:60]!r} is not a name for a flow", "use letters, digits and hyphens")
    try:
        # As JSON, since pydantic is strict there, and still takes lists for tuples.
        form = FlowForm.model_validate_json(json.dumps(parse_toml(content), default=str))
    except TOMLError as error:
        raise PromptError(f"{where}: {error}", _HINT) from error
    except ValidationError as error:
        raise PromptError(f"{where}: {format_validation_error(error)}", _HINT) from error
    found = list(problems_of(form))
    if found:
        first = found[0]
        stage = "" if first.stage is None else f"stage {form.stages[first.stage].name!r}, "
        raise PromptError(f"{where}: {stage}{first.key}: {first.message}", first.hint)
    said = form.model_dump(mode="json", include={"stages"}, exclude_defaults=True, by_alias=True)
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return FlowFile(name, form.about, form.source, form.stages, digest, where)


def bundled_flows() -> dict[str, Path]:
    """Return the files of the flows that ship with localemp, by name."""
    files = sorted(resource("prompts", "flows").glob("*.toml"))
    return {path.stem: path for path in files if "." not in path.stem}


def form_for(path: Path, given: Sequence[str]) -> Path:
    """Return the file of a flow for given facts: "two-stage.given-emotion.toml" beside "two-stage.toml"."""
    return path.with_name(f"{path.stem}.given-{'-'.join(given)}.toml") if given else path
