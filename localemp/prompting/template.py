"""The unified prompt template (section 3.2) as data: a validated TOML file in `prompts/`, or the user's own.

`paper` is the default, `released` is the authors' scripts; `render.py` renders messages.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from localemp.commonsense.selection import Select
from localemp.errors import PromptError, UnknownNameError
from localemp.models.atomic import EventKind
from localemp.utils.files import is_file
from localemp.utils.paths import StrPath, resource
from localemp.utils.toml_reader import TOMLError, load_toml
from localemp.utils.validation import format_validation_error

VARIANTS = ("paper", "released")

P = TypeVar("P", bound=BaseModel)


def placeholders(*names: str, optional: Collection[str] = ()) -> AfterValidator:
    """Return a validator that a text has these `{placeholders}`, and no others but the optional ones."""

    def check(text: str) -> str:
        found: set[str] = set()
        for _, name, form, conversion in Formatter().parse(text):
            if form or conversion:  # format specifications could produce a text of any length
                raise ValueError(f"{{{name}}} must be a plain name, without ! and :")
            if name is not None:
                found.add(name)
        if missing := set(names) - found:
            raise ValueError(f"the placeholder {{{sorted(missing)[0]}}} is missing")
        if unknown := found - {*names, *optional}:
            known = ", ".join([*names, *optional]) or "none"
            raise ValueError(f"unknown placeholder {{{sorted(unknown)[0]}}}; known: {known}")
        return text

    return AfterValidator(check)


TextLine = Annotated[str, placeholders("text")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Lines(_Strict):
    """Formats of a turn of the speaker and of the listener."""

    speaker: TextLine
    listener: TextLine

    def write(self, turns: Sequence[str]) -> list[str]:
        """Return one line per turn, the speaker's first."""
        return [(self.listener if i % 2 else self.speaker).format(text=turn) for i, turn in enumerate(turns)]


class Task(_Strict):
    """Task definition and guideline instruction."""

    definition: str
    guideline: str
    joint: str
    joint_before_exemplars: str


class FixedExemplars(_Strict):
    """Fixed exemplars for a pool of a certain size, independent of the seed."""

    pool_size: int
    indices: Mapping[int, tuple[int, ...]]


class Exemplars(_Strict):
    """Choice and format of exemplars."""

    unit: Literal["dialogue", "instance"]
    similarity: Literal["context", "context-and-reply"]
    heading_one: str
    heading_many: str
    title_one: str
    title_many: Annotated[str, placeholders("number")]
    separator: str
    end: str
    chat: Lines
    transcript: Lines
    fixed: FixedExemplars | None = None


class Context(_Strict):
    """The dialogue in the transcript layout."""

    heading: str
    heading_after_exemplars: str
    lines: Lines
    cue: str
    stop: tuple[str, ...]


class TwoStageTexts(_Strict):
    """Texts of two-stage interactive generation (section 3.3.2), which flows can show (`prompting/flow.py`).

    `cue` is what the answer of any stage but the reply follows in the transcript layout.
    """

    list_labels: bool
    labels: Annotated[str, placeholders("emotions")]
    ask_both: Annotated[str, placeholders("labels")]
    ask_emotion: Annotated[str, placeholders("labels")]
    ask_situation: Annotated[str, placeholders()]
    given_emotion: Annotated[str, placeholders("emotion")]
    given_situation: Annotated[str, placeholders("situation")]
    reply: str
    cue: str


class KnowledgeTexts(_Strict):
    """Commonsense inferences (section 3.3.3). `definitions` and `labels` name the relations, in order.

    `event` is COMET's event: the whole context, or the last utterance in the form of the released code.
    """

    event: EventKind
    introduction: str
    relation: Annotated[str, placeholders("label", "inferences")]
    between: str
    end: str
    definitions: Mapping[str, str]
    labels: Mapping[str, str]
    select: Select


class Template(_Strict):
    """One prompt file.

    Attributes:
        sha256: SHA-256 of the file, for manifests.
    """

    name: str
    description: str
    task: Task
    exemplars: Exemplars
    context: Context
    two_stage: TwoStageTexts
    knowledge: KnowledgeTexts
    sha256: str = ""


def load_template(name: str) -> Template:
    """Read and validate a prompt file.

    Args:
        name: `paper`, `released`, or a path to a TOML file of the same form.

    Raises:
        UnknownNameError: The variant does not exist.
        PromptError: The file is missing or not valid TOML, or a key is unknown, missing or invalid; names the key.
    """
    if not name.endswith(".toml") and name not in VARIANTS:
        raise UnknownNameError("prompt variant", name, VARIANTS, "A path to a .toml file of your own works too")
    path = Path(name) if name.endswith(".toml") else resource("prompts", f"{name}.toml")
    return read_prompts(path, Template, resource("prompts", "paper.toml"))


def prompt_file(given: StrPath, kind: str, bundled: Mapping[str, Path]) -> Path:
    """Return the file that a name of a bundled one, or a path, stands for.

    Args:
        given: The name or the path; "./NAME" is always a path.
        kind: What the file holds, for the error.
        bundled: The files that ship with localemp, by name.

    Raises:
        UnknownNameError: It is a bare word, and neither the name of one nor a file.
    """
    name = str(given)
    if name in bundled:
        return bundled[name]
    path = Path(given)
    if path.name == name and not path.suffix and not is_file(path):
        raise UnknownNameError(kind, name, bundled, "It may also be a file")
    return path


def read_prompts(path: Path, form: type[P], example: Path) -> P:
    """Read and validate a TOML file of prompts.

    Args:
        path: The file.
        form: Schema of the file; its `sha256` is set to the hash of the file.
        example: A valid file, for error messages.

    Raises:
        PromptError: The file is missing or not valid TOML, or a key is unknown, missing or invalid; names the key.
    """
    try:
        fields, content = load_toml(path)
        return form.model_validate({**fields, "sha256": hashlib.sha256(content).hexdigest()})
    except FileNotFoundError as error:
        raise PromptError(f"{path}: no such file", f"give a file like {example}") from error
    except OSError as error:
        raise PromptError(f"{path}: cannot be read: {error.strerror}", f"give a file like {example}") from error
    except TOMLError as error:
        raise PromptError(f"{path}: {error}", f"compare with {example}") from error
    except ValidationError as error:
        raise PromptError(f"{path}: {format_validation_error(error)}", f"compare with {example}") from error
