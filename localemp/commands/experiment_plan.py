"""What `experiment` and its estimate do first: they read the plan, and expand it into rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Self

from localemp.data.subset import Subset
from localemp.errors import OptionError
from localemp.experiments.expand import expand
from localemp.experiments.folder import file_name
from localemp.experiments.plan import Plan, read_plan
from localemp.experiments.rows import ExperimentRow

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PlannedExperiment:
    """A plan with the arguments of `experiment` applied.

    Attributes:
        plan: The plan.
        rows: Its rows.
        folder: The experiment's folder, which need not exist.
    """

    plan: Plan
    rows: tuple[ExperimentRow, ...]
    folder: Path

    @classmethod
    def of(
        cls,
        source: str | PathLike[str] | Plan,
        settings: Settings,
        *,
        models: str | Settings | Iterable[str | Settings],
        split: str | None,
        limit: int | None,
        sample: int | None,
        out: str | PathLike[str] | None,
        after: Mapping[str, Any],
    ) -> Self:
        """Apply the arguments; their meaning is that of `experiment`.

        Raises:
            LocalempError: The plan or an argument is invalid; names row and key.
        """
        Subset(limit, sample)  # what is wrong with them is said before the plan is read
        plan = (source if isinstance(source, Plan) else read_plan(source)).with_steps(after)
        settings = dict(settings)
        if (model := settings.pop("model", None)) is not None:
            if models:
                raise OptionError("both a model and models are given", "give only one of them")
            models = [model]
        rows = expand(plan, models, settings, data=settings.pop("data", None), split=split, limit=limit, sample=sample)
        return cls(plan, rows, default_folder(plan.name, [row.model for row in rows]) if out is None else Path(out))


def default_folder(name: str, models: Sequence[str]) -> Path:
    """Return `experiments/PLAN-MODEL[-MODEL...]`: the same plan with the same models goes on in the same folder."""
    return Path("experiments") / file_name("-".join([name, *dict.fromkeys(models)]))
