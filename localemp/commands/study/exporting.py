"""`study.export`: the answers of all raters in one file."""

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from localemp.commands.tables import make_folder
from localemp.errors import OptionError, UnknownNameError
from localemp.studies.privacy import open_study
from localemp.studies.study import ANSWERS
from localemp.utils.files import write_atomically, write_errors
from localemp.utils.paths import StrPath

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The answers of a study.

    Attributes:
        text: All answers, one line each.
        answers: How many.
        out: The file that they were written to.
    """

    text: str = field(repr=False)
    answers: int
    out: Path | None = None


def export(
    study: StrPath,
    *,
    format: Literal["csv", "jsonl"] = "csv",
    out: StrPath | None = None,
    unblinded: bool = False,
) -> ExportResult:
    """Export the newest answers of people, imported files and judges.

    Args:
        study: The study's folder.
        format: "csv" or "jsonl".
        out: The file to write. An unblinded one can be read by its owner alone, like the study's key.
        unblinded: Name systems and dialogues.

    Raises:
        UnknownNameError: There is no such format.
        RunError: The folder holds no study.
        OptionError: The file cannot be written.
    """
    from localemp.studies.answers import AnswerStore
    from localemp.studies.exporting import all_votes, as_csv, as_jsonl, lines_of

    if format not in ("csv", "jsonl"):
        raise UnknownNameError("format", format, ["csv", "jsonl"])
    rated = open_study(Path(study))
    with closing(AnswerStore(Path(study) / ANSWERS, rated)) as answers:
        given = all_votes(rated, answers)
    lines = lines_of(given, rated, unblinded)
    text = as_csv(lines, unblinded) if format == "csv" else as_jsonl(lines)
    if out is None:
        return ExportResult(text, len(given))
    path = Path(out)
    with write_errors(lambda message, hint: OptionError(f"--out {path}: {message}", hint), "name another file"):
        make_folder(path.parent)
        if unblinded and (path.is_file() or not path.exists()):
            write_atomically(path.resolve(), text, mode=0o600)
        else:
            path.write_text(text, "utf-8")
    return ExportResult(text, len(given), path)
