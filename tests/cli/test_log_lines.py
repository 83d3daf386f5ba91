"""Progress in a file: plain lines, also of a task that says nothing for long."""

import re

import pytest

from localemp.cli.display import Display
from localemp.cli.log_lines import EVERY, LogLines
from localemp.utils.progress import Progress


class Lines:
    """Lines with a clock that is set by hand."""

    def __init__(self) -> None:
        self.time, self.said = 0.0, []
        self.lines = LogLines(self.said.append, lambda: self.time)

    def after(self, seconds: float, progress: Progress | None = None) -> list[str]:
        """Return what is said after some time, in which the progress comes at last."""
        before, self.time = len(self.said), self.time + seconds
        if progress is not None:
            self.lines.show(progress)
        self.lines.tell_if_due()
        return self.said[before:]


@pytest.fixture
def lines():
    found = Lines()
    yield found
    found.lines.end()


def test_a_long_task_has_a_line_each_half_minute_and_one_at_its_end(lines):
    assert lines.after(0, Progress("Embedding", 256, 19_531, "texts")) == []
    assert lines.after(EVERY - 1, Progress("Embedding", 512, 19_531, "texts")) == []
    assert lines.after(1) == ["Embedding: 512 of 19,531 texts, 8.53 texts/s, 37 min left"]
    assert lines.after(EVERY - 1, Progress("Embedding", 768, 19_531, "texts")) == []
    assert lines.after(1) == ["Embedding: 768 of 19,531 texts, 8.53 texts/s, 37 min left"]
    done = Progress("Embedding", 19_531, 19_531, "texts")
    assert lines.after(0, done) == ["Embedding: 19,531 of 19,531 texts in 60 s"]
    assert lines.after(2 * EVERY, done) == [], "said once"


def test_a_task_without_units_is_named_at_once_and_its_time_told(lines):
    assert lines.after(0, Progress("Starting vllm")) == ["Starting vllm ..."]
    assert lines.after(EVERY) == ["Starting vllm: 30 s"]
    assert lines.after(0, Progress("Loading")) == ["Loading ..."]
    assert lines.after(5, Progress("Loading", 1, 1)) == ["Loading: 5 s"]


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (Progress("fetching", 60_000_000, 93_000_000, "bytes"), "fetching: 60 MB of 93 MB, 2 MB/s, 16 s left"),
        (Progress("Inferring", 60, None, "events"), "Inferring: 60 events, 2 events/s"),
        (Progress("Answering", 60, 90, "dialogues", "2.2 dialogues/s"),
         "Answering: 60 of 90 dialogues, 2.2 dialogues/s, 15 s left"),
        (Progress("Answering", 60, 90, "", "x", failed=3), "Answering: 60 of 90, 3 failed, x, 15 s left"),
        (Progress("Answering", 0, 90, "dialogues"), "Answering: 0 of 90 dialogues, 30 s so far"),
    ],
)  # fmt: skip
def test_lines(lines, progress, line):
    lines.after(0, Progress(progress.task, 0, progress.total, progress.unit))
    assert lines.after(EVERY, progress) == [line]


def test_an_interrupted_task_leaves_no_line(lines):
    lines.after(0, Progress("Comparing", 2, 8, "metrics"))
    assert lines.after(1, Progress("Reading", 4, 4, "texts")) == ["Reading: 4 of 4 texts in 0 s"]
    lines.lines.end()
    assert lines.after(2 * EVERY) == []


def test_a_file_gets_no_control_characters(capfd):
    with Display() as display:
        for done in range(4):
            display.on_progress(Progress("\x1b[1mAnswering", done, 3, "dialogues"))
        with display.clock("Starting") as tell:
            tell(Progress("Starting: loading"))
    said = capfd.readouterr().err
    assert said.splitlines()[1:] == ["Starting ...", "Starting: loading ..."]
    assert re.fullmatch(r"[ -~\n\\]*", said)
