"""Names of version 0.1, which scripts of that time use."""

from collections.abc import Callable
from typing import Any

from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.utils.progress import OnProgress, Progress, silent

FormerProgress = Callable[[str, int, int | None], None]
"""Called with the task, the bytes that are done, and all bytes."""

OnRows = Callable[[int, int], None]
"""Called with the dialogues that are embedded, and all dialogues."""


class Assembly(Pipeline):
    """A `Pipeline` with the arguments of version 0.1.

    Args:
        recipe: The configuration.
        progress: Called with bytes of weights fetched or verified.
        on_rows: Called with training dialogues embedded.
    """

    def __init__(
        self, recipe: RunConfig, progress: FormerProgress | None = None, on_rows: OnRows | None = None
    ) -> None:
        super().__init__(recipe, former_progress(progress, on_rows))

    @property
    def recipe(self) -> RunConfig:
        """The configuration."""
        return self.config


def former_progress(progress: FormerProgress | None, on_rows: OnRows | None) -> OnProgress:
    """Return a callback that calls those of version 0.1."""
    if progress is None and on_rows is None:
        return silent

    def on_progress(step: Progress) -> None:
        if step.unit == "bytes":
            if progress is not None:
                progress(step.task, step.done, step.total)
        elif on_rows is not None and step.total is not None:
            on_rows(step.done, step.total)

    return on_progress


def take_former(settings: dict[str, Any], config: RunConfig | None, on_progress: OnProgress) -> tuple[Any, OnProgress]:
    """Remove arguments of version 0.1 from settings; return the config and the callback that they stand for."""
    config = settings.pop("recipe", config)
    callbacks = settings.pop("progress", None), settings.pop("on_rows", None)
    return config, former_progress(*callbacks) if any(callbacks) else on_progress
