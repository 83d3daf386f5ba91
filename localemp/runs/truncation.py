"""How many replies of a run were truncated: ended by the limit of tokens, and not by the model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from localemp.engines.base import TRUNCATED
from localemp.runs.journal import read_manifest
from localemp.runs.run import read_lines
from localemp.strategies.trimming import ends_whole
from localemp.utils.formatting import percent, share

# A profile's own fields of requests, which take precedence over --max-tokens.
_FIELDS = ("max_tokens", "max_completion_tokens")
UNKNOWN = "the most tokens"


@dataclass(frozen=True, slots=True)
class Truncation:
    """The truncated replies of a run.

    Attributes:
        replies: Replies of which the line says why they ended; those of old runs may not.
        truncated: Those of them that the limit of tokens ended.
        limit: What limited them, in words: "--max-tokens 128".
        trimmed: Whether they are cut at their last whole sentence.
        no_sentence: Those of them that have no whole sentence, and are as they were.
    """

    replies: int = 0
    truncated: int = 0
    limit: str = ""
    trimmed: bool = False
    no_sentence: int = 0

    @property
    def share(self) -> float | None:
        """The share of truncated replies, from 0 to 1; None if nothing is known."""
        return self.truncated / self.replies if self.replies else None

    @property
    def line(self) -> str:
        """The share in a line; empty if no reply is known to be truncated."""
        if not self.truncated:
            return ""
        how_many = share(self.truncated, self.replies, "reply", "replies")
        line = f"truncated at {self.limit}: {how_many} ({percent(self.truncated, self.replies)})"
        if not self.trimmed:
            return line
        rest = f"; those without one are left as they were: {self.no_sentence:,}" if self.no_sentence else ""
        return f"{line}, cut at their last whole sentence{rest}"

    @property
    def hint(self) -> str:
        """What to do about it; empty if they are cut where a reader expects it."""
        if self.trimmed or not self.truncated:
            return ""
        larger = "raise --max-tokens" if "--max-tokens" in self.limit else "raise the limit"
        return f"{larger}, or cut such replies at their last whole sentence: --trim-to-sentence"

    @property
    def note(self) -> str:
        """The line with what to do; empty if no reply is known to be truncated."""
        return "; ".join(filter(None, [self.line, self.hint]))


def truncation_of(records: Iterable[Mapping[str, Any]], settings: Mapping[str, Any]) -> Truncation:
    """Count the truncated replies.

    Args:
        records: Lines of a run, one for each dialogue.
        settings: The run's settings.
    """
    return count_truncated(map(ending_of, records), settings)


def read_truncation(folder: Path) -> Truncation:
    """Count the truncated replies of a run.

    Raises:
        RunError: The manifest or a line is damaged.
    """
    endings = {record["id"]: ending_of(record) for _, record in read_lines(folder)}
    return count_truncated(endings.values(), read_manifest(folder)["settings"])


class Ending(NamedTuple):
    """How a reply ended.

    Attributes:
        truncated: Whether the limit of tokens ended it.
        max_tokens: That limit, if the stage has one of its own.
        whole: Whether it ends with a whole sentence all the same.
    """

    truncated: bool
    max_tokens: int | None = None
    whole: bool = True


def ending_of(record: Mapping[str, Any]) -> Ending | None:
    """Return how the reply of a line ended; None without a reply, or if the line does not say."""
    if (reason := record.get("finish_reason")) is None or "reply" not in record:
        return None
    if reason != TRUNCATED:
        return Ending(False)
    last = (record.get("stages") or [{}])[-1]
    return Ending(True, last.get("sampling", {}).get("max_tokens"), ends_whole(record["reply"]))


def count_truncated(endings: Iterable[Ending | None], settings: Mapping[str, Any]) -> Truncation:
    """Do the same as `truncation_of` with what is known of each line."""
    known = [each for each in endings if each is not None]
    truncated = [each for each in known if each.truncated]
    limits = {_limit(each, settings) for each in truncated}
    limit = limits.pop() if len(limits) == 1 else UNKNOWN
    trimmed = bool(settings.get("trim_to_sentence"))
    no_sentence = sum(not each.whole for each in truncated) if trimmed else 0
    return Truncation(len(known), len(truncated), limit, trimmed, no_sentence)


def _limit(ending: Ending, settings: Mapping[str, Any]) -> str:
    """Return what limited a reply: the flow's file for its stage, the profile, or the run's sampling parameters."""
    if ending.max_tokens is not None:
        return f"max_tokens {ending.max_tokens} of the flow's last stage"
    request = settings.get("extra_body") or {}
    if (field := next((name for name in _FIELDS if name in request), None)) is not None:
        return f"the profile's {field} {request[field]}"
    most = (settings.get("sampling") or {}).get("max_tokens")
    return UNKNOWN if most is None else f"--max-tokens {most}"
