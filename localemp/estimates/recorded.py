"""Keeps the estimates of several engines' runs, and sets what they took beside them."""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from localemp.estimates.estimate import Estimate, RowEstimate
from localemp.estimates.estimator import Estimator
from localemp.estimates.truth import Truth
from localemp.pipeline.batch import Batch

_ESTIMATE, _TRUTH = TypeAdapter(RowEstimate), TypeAdapter(Truth)


class Estimates:
    """The estimates of an experiment's models.

    Args:
        on_estimate: Called with each, before its engine starts.
    """

    def __init__(self, on_estimate: Callable[[Estimate], None]) -> None:
        self._on_estimate = on_estimate
        self._engines: list[tuple[Estimator, tuple[Batch, ...]]] = []

    def observe(self, batches: Sequence[Batch]) -> Estimator:
        """Return what sees the prompts of batches that share an engine."""
        estimator = Estimator(on_estimate=self._on_estimate)
        self._engines.append((estimator, tuple(batches)))
        return estimator

    def compared(self) -> list[tuple[Batch, RowEstimate, Truth]]:
        """Return estimate and truth of each batch that was answered."""
        return [
            (batch, row, Truth.of([batch.tally]))
            for estimator, batches in self._engines
            for batch in batches
            if batch.tally is not None and (row := estimator.row(batch)) is not None
        ]

    def totals(self) -> list[tuple[tuple[Batch, ...], RowEstimate, Truth]]:
        """Return the batches of each engine, with the estimate and the truth of all of them together."""
        totals = []
        for estimator, batches in self._engines:
            tallies = [batch.tally for batch in batches if batch.tally is not None]
            if estimator.estimate is not None and tallies:
                totals.append((batches, estimator.estimate.total, Truth.of(tallies)))
        return totals


def read_compared(estimate: Any, truth: Any) -> tuple[RowEstimate, Truth] | None:
    """Read an estimate and its truth as a manifest has them; None if they are missing or damaged."""
    try:
        return _ESTIMATE.validate_python(estimate), _TRUTH.validate_python(truth)
    except ValidationError:
        return None
