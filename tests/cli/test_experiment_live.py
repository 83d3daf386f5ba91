"""The live display of an experiment: no higher and no wider than the window, and plain lines in a file."""

import io

import pytest
from rich.console import Console

from localemp.cli.experiment.live import ExperimentDisplay, Speed
from localemp.utils.progress import Progress


class Shown:
    """A display on a screen of some size, with a clock that goes on only when told."""

    def __init__(self, width: int, height: int, terminal: bool = False) -> None:
        self.time, self.file = 0.0, io.StringIO()
        self.display = ExperimentDisplay(now=lambda: self.time)
        self.size = {"width": width, "height": height}
        self.display.console = Console(file=self.file, force_terminal=terminal, **self.size)

    def tell(self, task: str, done: int = 0, total: int | None = None, row: str = "", **more) -> None:
        unit = more.pop("unit", "dialogues" if total is not None else "")
        self.display.on_progress(Progress(task, done, total, unit, row=row, **more))

    def screen(self) -> list[str]:
        """The lines of the live table."""
        file = io.StringIO()
        Console(file=file, **self.size).print(self.display._drawn())
        return file.getvalue().splitlines()

    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


def underway(width: int, height: int, rows: int, name: str = "similar+knowledge, {} shots") -> Shown:
    """Three rows are done, three run, one is looked up, one failed, the others wait."""
    shown = Shown(width, height)
    names = [name.format(number) for number in range(rows)]
    for each in names:
        shown.tell("Waiting", 0, 5255, each)
    for done in range(0, 5256, 5):
        shown.time += 1
        for each in names[:3]:
            shown.tell("Answering", done, 5255, each, failed=done // 1000)
    for done in range(1, 121):
        shown.time += 1
        for each in names[3:6]:
            shown.tell("Answering", done, 5255, each)
    shown.tell("Looking up", 2000, 5255, names[6])
    shown.tell("Failed", row=names[7], detail="the engine died")
    shown.tell("downloading all-mpnet", 33_000_000, 405_000_000, unit="bytes")
    return shown


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (50, 12), (200, 10)])
@pytest.mark.parametrize("rows", [8, 200])
def test_the_table_fits_the_window_and_counts_what_it_leaves_out(width, height, rows):
    screen = underway(width, height, rows).screen()
    assert len(screen) < height, "\n".join(screen)
    assert max(map(len, screen)) <= width
    named = [line for line in screen if line.startswith("similar+")]
    out = [line for line in screen if "more row" in line]
    assert len(out) == (len(named) < rows)
    if out:
        assert out[0].startswith(f"and {rows - len(named)} more row")
    assert "33 MB of 405 MB" in screen[0]
    assert "of 8 rows" in "\n".join(screen) or rows == 200


def test_a_row_shows_its_numbers_whole_at_80_columns():
    screen = underway(80, 24, 9).screen()
    assert [line.split()[-4:] for line in screen[1:4]] == [["5", "failed", "5.00/s", "done"]] * 3
    assert all("120/5255" in line and "1.00/s" in line and "1:25:35" in line for line in screen[4:7]), screen
    assert screen[7].endswith("looking up")
    assert "2000/5255" in screen[7]
    assert screen[8].endswith("failed")
    assert screen[9].endswith("waiting")
    assert "3 of 9 rows done, 1 failed; 16,125 of 42,040 dialogues, 15 failed;" in " ".join(screen[-2:])


def test_long_and_hostile_names_stay_in_their_line():
    screen = underway(80, 24, 9, "\x1b[31m[bold]" + "名" * 90 + "{}").screen()
    assert len(screen) < 24
    assert "\x1b" not in "".join(screen)
    assert all("5255" in line for line in screen[1:8])


def test_a_running_row_is_shown_before_those_that_wait():
    shown = Shown(80, 10)
    for number in range(50):
        shown.tell("Waiting", 0, 4, f"row {number}")
    for number in range(30):
        shown.tell("Answering", 4, 4, f"row {number}")
    shown.tell("Answering", 1, 4, "row 44")
    rows = [line.split()[1] for line in shown.screen() if line.startswith("row ")]
    assert rows == ["25", "26", "27", "28", "29", "44"], (
        "the latest that have ended, and what runs, in the plan's order"
    )
    assert "and 44 more rows: 25 done, 19 waiting" in shown.screen()


