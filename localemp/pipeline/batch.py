"""One run to be made: its dialogues, pipeline, settings and folder. `schedule.py` answers one or more of these."""

import logging
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from localemp.data.subset import Subset
from localemp.dialogue import Dialogue
from localemp.errors import LocalempError
from localemp.pipeline.generate import Tally
from localemp.pipeline.pipeline import Pipeline
from localemp.runs.run import Run, default_folder, read_bill
from localemp.utils.formatting import share
from localemp.utils.machine import machine, versions
from localemp.utils.redaction import shown_command

_log = logging.getLogger(__name__)

ALL = Subset()
"""All dialogues of a split."""


class Batch:
    """The dialogues of one run.

    Args:
        pipeline: Builds what the run needs.
        split: Of the data: "train", "valid" or "test".
        subset: Which dialogues of the split.
        folder: The run's folder; None for the default one of its settings.
        name: Its name among several, such as a row of an experiment.

    Attributes:
        facts: What the session in the manifest says besides, such as the experiment that this is a row of.
        settings: Everything that can change the replies, for the manifest.
        chosen: The dialogues to answer, in the order of the data.
        positions: The position of each in the data, by its id.
        run: The run, while it is open.
        pending: The dialogues that `open` found without a reply.
        tally: Totals of this call; None before the first answer.
        notes: Notes on how prompts were built, such as truncated dialogues.
        error: What stopped the batch.

    Raises:
        LocalempError: A setting is invalid, or a dialogue lacks something that the strategy needs.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        split: str = "test",
        subset: Subset = ALL,
        *,
        folder: str | PathLike[str] | None = None,
        name: str = "",
    ) -> None:
        if folder is not None:
            Run.check_place(Path(folder))
        dialogues = pipeline.dialogues(split)
        self.pipeline, self.name = pipeline, name
        self._subset, self._dialogues = subset, dialogues
        self.settings = pipeline.settings(dialogues, split) | subset.settings()
        self.folder = default_folder(self.settings) if folder is None else Path(folder)
        places = subset.positions(dialogues)
        self.chosen = [dialogues[place] for place in places]
        self.positions = {dialogue.id: place for dialogue, place in zip(self.chosen, places, strict=True)}
        for dialogue in self.chosen:
            pipeline.strategy.check(dialogue)
        self.facts: Mapping[str, Any] = {}
        self.run: Run | None = None
        self.pending: list[Dialogue] = []
        self.tally: Tally | None = None
        self.notes: tuple[str, ...] = ()
        self.error: LocalempError | None = None

    def open(self, retry_errors: bool = False) -> Run:
        """Open the run, and find the dialogues to answer now; logs how many are skipped, unless the batch has a name.

        Args:
            retry_errors: Whether to retry dialogues that failed before.

        Raises:
            RunError: The folder has other settings or something else, or cannot be written.
        """
        run = self.run = Run.open(self.folder, self.settings)
        run.positions = self.positions
        self.pipeline.budget.add_earlier(run.bill.most)
        self.pending = [
            dialogue
            for dialogue in self.chosen
            if dialogue.id not in run.answered and (retry_errors or dialogue.id not in run.failed)
        ]
        before = self.answered
        left_out = len(self.chosen) - len(self.pending) - before
        if not self.name and (before or left_out):
            failures = f", {left_out} failed before (--retry-errors asks again)" if left_out else ""
            done = share(before, len(self.chosen), "reply", "replies")
            _log.info("resuming: %s already in %s%s", done, run.folder, failures)
        return run

    def look(self, retry_errors: bool = False) -> None:
        """Find the dialogues to answer without opening the run, which changes nothing on disk.

        Args:
            retry_errors: Whether to retry dialogues that failed before.

        Raises:
            RunError: The folder has other settings or something else.
        """
        outcomes = Run.look(self.folder, self.settings)
        self.pipeline.budget.add_earlier(read_bill(self.folder).most)
        self.pending = [
            dialogue
            for dialogue in self.chosen
            if dialogue.id not in outcomes or (retry_errors and not outcomes[dialogue.id])
        ]

    @property
    def sample_note(self) -> str:
        """How its dialogues were drawn, in a line; empty if they were not."""
        return self._subset.note(self._dialogues)

    @property
    def opened(self) -> Run:
        """The open run."""
        assert self.run is not None, "`open` comes first"
        return self.run

    @property
    def answered(self) -> int:
        """Number of the dialogues that have a reply now."""
        return sum(dialogue.id in self.opened.answered for dialogue in self.chosen)

    @property
    def failed(self) -> int:
        """Number of the dialogues that have only an error now."""
        return sum(dialogue.id in self.opened.failed for dialogue in self.chosen)

    def saved(self) -> str:
        """The number of replies in the run's file, read each time."""
        written = self.opened.written()
        done = sum(dialogue.id in written for dialogue in self.chosen)
        return f"{share(done, len(self.chosen), 'reply', 'replies')} saved to {self.folder}"

    def session(self, engine: Mapping[str, Any]) -> dict[str, Any]:
        """Return the session for the manifest: dialogues, command, versions, machine, engine."""
        return {
            "command": shown_command(),
            "dialogues": len(self.chosen),
            "data": self.pipeline.config.data,
            "versions": versions(),
            "machine": machine(),
            **engine,
            **self.facts,
        }
