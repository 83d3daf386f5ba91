"""The result file of a benchmark: measured values, and everything needed to reproduce them.

A `Point` is one measurement: its labels say of what, its values have one number for each repeat. A `Result` holds all
points of one command. A `Recording` rewrites the file after every point, so that an interrupted benchmark keeps what it
measured, marked as not finished.
"""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from localemp.bench.quantities import QUANTITIES
from localemp.errors import DataError, LocalempError, OptionError
from localemp.utils.files import write_atomically, write_errors
from localemp.utils.json_reader import JSONError, check_storable, load_json
from localemp.utils.machine import computing, machine, versions
from localemp.utils.plain_errors import in_words
from localemp.utils.redaction import redact_line, redact_settings, redact_text, shown_command
from localemp.utils.validation import format_validation_error

Kind = Literal["engine", "strategies", "serve", "retrieval", "comet", "score", "tune"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Label = str | Annotated[int, Field(ge=-(2**53), le=2**53)] | Finite
# Secrets in these texts are redacted, also when files of older versions are read.
RedactedText = Annotated[str, AfterValidator(redact_text)]


# Labels as localemp 0.1.0 wrote them, and as they are called now.
_OLD_LABELS = {"at once": "concurrency"}


def _renamed(labels: dict[str, Any]) -> dict[str, Any]:
    return {_OLD_LABELS.get(name, name): value for name, value in labels.items()}


def _known(values: dict[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
    for name in values:
        if name not in QUANTITIES:
            raise ValueError(f"unknown quantity {name!r}")
    return values


Values = Annotated[dict[str, Annotated[tuple[float, ...], Field(min_length=1)]], AfterValidator(_known)]


_MAY_FALL = ("gain",)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Point(_Strict):
    """One measurement.

    Attributes:
        part: The question it answers; points of one part are rows of one table ("throughput", "batch size").
        labels: What distinguishes it from the part's other points: {"strategy": "two-stage", "concurrency": 64}.
        values: One for each repeat, by the names of `localemp.bench.quantities`; "figures" in files.
        note: Anything a reader needs to know, such as why values are missing.
    """

    part: str
    labels: Annotated[dict[str, Label], AfterValidator(_renamed)] = Field(default_factory=dict)
    values: Values = Field(default_factory=dict, alias="figures")
    note: str = ""

    def median(self, name: str) -> float | None:
        """Return the median over the repeats; None if the quantity was not measured."""
        return statistics.median(self.values[name]) if name in self.values else None

    @property
    def label(self) -> str:
        """Its labels in one line."""
        return ", ".join(f"{name} {value}" for name, value in self.labels.items())


def gather(part: str, labels: dict[str, Label], repeats: Sequence[dict[str, float]], note: str = "") -> Point:
    """Return a point from the values of its repeats."""
    names = list(dict.fromkeys(name for values in repeats for name in values))
    return Point(
        part=part,
        labels=labels,
        values={name: tuple(values[name] for values in repeats if name in values) for name in names},
        note=note,
    )


class Series(_Strict):
    """Something monitored over time.

    Attributes:
        title: Its name ("GPU memory").
        unit: The unit of the values.
        seconds: Seconds since the start of the benchmark.
        values: One for each time.
    """

    title: str
    unit: str
    seconds: list[Finite]
    values: list[Finite]


class Result(_Strict):
    """Everything that one command measured.

    Attributes:
        kind: The benchmark.
        title: What was measured, in a line: the model and its task.
        dummy: Whether the weights were made up, so that speed is real and replies mean nothing.
        command: The command line.
        created: The start, in UTC.
        finished: Whether it finished; if not, `stopped` says why.
        machine, versions: As in every run.
        settings: Everything that can change the values, seed included.
        points: In the order in which they were measured.
        series: What was monitored.
        notes: Notes on all points.
    """

    kind: Kind
    title: RedactedText
    dummy: bool = False
    command: Annotated[str, AfterValidator(redact_line)] = ""
    created: str = ""
    finished: bool = False
    stopped: RedactedText = ""
    machine: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    settings: Annotated[dict[str, Any], AfterValidator(redact_settings)] = Field(default_factory=dict)
    points: list[Point] = Field(default_factory=list)
    series: list[Series] = Field(default_factory=list)
    notes: list[RedactedText] = Field(default_factory=list)

    @property
    def parts(self) -> dict[str, list[Point]]:
        """The points by their part, in order."""
        parts: dict[str, list[Point]] = {}
        for point in self.points:
            parts.setdefault(point.part, []).append(point)
        return parts

    @property
    def warning(self) -> str:
        """A one-line warning (dummy weights, stopped early); empty if there is nothing to warn of."""
        dummy = "dummy weights: the speed is the shape's, the replies mean nothing" if self.dummy else ""
        stopped = "" if self.finished else f"not finished: {self.stopped or 'the process ended'}"
        return "; ".join(text for text in (dummy, stopped) if text)


def read_result(path: Path) -> Result:
    """Read a file that a benchmark wrote.

    Raises:
        DataError: The file is missing, is not a result, or a value cannot be a measurement; the message says where.
    """
    try:
        found = load_json(path)
        result = Result.model_validate(found)
        _check_measured(path, result)
        check_storable(found)
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror}", "give a file that `localemp bench` wrote") from error
    except (JSONError, ValidationError) as error:
        what = format_validation_error(error) if isinstance(error, ValidationError) else str(error)
        line = error.line if isinstance(error, JSONError) else None
        hint = "give a file that `localemp bench` wrote"
        raise DataError(path, f"not a benchmark result: {what}", hint, line) from error
    return result


def _check_measured(path: Path, result: Result) -> None:
    for number, point in enumerate(result.points, 1):
        for name, values in point.values.items():
            if wrong := [value for value in values if not _is_measured(name, value)]:
                where = f"points[{number}] ({', '.join(filter(None, [point.part, point.label]))}): {name}"
                raise DataError(path, f"{where}: {wrong[0]} is not a measurement", "measure it again")


def _is_measured(name: str, value: float) -> bool:
    """Whether it can be a measurement: finite, and negative only where that has a meaning, or by rounding."""
    return math.isfinite(value) and (value > -1e-9 or name in _MAY_FALL)


class Recording:
    """Writes a result as it grows. Use it in a `with` block around the measurements.

    Exceptions leave the block unchanged; the file then says what stopped the benchmark.

    Args:
        path: The file; its folder is created.
        kind, title, settings, dummy: As in `Result`.
        command: The words after `localemp`; by default those of this process.
    """

    def __init__(
        self,
        path: Path,
        kind: Kind,
        title: str,
        settings: Mapping[str, Any],
        *,
        dummy: bool = False,
        command: Sequence[str] | None = None,
    ) -> None:
        self.path = path
        result = Result(
            kind=kind,
            title=title,
            dummy=dummy,
            command=shown_command(command),
            created=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            machine=machine(),
            versions=versions(),
            settings=dict(settings),
        )
        # As it will be read again: a tuple becomes a list, so that the same settings are equal.
        self.result = Result.model_validate_json(result.model_dump_json(by_alias=True))

    def __enter__(self) -> Self:
        self.write()  # a file that cannot be written shows before anything is measured
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.result.finished = True
        elif isinstance(error, LocalempError):
            self.result.stopped = redact_text(error.message)
        else:
            what = "Ctrl-C" if kind is KeyboardInterrupt else f"{type(error).__name__}: {in_words(error)}"
            self.result.stopped = redact_text(what)
        self.write()

    def add(self, point: Point) -> None:
        """Add a point, and write the file."""
        self.result.points.append(point)
        self.write()

    def write(self) -> None:
        """Write the file atomically.

        Raises:
            OptionError: It cannot be written.
        """
        self.result.settings |= computing()  # torch may have come meanwhile
        with write_errors(lambda message, hint: OptionError(f"--out {self.path}: {message}", hint), "name another"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, self.result.model_dump_json(indent=1, by_alias=True) + "\n")