def test_a_row_that_goes_on_counts_what_it_had():
    shown = Shown(80, 24)
    shown.tell("Waiting", 30, 64, "a", failed=2)
    shown.tell("Waiting", 64, 64, "retried", failed=4)
    shown.tell("Finished", 64, 64, "b")
    shown.tell("Answering", 1, 34, "a")
    shown.tell("Answering", 2, 4, "retried", failed=1)
    screen = shown.screen()
    assert screen[1].split()[-4:] == ["31/64", "2", "failed", "answering"]
    assert screen[2].split()[-4:] == ["62/64", "1", "failed", "answering"]
    assert screen[3].split()[-2:] == ["64/64", "done"]
    assert screen[-1] == "1 of 3 rows done; 157 of 192 dialogues, 3 failed"


def test_what_is_done_with_a_row_that_has_ended_is_a_step():
    shown = Shown(80, 24)
    shown.tell("Finished", 4, 4, "a")
    shown.tell("Finished", 4, 4, "b")
    shown.tell("Reading", 1, 2, "b", unit="rows")
    assert shown.screen()[0].endswith("Reading 1/2")
    assert shown.screen()[-1] == "2 of 2 rows done; 8 of 8 dialogues"


def test_rows_are_not_counted_while_they_are_checked():
    shown = Shown(80, 24)
    for row in ("a", "b"):
        shown.tell("Checking", row=row)
    assert shown.screen()[-1] == "checking the rows, b now"
    for row in ("a", "b"):
        shown.tell("Waiting", 0, 4, row)
    assert shown.screen()[-1] == "0 of 2 rows done; 0 of 8 dialogues"


def test_lookups_of_a_row_show_until_it_is_answered():
    shown = Shown(80, 24)
    shown.tell("Waiting", 0, 64, "a")
    shown.tell("Looking up", 40, 64, "a")
    assert shown.screen()[0].endswith("Preparing")
    assert shown.screen()[1].split()[-3:] == ["40/64", "looking", "up"]
    shown.tell("Looking up", 64, 64, "a")
    assert shown.screen()[1].split()[-2:] == ["0/64", "waiting"]
    shown.tell("Answering", 1, 64, "a")
    shown.tell("Looking up", 50, 64, "a")
    assert shown.screen()[0].endswith("Answering")
    assert shown.screen()[1].split()[-2:] == ["1/64", "answering"]


def test_what_the_engine_does_goes_when_it_is_done():
    shown = Shown(80, 24)
    shown.tell("Waiting", 0, 4, "a")
    shown.tell("Starting vllm (smollm2)")
    shown.time += 75
    assert shown.screen()[0].endswith("Starting vllm (smollm2) 1:15")
    shown.tell("Answering", 1, 4, "a")
    assert "Answering" in shown.screen()[0]
    shown.tell("Looking up", 3, 4)
    shown.tell("Answering", 2, 4, "a")
    assert "Looking up 3/4" in shown.screen()[0], "it goes on beside the answers"
    shown.tell("Looking up", 4, 4)
    assert "Answering" in shown.screen()[0]


def test_a_row_whose_first_replies_take_long_is_shown_as_answering():
    shown = Shown(80, 24)
    shown.tell("Waiting", 0, 4, "a")
    shown.tell("Starting vllm (smollm2)")
    shown.tell("Answering", 0, 4, "a")
    assert shown.screen()[0].endswith("Answering")
    assert shown.screen()[1].split()[-2:] == ["0/4", "answering"]
    assert shown.screen()[-1] == "0 of 1 row done; 0 of 4 dialogues"


def test_a_time_left_is_told_from_ten_answers_on():
    shown = Shown(80, 24)
    shown.tell("Answering", 0, 100, "a")
    for done in range(1, 11):
        assert "left" not in shown.screen()[-1]
        assert shown.screen()[1].endswith("answering")
        shown.time += 2
        shown.tell("Answering", done, 100, "a")
    assert shown.screen()[-1].endswith("0.50/s; 3:00 left")
    assert shown.screen()[1].endswith("3:00")


