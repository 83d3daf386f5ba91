"""A run: a folder with all settings to repeat it, and one line for each finished reply.

    manifest.json     settings, hashes, versions, and a session for every start or resume
    responses.jsonl   append-only; one JSON object per line: a reply with its stages, or an error

`journal.py` has the general format.
"""

import hashlib
import json
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from localemp.errors import LocalempError
from localemp.prompting.flow import MOST_STAGES
from localemp.runs import journal
from localemp.runs.bill import Bill, bill_of
from localemp.runs.journal import MANIFEST, Journal, read_manifest
from localemp.runs.order import in_order
from localemp.strategies.base import Draft, Response, Stage
from localemp.utils.config_diff import former_settings, without_former_code
from localemp.utils.files import is_file, is_folder
from localemp.utils.plain_errors import in_words
from localemp.utils.redaction import redact_settings, redact_text
from localemp.utils.validation import Lenient

__all__ = [
    "MANIFEST", "RESPONSES", "Journal", "Run", "count_lines", "default_folder", "failure_record", "list_runs",
    "read_bill", "read_lines", "read_manifest", "read_records", "response_record", "settings_hash", "thinking_tokens",
]  # fmt: skip

RESPONSES = "responses.jsonl"

_Tokens = Annotated[int, Field(ge=0, lt=2**53)]
_Number = Annotated[float, Field(allow_inf_nan=False)]


class _Message(Lenient):
    role: str
    content: str


def _label_or_object(value: Any) -> Any:
    if value is None or isinstance(value, dict) or (isinstance(value, str) and len(value) <= 100):
        return value
    raise ValueError("it is neither a label nor an object")


class _Stage(Lenient):
    name: str
    text: str
    messages: list[_Message] = Field(default_factory=list)
    finish_reason: str | None = None
    prompt_tokens: _Tokens | None = None
    completion_tokens: _Tokens | None = None
    cached_tokens: _Tokens | None = None
    seconds: _Number = 0.0
    cost: _Number | None = None
    notes: list[str] = Field(default_factory=list)
    asked_by: str = ""
    thinking_tokens: _Tokens | None = None
    tier: str = ""
    response_id: str = ""
    exemplars_dropped: _Tokens = 0
    answer: Annotated[Any, AfterValidator(_label_or_object)] = None
    sampling: dict[str, Any] = Field(default_factory=dict)


class _Exemplar(Lenient):
    id: str
    score: _Number | None = None


class _Dropped(Lenient):
    text: str
    reason: str = ""


class _Error(Lenient):
    type: str
    message: str
    hint: str = ""


class _Paid(Lenient):
    cost: _Number | None = None


class _Unanswered(Lenient):
    requests: _Tokens
    dollars_at_most: _Number = 0.0


class _Reply(Lenient):
    """A line with a reply; fields with defaults are missing in older versions."""

    reply: str
    position: _Tokens | None = None
    raw: str = ""
    finish_reason: str | None = None
    turns: list[str] = Field(default_factory=list)
    emotion: str | None = None
    situation: str | None = None
    reference: str | None = None
    support_strategies: list[str] = Field(default_factory=list)
    stages: list[_Stage] = Field(default_factory=list)
    exemplars: list[_Exemplar] = Field(default_factory=list)
    inferences: dict[str, list[str]] | None = None
    inferences_dropped: dict[str, list[_Dropped]] = Field(default_factory=dict)
    skipped: Annotated[list[str], Field(max_length=MOST_STAGES)] = Field(default_factory=list)
    paid: list[_Paid] = Field(default_factory=list)
    unanswered: _Unanswered | None = None


class _Failure(Lenient):
    error: _Error
    position: _Tokens | None = None
    paid: list[_Paid] = Field(default_factory=list)
    unanswered: _Unanswered | None = None


# Fields that most lines of today lack, too: they are not added where lines are read.
_ONLY_IF_SET = {
    "answer",
    "asked_by",
    "position",
    "sampling",
    "skipped",
    "support_strategies",
    "thinking_tokens",
    "tier",
    "response_id",
    "paid",
    "unanswered",
}


def _defaults(form: type[BaseModel]) -> dict[str, Any]:
    fields = form.model_fields.items()
    return {
        name: field.get_default(call_default_factory=True)
        for name, field in fields
        if not field.is_required() and name not in _ONLY_IF_SET
    }


# Defaults of a line and its parts.
_REPLY_DEFAULTS = _defaults(_Reply)
_DROPPED_DEFAULTS = _defaults(_Dropped)
_PART_DEFAULTS = {"stages": _defaults(_Stage), "exemplars": _defaults(_Exemplar)}


def check_response(record: dict[str, Any]) -> None:
    """Validate a line of `responses.jsonl`, and add fields that older versions lack.

    Raises:
        ValueError: The line is invalid; names the key.
    """
    if "error" in record:
        _Failure.model_validate(record)
        if "reply" in record:
            raise ValueError("it has both a reply and an error")
        return
    _Reply.model_validate(record)
    _add(record, _REPLY_DEFAULTS)
    for name, defaults in _PART_DEFAULTS.items():
        for part in record[name]:
            _add(part, defaults)
    for dropped in record["inferences_dropped"].values():
        for part in dropped:
            _add(part, _DROPPED_DEFAULTS)


def _add(part: dict[str, Any], defaults: dict[str, Any]) -> None:
    for name, default in defaults.items():
        part.setdefault(name, default)


