"""The rows of an experiment: one run each."""

from dataclasses import dataclass

from localemp.pipeline.config import RunConfig


@dataclass(frozen=True, slots=True)
class ExperimentRow:
    """A row of an experiment for one model.

    Attributes:
        name: Its name in tables, unique in the experiment: "5-shot", or "llama 5-shot" if there are several models.
        row: Its name in the plan, the same for all models.
        model: The model, as given.
        config: The configuration of its run.
        split: Of the data: "train", "valid" or "test".
        limit: Only the first N dialogues; None for all.
    """

    name: str
    row: str
    model: str
    config: RunConfig
    split: str = "test"
    limit: int | None = None
