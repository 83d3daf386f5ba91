"""All scores of a system, and the file that keeps them.

    scores = score_all(replies_of_run(run), metrics())
    write_scores(scores_path(run), scores)

Systems are scored one after another, so that memory does not grow with their number; what the references cost (tokens,
embeddings) is kept from one to the next.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from localemp.errors import DataError, LocalempError, OptionError
from localemp.metrics.base import Metric, Score, Signature
from localemp.metrics.pairing import pair
from localemp.metrics.registry import BERTSCORE, EMBSIM, is_hidden, metric_entries, on_request
from localemp.metrics.registry import metrics as all_metrics
from localemp.metrics.replies import Replies
from localemp.utils.files import is_folder, write_errors, write_json
from localemp.utils.json_reader import JSONError, load_json
from localemp.utils.plain_errors import plain_text
from localemp.utils.plugins import error_line, plugin_of
from localemp.utils.redaction import redact_settings
from localemp.utils.text import one_line
from localemp.utils.validation import format_validation_error

Finite = Annotated[float, Field(allow_inf_nan=False)]
PAPERS_BERT = ("roberta-large", 17)
SCORES = "scores.json"
LOWER_CASED = "replies in lower case: B-2 lower and B-4 lower are the fair columns"


@dataclass(frozen=True)
class Scored:
    """All scores of one system.

    Attributes:
        name: The system's name in tables.
        scores: In the order of `metric_entries`.
        notes: What a reader needs to know.
        source: The origin of the replies.
        sha256: `Replies.sha256`, which shows whether the scores are up to date.
    """

    name: str
    scores: tuple[Score, ...]
    notes: tuple[str, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""

    def score(self, name: str) -> Score | None:
        """Return a score by name."""
        return next((score for score in self.scores if score.name == name), None)

    def as_dict(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        return {
            "name": self.name,
            "source": self.source,
            "replies_sha256": self.sha256,
            "notes": list(self.notes),
            "scores": [score.as_dict() for score in self.scores],
        }


def score_all(replies: Replies, metrics: Iterable[Metric] | None = None) -> Scored:
    """Score the replies of one system.

    Args:
        replies: The replies of one system.
        metrics: The metrics, see `localemp.metrics.registry.metrics`; by default all that need no model. Metrics whose
            model is not available have a reason in place of a value.
    """
    chosen = all_metrics(with_models=False, also=on_request([replies])) if metrics is None else metrics
    scores = in_order(_score_or_reason(each, replies) for each in chosen)
    has_bleu = any(score.name in ("B-2", "B-4") for score in scores)
    lower = (LOWER_CASED,) if has_bleu and is_lower_cased(replies) else ()
    notes = (*replies.notes, *lower, *other_bertscore(scores), *stand_in(scores), *context_of_people(scores))
    return Scored(replies.name, scores, notes, dict(replies.source), replies.sha256)


def in_order(scores: Iterable[Score]) -> tuple[Score, ...]:
    """Return scores in the order of `metric_entries`, then those of metrics that are not registered now."""
    place = {name: number for number, name in enumerate(metric_entries())}
    return tuple(sorted(scores, key=lambda score: place.get(score.name, len(place))))


def other_bertscore(scores: Iterable[Score]) -> list[str]:
    """Return a note if BERTScore used another model than the paper's, which has another scale."""
    for score in scores:
        made = dict(score.signature.settings)
        if score.name in BERTSCORE and score.value is not None and (made["model"], made["layer"]) != PAPERS_BERT:
            theirs = f"{PAPERS_BERT[0]}, layer {PAPERS_BERT[1]}"
            return [f"BERTScore uses {made['model']}, layer {made['layer']}: not comparable with {theirs}"]
    return []


def stand_in(scores: Iterable[Score]) -> list[str]:
    """Return a note if EmbSim stands in for BERTScore, whose model could not be had."""
    found = {score.name: score for score in scores}
    theirs, ours = found.get("F_BERT"), found.get(EMBSIM)
    # A score whose model could not be had has no settings.
    if ours is None or ours.value is None or theirs is None or theirs.value is not None or theirs.signature.settings:
        return []
    encoder = dict(ours.signature.settings)["encoder"]
    return [
        f"{EMBSIM} stands in for BERTScore, whose model could not be had: the cosine of sentence embeddings by "
        f"{encoder}, x100. It is another measure on another scale"
    ]


def context_of_people(scores: Iterable[Score]) -> list[str]:
    """Return a note of what people's replies have in the column "Context", which says nothing by itself."""
    return [
        f"people's replies to these dialogues have a Context of {score.value:.2f}"
        for score in scores
        if score.name == "Context ref" and score.value is not None
    ]


def is_lower_cased(replies: Replies) -> bool:
    """Return whether fewer than one reply in a hundred has a capital letter, as in the output of many baselines."""
    capital = sum(text != text.lower() for text in replies.texts)
    return any(replies.texts) and capital < max(1, len(replies) / 100)