class Run(Journal):
    """A run folder that is open for writing; ids are those of dialogues.

    Attributes:
        positions: The position of each dialogue in the data, which its line keeps.
    """

    lines = RESPONSES
    option = "--out"
    positions: Mapping[str, int] = {}

    @staticmethod
    def check_line(record: dict[str, Any]) -> None:
        """Validate a line; see `check_response`."""
        check_response(record)

    def append(self, record: Mapping[str, Any]) -> None:
        """Append a line with its position; as `Journal.append` does."""
        name = record["id"]
        position = {"position": self.positions[name]} if name in self.positions else {}
        super().append({"id": name, **position, **record})


def response_record(response: Response) -> dict[str, Any]:
    """Return a response as a line of `responses.jsonl`."""
    return {
        "id": response.dialogue.id,
        "reply": response.reply,
        "raw": response.raw,
        "finish_reason": response.finish_reason,
        **draft_record(response),
        "stages": [stage_record(stage) for stage in response.stages],
        **({"skipped": list(response.skipped)} if response.skipped else {}),
    }


def draft_record(draft: Draft | Response) -> dict[str, Any]:
    """Return the part of a line that is known before the first stage: the dialogue, and what was looked up."""
    dialogue = draft.dialogue
    strategies = {"support_strategies": list(dialogue.support_strategies)} if dialogue.support_strategies else {}
    return {
        "id": dialogue.id,
        "turns": list(dialogue.turns),
        "emotion": dialogue.emotion,
        "situation": dialogue.situation,
        "reference": dialogue.reference,
        **strategies,
        "exemplars": [{"id": shown.dialogue.id, "score": shown.score} for shown in draft.exemplars],
        "inferences": None if draft.inferences is None else dict(draft.inferences),
        "inferences_dropped": {name: [asdict(one) for one in each] for name, each in draft.dropped.items()},
    }


def thinking_tokens(stage: Mapping[str, Any]) -> int | None:
    """Return how many tokens of a stage were thinking; None if it thought and they were not counted."""
    counted: int | None = stage.get("thinking_tokens")
    return 0 if counted is None and not stage.get("thinking") else counted


def failure_record(name: str, error: Exception) -> dict[str, Any]:
    """Return a failure as a line, with secrets masked."""
    message = in_words(error) if isinstance(error, OSError) else str(error)
    record = {"type": type(error).__name__, "message": redact_text(message)}
    if isinstance(error, LocalempError) and error.hint:
        record["hint"] = redact_text(error.hint)
    return {"id": name, "error": record}


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Read the newest line of every dialogue, in the data's order (`in_order`), without a truncated end.

    Args:
        folder: The folder of the run.

    Raises:
        RunError: A line is damaged; says which.
    """
    return in_order(folder, read_lines(folder))


def read_lines(folder: Path, only: Container[int] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the lines of a run with their numbers, from 1, as they were written, without a truncated end.

    Args:
        folder: The folder of the run.
        only: Numbers of the lines that are wanted; None for all.

    Raises:
        RunError: As in `read_records`.
    """
    return journal.read_lines(folder / RESPONSES, check_response, only)


def count_lines(folder: Path) -> tuple[int, int]:
    """Return how many dialogues of a run have a reply, and how many only an error.

    Raises:
        RunError: As in `read_records`.
    """
    answered = list(journal.outcomes(folder / RESPONSES).values())
    return answered.count(True), answered.count(False)


def read_bill(folder: Path) -> Bill:
    """Return what a run has cost over all sessions; nothing for a folder without a run.

    Raises:
        RunError: The manifest or a line is damaged.
    """
    if not is_file(folder / MANIFEST):
        return Bill()
    return bill_of((record for _, record in read_lines(folder)), read_manifest(folder)["sessions"])


def default_folder(settings: dict[str, Any]) -> Path:
    """Return `runs/MODEL-STRATEGY-HASH`: the same settings give the same folder, so that a rerun resumes."""
    model = re.sub(r"[^\w.]+", "-", model_name(settings))
    folders = []
    # Secrets do not distinguish runs, but older versions hashed them, too, and had other hashes of the prompts.
    former = former_settings(settings)
    for named_by in (redact_settings(settings), settings, redact_settings(former), former):
        folders.append(Path("runs") / f"{model}-{settings['strategy']}-{_digest(named_by)}")
    return next(filter(is_folder, folders), folders[0])


def model_name(settings: Mapping[str, Any]) -> str:
    """Return the model of a run's settings, with its adapter: "llama", "llama@mine"."""
    adapter = settings.get("adapter")
    return f"{settings.get('model', '')}@{adapter}" if adapter else str(settings.get("model", ""))


def settings_hash(settings: dict[str, Any]) -> str:
    """Return what names a run of these settings: the first 8 digits of their SHA-256, secrets masked."""
    return _digest(redact_settings(settings))


def list_runs(parent: Path) -> Iterator[Path]:
    """Yield the run folders directly in a folder, by name."""
    yield from sorted(path.parent for path in parent.glob(f"*/{MANIFEST}"))


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(without_former_code(settings), sort_keys=True).encode()).hexdigest()[:8]


def stage_record(stage: Stage) -> dict[str, Any]:
    """Return a stage as a line of `responses.jsonl` has it."""
    return {
        "name": stage.name,
        "messages": [asdict(message) for message in stage.messages],
        **stage.completion.record(),
        "exemplars_dropped": stage.dropped,
        **({} if stage.answer is None else {"answer": stage.answer}),
        **({"sampling": dict(stage.sampling)} if stage.sampling else {}),
    }
