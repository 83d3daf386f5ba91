"""`localemp prompts list|export|check`: the files of prompts that ship with localemp, and those of your own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from localemp.errors import PromptError, UnknownNameError
from localemp.prompting.flow_files import bundled_flows, load_flow
from localemp.prompting.prompt_files import EXTENDS, load_prompt_file
from localemp.prompting.template import Template, bundled_variants, load_template
from localemp.studies.judging.prompts import JudgePrompts, bundled_prompts
from localemp.studies.questionnaire import Questionnaire, bundled_questionnaires, load_questionnaire
from localemp.utils.paths import StrPath, resource
from localemp.utils.toml_reader import TOMLError, load_toml


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of files.

    Attributes:
        name: In words.
        option: How a file of it is given.
        form: Schema of its keys; None for flows, which have a reader of their own.
        bundled: Those that ship with localemp, by name.
        load: Reads and validates one.
    """

    name: str
    option: str
    form: type[BaseModel] | None
    bundled: Callable[[], Mapping[str, Path]]
    load: Callable[[str], Any]


def _questionnaires() -> dict[str, Path]:
    return {"study": resource("prompts", "study.toml"), **bundled_questionnaires()}


_KINDS = (
    _Kind("prompt variant", "--variant", Template, bundled_variants, load_template),
    _Kind("flow", "--strategy", None, bundled_flows, lambda path: load_flow(Path(path))),
    _Kind("prompts for a judge", "study judge --prompts", JudgePrompts, bundled_prompts, JudgePrompts.read),
    _Kind("questionnaire", "study create --aspects", Questionnaire, _questionnaires, load_questionnaire),
)
# Keys that files of other kinds have, too.
_ANYWHERE = {"name", "description", "sha256"}


@dataclass(frozen=True, slots=True)
class ListedPrompts:
    """A file of prompts that ships with localemp.

    Attributes:
        name: The name for `prompts export`: "paper", "flows/coe-cbt".
        kind: "prompt variant", "flow", "prompts for a judge" or "questionnaire".
        option: The option that takes such a file.
        path: The file.
    """

    name: str
    kind: str
    option: str
    path: Path


@dataclass(frozen=True, slots=True)
class CheckedPrompts:
    """A valid file of prompts.

    Attributes:
        path: The file.
        kind: As in `ListedPrompts`.
        option: The option that takes it.
        sha256: The hash that manifests have.
        extends: The name of the file whose keys it changes; empty if it stands alone.
        changes: What it changes, by key: the text of the other file (None if it has none), and its own.
    """

    path: Path
    kind: str
    option: str
    sha256: str
    extends: str
    changes: Mapping[str, tuple[Any, Any]]


def list_prompts() -> list[ListedPrompts]:
    """Return the files of prompts that ship with localemp."""
    top = resource("prompts")
    return [
        ListedPrompts(str(path.relative_to(top).with_suffix("")), kind.name, kind.option, path)
        for kind in _KINDS
        for path in kind.bundled().values()
    ]


def export_prompts(name: str) -> bytes:
    """Return a file of prompts that ships with localemp, comments included, to be changed.

    Args:
        name: One of `list_prompts`; a flow's, a judge's or a questionnaire's also without its folder.

    Raises:
        UnknownNameError: There is none of this name, or several.
    """
    listed = list_prompts()
    found = [each for each in listed if each.name == name] or [each for each in listed if each.path.stem == name]
    if len(found) != 1:
        why = "several have it" if found else ""
        raise UnknownNameError("prompts", name, [each.name for each in found or listed], why=why)
    return found[0].path.read_bytes()


def check_prompts(path: StrPath) -> CheckedPrompts:
    """Read and validate a file of prompts of your own, of any kind.

    Raises:
        PromptError: The file cannot be read, is of no kind, or breaks a rule; names the key.
        UnknownNameError: What it extends does not exist.
    """
    path = Path(path)
    kind = _kind_of(path)
    checked = kind.load(str(path))
    if kind.form is None:
        return CheckedPrompts(path, kind.name, kind.option, checked.sha256, "", {})
    bundled = kind.bundled()
    found = load_prompt_file(path, path, kind.name, bundled)
    changes: dict[str, tuple[Any, Any]] = {}
    if found.base is not None:
        base = load_prompt_file(found.base, path, kind.name, bundled).fields
        changes = {key: (_at(base, key), _at(found.fields, key)) for key in found.changes}
    return CheckedPrompts(path, kind.name, kind.option, checked.sha256, found.base.stem if found.base else "", changes)


def _kind_of(path: Path) -> _Kind:
    """Return the kind that knows most of a file's keys."""
    try:
        fields, _ = load_toml(path)
    except FileNotFoundError as error:
        raise PromptError(
            f"{path}: no such file", "`localemp prompts export paper` prints one to begin with"
        ) from error
    except OSError as error:
        raise PromptError(f"{path}: cannot be read: {error.strerror}") from error
    except TOMLError as error:
        raise PromptError(f"{path}: {error}", "`localemp prompts export paper` prints a valid file") from error

    def known(kind: _Kind) -> int:
        if kind.form is None:
            return len(fields) if "stages" in fields else 0
        own = fields.keys() & kind.form.model_fields.keys() - _ANYWHERE
        return 2 * len(own) + (str(fields.get(EXTENDS)) in kind.bundled())

    best = max(_KINDS, key=known)
    if not known(best) and EXTENDS not in fields:
        kinds = ", ".join(kind.name for kind in _KINDS)
        raise PromptError(f"{path}: none of its keys belongs to a file of prompts", f"known kinds: {kinds}")
    return best


def _at(fields: Mapping[str, Any], key: str) -> Any:
    value: Any = fields
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
