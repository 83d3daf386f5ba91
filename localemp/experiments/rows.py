"""The rows of an experiment: one run each."""

from dataclasses import dataclass, field
from pathlib import Path

from localemp.data.subset import Subset
from localemp.pipeline.batch import ALL
from localemp.pipeline.config import RunConfig
from localemp.pipeline.generate import Tally
from localemp.runs.bill import Bill
from localemp.runs.truncation import Truncation


@dataclass(frozen=True, slots=True)
class ExperimentRow:
    """A row of an experiment for one model.

    Attributes:
        name: Its name in tables, unique in the experiment: "5-shot", or "llama 5-shot" if there are several models.
        row: Its name in the plan, the same for all models.
        model: The model, as given.
        config: The configuration of its run.
        split: Of the data: "train", "valid" or "test".
        subset: Which dialogues of the split.
    """

    name: str
    row: str
    model: str
    config: RunConfig
    split: str = "test"
    subset: Subset = ALL


@dataclass(frozen=True, slots=True)
class RowResult:
    """A row after `experiment`.

    Attributes:
        row: The row.
        folder: Its run; None if there is none.
        dialogues: Number of dialogues requested.
        answered: Number of those that have a reply now.
        failed: Number of those that have an error instead.
        tally: Totals of this call; None if the row was not asked about anything.
        shared: Calls of this call that an identical request of another row answered.
        error: What stopped the row; empty if nothing did.
        hint: What to do about the error.
        retry: The command, or the call, that answers the rest; empty if nothing is missing.
        bill: What its run has cost over all sessions.
        truncation: How many replies of its run were truncated.
    """

    row: ExperimentRow
    folder: Path | None
    dialogues: int
    answered: int
    failed: int
    tally: Tally | None = None
    shared: int = 0
    error: str = ""
    hint: str = ""
    retry: str = ""
    bill: Bill = field(default_factory=Bill)
    truncation: Truncation = field(default_factory=Truncation)

    @property
    def complete(self) -> bool:
        """Whether every dialogue has a reply."""
        return self.answered == self.dialogues > 0 and not self.error