def test_the_speed_stays_when_nothing_is_answered_and_starts_anew_per_model():
    shown = Shown(80, 24)
    for row in ("a", "b"):
        shown.tell("Waiting", 0, 20, row)
    shown.tell("Answering", 0, 20, "a")
    for done in range(1, 21):
        shown.time += 1
        shown.tell("Answering", done, 20, "a")
    shown.tell("Stopping vllm (smollm2)")
    shown.time += 40
    assert shown.screen()[0].endswith("Stopping vllm (smollm2) 0:40")
    assert shown.screen()[-1].endswith("1.00/s; 0:20 left")
    shown.tell("Finished", 20, 20, "a")
    assert shown.screen()[0].endswith("Preparing")
    shown.tell("Starting vllm (qwen)")
    shown.time += 60
    shown.tell("Answering", 0, 20, "b")
    for done in range(1, 11):
        shown.time += 2
        shown.tell("Answering", done, 20, "b")
    assert shown.screen()[-1].endswith("0.50/s; 0:20 left")


def test_dialogues_that_are_asked_again_count_for_the_speed():
    shown = Shown(80, 24)
    shown.tell("Waiting", 64, 64, "a", failed=20)
    shown.tell("Answering", 0, 20, "a")
    for done in range(1, 11):
        shown.time += 1
        shown.tell("Answering", done, 20, "a")
    assert shown.screen()[-1] == "0 of 1 row done; 54 of 64 dialogues; 1.00/s; 0:10 left"


def test_why_rows_failed_is_said_at_once_and_once():
    shown = Shown(80, 24, terminal=True)
    with shown.display:
        for row in ("a", "b", "c"):
            shown.tell("Waiting", 0, 4, row)
        for row in ("a", "b"):
            shown.tell("Failed", row=row, detail="no such model")
        shown.tell("Failed", row="c", detail="disk full")
    said = shown.file.getvalue()
    assert said.count("no such model") == said.count("a: failed: no such model") == 1
    assert said.count("c: failed: disk full") == 1


def test_in_a_file_there_are_lines_at_changes_and_else_every_half_minute():
    shown = Shown(80, 24)
    shown.tell("fetching", 1, 10, unit="bytes")
    shown.tell("Waiting", 0, 100, "a")
    shown.tell("Waiting", 0, 100, "b")
    shown.tell("Starting vllm (smollm2)")
    shown.tell("Starting vllm (smollm2)")
    for done in range(1, 101):
        shown.time += 1
        shown.tell("Answering", done, 100, "a", failed=done // 50)
    shown.tell("Failed", row="b", detail="no memory\nat all")
    told = [line for line in shown.lines() if "fetching" not in line]
    assert told[0] == "Starting vllm (smollm2) ..."
    assert told[1] == "0 of 2 rows done; 30 of 200 dialogues; 1.00/s; 2:50 left; now: a 30/100"
    assert [line.partition(" dialogues")[0] for line in told[2:4]] == [
        "0 of 2 rows done; 60 of 200",
        "0 of 2 rows done; 90 of 200",
    ]
    assert told[4:] == [
        "a: 98 of 100 replies, 2 failed (1 of 2 rows done)",
        "b: failed: no memory at all (1 of 2 rows done, 1 failed)",
    ]
    assert "\x1b" not in shown.file.getvalue()


def test_a_fetch_before_the_rows_is_one_bar_that_the_rows_end():
    shown = Shown(80, 24, terminal=True)
    with shown.display:
        shown.tell("fetching", 1, 10, unit="bytes")
        shown.tell("Answering", 1, 2, "a")
        shown.display.say("a line that stays")
        shown.tell("Answering", 2, 2, "a")
    text = shown.file.getvalue()
    assert "a line that stays" in text
    assert text.endswith("\x1b[2K"), "nothing of the table stays"


def test_a_speed_is_that_of_the_last_minute():
    speed = Speed()
    assert speed.per_s(0, 0) is None
    speed.add(0, 0)
    assert speed.per_s(1, 0.5) is None, "too early to tell"
    for second in range(1, 100):
        speed.add(10 * second, second)
    for second in range(100, 200):
        speed.add(1000 + second, second)
    assert speed.per_s(1200, 200) == pytest.approx(1, abs=0.05)
