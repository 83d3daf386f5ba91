"""Perplexity of people's replies: how well a run's model, with the prompts of its strategy, predicts the references.

    PPL = exp(-sum of log probabilities / sum of tokens)              over all references, in tokens of the model
    BPB = -sum of log probabilities / (ln 2 * sum of UTF-8 bytes)     bits per byte, whatever the tokens are

It needs the run's model: `localemp score --ppl` computes the log probabilities and keeps them in the run's folder
(`runs/reference_logprobs.py`), and the metrics here read them.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from localemp.errors import OptionError, RunError
from localemp.metrics.base import Metric, Rows, Setting, Statistics, check_same_items
from localemp.metrics.replies import Replies
from localemp.runs.reference_logprobs import ReferenceLogprob, read_logprobs, text_sha256

OPTION = "--ppl"
_COMPUTE = f"`localemp score {OPTION}` computes it"
# Of the settings that the log probabilities were computed with: what decides whether two values are comparable. The
# model and its weights are what is measured; the run's manifest has them.
_SIGNED = ("tokenizer", "tokenizer_sha256", "template_sha256")


class KeptLogprobs:
    """What runs keep of their references, read once each."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[Mapping[str, Setting], dict[str, ReferenceLogprob], str]] = {}

    def of(self, replies: Replies) -> tuple[Mapping[str, Setting], dict[str, ReferenceLogprob]]:
        """Return how a run's log probabilities were computed, and those that belong to its references."""
        settings, found, _ = self._of_run(replies)
        kept = {}
        for item in replies.items:
            one = found.get(item.id)
            if one is not None and item.reference is not None and one.reference_sha256 == text_sha256(item.reference):
                kept[item.id] = one
        return settings, kept

    def damage(self, replies: Replies) -> str:
        """Return what is wrong with a run's journal; empty if it can be read or there is none."""
        return self._of_run(replies)[2]

    def _of_run(self, replies: Replies) -> tuple[Mapping[str, Setting], dict[str, ReferenceLogprob], str]:
        run = str(replies.source.get("run", ""))
        if run not in self._read:
            try:
                manifest, found = read_logprobs(Path(run)) if run else ({}, {})
                self._read[run] = _signed(manifest, replies.source.get("settings", {})), found, ""
            except RunError as error:
                self._read[run] = {}, {}, error.message
        return self._read[run]


class Perplexity(Metric):
    """The perplexity of the references, or their bits per byte.

    Args:
        name: "PPL" or "BPB".
        kept: What runs keep.
    """

    higher_is_better = False

    def __init__(self, name: str, kept: KeptLogprobs) -> None:
        self.name, self._kept = name, kept
        self.hidden = name == "BPB"
        self.decimals = 3 if self.hidden else 2
        self.bounds = (0.0 if self.hidden else 1.0, math.inf)

    def settings(self) -> Mapping[str, Setting]:
        """Return what is the same for all runs."""
        per = "UTF-8 byte" if self.hidden else "token"
        return {"of": "references", "per": per, "end of turn": "left out"}

    def settings_of(self, replies: Replies) -> Mapping[str, Setting]:
        """Return also the tokenizer, the templates, and the engine of a run."""
        return {**self.settings(), **self._kept.of(replies)[0]}

    def missing(self, replies: Replies) -> str:
        """Return why a run has no perplexity: no references, no prompts, or it was not computed for all of them."""
        if without := replies.without_reference():
            return without
        if "run" not in replies.source:
            return "only runs have it: of replies from elsewhere, the prompts are not known"
        if damage := self._kept.damage(replies):
            return damage
        lacking = len(replies) - len(self._kept.of(replies)[1])
        if lacking == len(replies):
            return f"not computed; {_COMPUTE}"
        return f"not computed for {lacking:,} of {len(replies):,} dialogues; {_COMPUTE}" if lacking else ""

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return log probability and length of every reference under every system.

        Raises:
            OptionError: The systems answer different items, or PPL is asked of systems with different tokenizers.
        """
        check_same_items(systems)
        kept = [self._kept.of(system) for system in systems]
        if not self.hidden and len({settings.get("tokenizer sha256") for settings, _ in kept}) > 1:
            raise OptionError(
                "their tokenizers differ, and PPL is per token of each", "compare --metric BPB: bits per byte"
            )
        rows = [
            (found[item.id], item) for (_, found), system in zip(kept, systems, strict=True) for item in system.items
        ]
        logprobs = np.array([one.logprob for one, _ in rows], np.float64)
        if self.hidden:
            sizes = [len((item.reference or "").strip().encode("utf-8", "surrogatepass")) for _, item in rows]
            return _Ratio(logprobs / math.log(2), np.array(sizes, np.float64), exponential=False)
        return _Ratio(logprobs, np.array([one.tokens for one, _ in rows], np.float64), exponential=True)


class _Ratio(Statistics):
    """Minus the sum of log probabilities over the sum of lengths, or e to the power of that."""

    def __init__(self, logprobs: NDArray[np.float64], lengths: NDArray[np.float64], *, exponential: bool) -> None:
        self._logprobs, self._lengths, self._exponential = logprobs, lengths, exponential

    def value(self, rows: Rows) -> float:
        """Return the value of some rows together; NaN of no row."""
        length = float(self._lengths[rows].sum())
        return float(self._of(self._logprobs[rows].sum() / length)) if length else math.nan

    def each(self, rows: Rows) -> NDArray[np.float64]:
        """Return the value of each row alone."""
        return np.asarray(self._of(self._logprobs[rows] / self._lengths[rows]), np.float64)

    def _of(self, mean: NDArray[np.float64] | float) -> NDArray[np.float64] | float:
        with np.errstate(over="ignore"):  # of one reference alone it can be infinite
            return np.exp(-np.asarray(mean)) if self._exponential else -np.asarray(mean)


def _signed(manifest: Mapping[str, object], of_run: Mapping[str, object]) -> Mapping[str, Setting]:
    """Return what a signature says of a run's log probabilities; nothing if there are none."""
    if not manifest:
        return {}
    settings, sessions = manifest["settings"], manifest["sessions"]
    assert isinstance(settings, Mapping) and isinstance(sessions, Sequence)
    told: dict[str, Setting] = {name.replace("_", " "): _plain(settings.get(name)) for name in _SIGNED}
    told |= {"prompts": _plain(of_run.get("prompt_sha256")), "layout": _plain(of_run.get("layout"))}
    engine = _plain(settings.get("engine"))
    versions = dict.fromkeys(
        str(session[engine]) for session in sessions if isinstance(engine, str) and engine in session
    )
    return {**told, "engine": " ".join(filter(None, [str(engine or ""), ", ".join(versions)]))}


def _plain(value: object) -> Setting:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