def on_common(systems: Sequence[Replies]) -> list[Replies]:
    """Return all systems restricted to the dialogues that every one of them answered, in the first one's order.

    Raises:
        OptionError: There is none.
    """
    first, *others = systems
    common = set(first.ids).intersection(*(pair(first, other).a.ids for other in others))
    if not common:
        raise OptionError("no dialogue was answered by all systems", "leave one out, or omit --common")
    place = {name: number for number, name in enumerate(first.ids)}
    narrowed = []
    for system in systems:
        items = tuple(sorted((item for item in system.items if item.id in common), key=lambda item: place[item.id]))
        note = f"scored on the {len(common):,} dialogues that all systems answered, of its {len(system):,}"
        notes = (*system.notes, note) if len(common) < len(system) else system.notes
        narrowed.append(replace(system, items=items, notes=notes))
    return narrowed


def _score_or_reason(metric: Metric, replies: Replies) -> Score:
    try:
        score = metric.score(replies)
        json.dumps(score.as_dict())  # a plug-in may have settings that no file can hold
        return score
    except LocalempError as error:
        reason = f"{error.message} ({error.hint})" if error.hint else error.message
        # Without the model, even what the signature would say of it is not known.
        signature = Signature.of(metric.name.lower(), replies, {})
        return Score(metric.name, None, signature, reason, metric.hidden)
    except Exception as error:
        if (plugin := plugin_of("metric", metric.name)) is None:
            raise
        reason = f"the plug-in {plugin.name} of {plugin.package} {plugin.version}: {error_line(error)}"
        return Score(metric.name, None, Signature.of(metric.name.lower(), replies, {}), reason, metric.hidden)


def scores_path(source: Path, hypothesis: str = "") -> Path:
    """Return the path of the scores of a run (a folder), or of an imported file or one of its hypotheses."""
    if is_folder(source):
        return source / SCORES
    which = re.sub(r"[^\w+-]+", "-", hypothesis)
    return source.with_name(".".join(filter(None, [source.name, which, SCORES])))


def write_scores(path: Path, scored: Scored) -> None:
    """Write scores as JSON, atomically.

    Earlier scores of the same replies that are not available now, such as BERTScore on a machine without its model, are
    kept with their signatures.

    Raises:
        DataError: The file cannot be written.
    """
    created = datetime.now(UTC).isoformat(timespec="seconds")
    scored = replace(scored, scores=_with_earlier(path, scored))
    told = scored.as_dict() | {"source": redact_settings(scored.source)}
    kept = {"format": 1, "created": created, **told, "versions": _versions()}
    with write_errors(partial(DataError, path), "choose another --out"):
        write_json(path, kept)


def read_scores(path: Path) -> Scored:
    """Read scores from a file.

    Raises:
        DataError: There is no such file, or it holds no scores.
    """
    try:
        kept = load_json(path, storable=True)
        if isinstance(kept, dict) and kept.get("format", 1) != 1:
            raise DataError(
                path, f"scores of format {one_line(str(kept['format']))}, known: 1", "score again with this localemp"
            )
        found = _KeptScores.model_validate(kept)
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror or error}", "`localemp score` writes it") from error
    except (JSONError, ValidationError) as error:
        what = format_validation_error(error) if isinstance(error, ValidationError) else str(error)
        hint = (
            "`localemp score` writes scores: scores.json in a run's folder, FILE.scores.json next to an imported FILE"
        )
        raise DataError(path, f"holds no scores: {what}", hint) from error
    scores = tuple(_score(each) for each in found.scores)
    return Scored(found.name, scores, tuple(found.notes), redact_settings(found.source), found.replies_sha256)


def _with_earlier(path: Path, scored: Scored) -> tuple[Score, ...]:
    try:
        before = read_scores(path)
    except DataError:
        return scored.scores
    if before.sha256 != scored.sha256:
        return scored.scores
    scores = {score.name: score for score in scored.scores}
    for score in before.scores:
        now = scores.get(score.name)
        if score.value is not None and (now is None or now.value is None):
            scores[score.name] = score
    return in_order(scores.values())


class _Kept(BaseModel):
    model_config = ConfigDict(strict=True)


class _KeptSignature(_Kept):
    """A kept signature: all other keys are its settings."""

    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[str, str | int | Finite | bool | None]

    metric: str
    items: Annotated[int, Field(ge=0, lt=2**53)]
    items_sha256: str


class _KeptScore(_Kept):
    name: str
    value: Finite | None
    signature: _KeptSignature
    reason: str = ""


class _KeptScores(_Kept):
    format: Literal[1]
    name: str
    scores: list[_KeptScore]
    notes: list[str]
    source: dict[str, Any]
    replies_sha256: str = ""


def _score(kept: _KeptScore) -> Score:
    told = kept.signature
    settings = tuple((told.__pydantic_extra__ or {}).items())
    signature = Signature(told.metric, settings, told.items, told.items_sha256)
    # Older versions kept what the operating system said.
    return Score(kept.name, kept.value, signature, plain_text(kept.reason), is_hidden(kept.name))


def _versions() -> dict[str, str]:
    found = {}
    for name in ("localemp", "sacrebleu", "torch", "transformers", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
