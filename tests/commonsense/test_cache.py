"""The store of answers: kept for good, shared by processes, bounded, and never giving out what a crash changed."""

import contextlib
import json
import logging
import multiprocessing
import os
import random
import sqlite3
import stat
from pathlib import Path

import pytest
from read_only import only_read, open_folder

from localemp.commonsense import checked_values
from localemp.commonsense.cache import MAX_SIZE_VARIABLE, InferenceCache
from localemp.commonsense.entries import insert_and_find
from localemp.commonsense.inferences import Beam, EventInferences
from localemp.errors import LocalempError, OptionError

SETTINGS = {"comet_sha256": "ab", "beams": 5}
SAD = EventInferences({"xReact": (Beam("sad", -0.5), Beam("lonely", -0.75)), "xWant": ()})
BOTH = ["xReact", "xWant"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "inferences.sqlite"


def answer(number: int) -> EventInferences:
    return EventInferences({"xReact": (Beam(f"feeling {number}", -1.0),)})


def fill(path: Path, first: int, count: int, settings: dict[str, object] = SETTINGS, most: int | None = None) -> None:
    cache = InferenceCache(path, most)
    for number in range(first, first + count, 10):
        cache.put(settings, {f"event {each}": answer(each) for each in range(number, min(number + 10, first + count))})
    cache.close()


def known(path: Path, count: int, most: int | None = None) -> list[int]:
    """Which of the events are known; what is known of them is right."""
    cache = InferenceCache(path, most)
    found = cache.get(SETTINGS, [f"event {number}" for number in range(count)], ["xReact"])
    cache.close()
    numbers = [int(event.removeprefix("event ")) for event in found]
    assert found == {f"event {number}": answer(number) for number in numbers}
    return numbers


def test_what_was_put_is_got_by_settings_event_and_relation(path: Path):
    cache = InferenceCache(path)
    cache.put(SETTINGS, {"my dog died": SAD})
    assert cache.get(SETTINGS, ["my dog died", "other"], [*BOTH, "xNeed"]) == {"my dog died": SAD}
    assert cache.get(dict(reversed(SETTINGS.items())), ["my dog died"], ["xWant"])["my dog died"].beams == {"xWant": ()}
    assert cache.get({**SETTINGS, "beams": 4}, ["my dog died"], ["xReact"]) == {}
    assert cache.get(SETTINGS, ["My dog died"], ["xReact"]) == {}
    assert InferenceCache(path).get(SETTINGS, ["my dog died"], BOTH) == {"my dog died": SAD}


def test_events_that_differ_only_in_what_was_cut_share_their_answers(path: Path):
    cache = InferenceCache(path)
    cache.put(SETTINGS, {"So. My dog died": EventInferences(SAD.beams, 4)})
    assert cache.get(SETTINGS, ["So. My dog died"], BOTH) == {"So. My dog died": EventInferences(SAD.beams, 4)}
    assert cache.get(SETTINGS, ["My dog died"], BOTH) == {"My dog died": SAD}
    # Of another event it has to be said once how much of it is cut.
    assert cache.get(SETTINGS, ["Well, so. My dog died"], BOTH) == {}
    cache.put(SETTINGS, {"Well, so. My dog died": EventInferences({}, 10)})
    assert cache.get(SETTINGS, ["Well, so. My dog died"], BOTH) == {
        "Well, so. My dog died": EventInferences(SAD.beams, 10)
    }


def test_the_file_holds_no_text_of_an_event(path: Path):
    cache = InferenceCache(path)
    cache.put(SETTINGS, {"my secret": SAD, "And. my secret": EventInferences({}, 5)})
    cache.close()
    assert b"secret" not in path.read_bytes()


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_no_number_is_no_answer(path: Path, score: float):
    cache = InferenceCache(path)
    cache.put(SETTINGS, {"a": EventInferences({"xReact": (Beam("sad", score),), "xWant": (Beam("to cry"),)})})
    assert cache.get(SETTINGS, ["a"], BOTH) == {"a": EventInferences({"xWant": (Beam("to cry"),)})}


def test_many_processes_write_at_once(path: Path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=fill, args=(path, 30 * number, 30)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(known(path, 120)) == 120


def test_nobody_else_may_read_it(path: Path):
    path.parent.mkdir()
    path.touch(0o644)  # as earlier versions made it
    cache = InferenceCache(path)
    cache.put(SETTINGS, {"a": SAD})
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(("inferences.sqlite", "inferences.sqlite-wal", "inferences.sqlite-shm",
                                   "inferences.sqlite.lock"), 0o600)  # fmt: skip


def test_a_lock_file_that_is_a_link_is_not_followed(path: Path, tmp_path: Path):
    diary = tmp_path / "diary"
    diary.write_text("dear diary")
    path.parent.mkdir()
    path.with_name("inferences.sqlite.lock").symlink_to(diary)
    with pytest.raises(LocalempError, match="cannot store inferences in"):
        InferenceCache(path)
    assert diary.read_text() == "dear diary"


# Size


def test_the_oldest_go_first_and_the_file_stays_small(path: Path):
    most = 100_000
    fill(path, 0, 3000, most=most)
    kept = known(path, 3000, most)
    assert path.stat().st_size <= most
    assert kept == list(range(kept[0], 3000))
    assert 200 < len(kept) < 1000


def test_a_file_that_is_too_large_gives_its_room_back(path: Path):
    fill(path, 0, 2000)
    before = path.stat().st_size
    fill(path, 2000, 10, most=before // 4)
    assert path.stat().st_size <= before // 4
    assert known(path, 2010)[-10:] == list(range(2000, 2010))


def test_the_size_is_set_by_the_environment(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(MAX_SIZE_VARIABLE, "100k")
    fill(path, 0, 3000)
    assert path.stat().st_size <= 102_400
    for wrong in ("0", "many", "1T", "-5", "9" * 5000):
        monkeypatch.setenv(MAX_SIZE_VARIABLE, wrong)
        with pytest.raises(OptionError, match="is not a size"):
            InferenceCache(path)


# Damage


def test_no_database_is_moved_aside_and_work_goes_on(path: Path, caplog: pytest.LogCaptureFixture):
    path.parent.mkdir()
    path.write_bytes(b"this is my diary, no database at all " * 100)
    fill(path, 0, 2)
    assert known(path, 2) == [0, 1]
    (aside,) = path.parent.glob("inferences.damaged-*.sqlite")
    assert aside.read_bytes().startswith(b"this is my diary")
    assert f"{path} was damaged and is now inferences.damaged-1.sqlite; 0 answers recovered" in caplog.text


@pytest.mark.parametrize("opened_before", [True, False])
def test_what_a_crash_left_is_saved(path: Path, caplog: pytest.LogCaptureFixture, opened_before: bool):
    fill(path, 0, 2000)
    content = bytearray(path.read_bytes())
    cache = InferenceCache(path) if opened_before else None
    assert len(content) > 100_000
    # A page in the middle is no page any more.
    start = len(content) // 2 // 4096 * 4096
    content[start : start + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    cache = cache or InferenceCache(path)
    events = [f"event {number}" for number in range(2000)]
    found = cache.get(SETTINGS, events, ["xReact"])
    assert "was damaged" in caplog.text
    assert 1700 < len(found) <= 2000
    assert all(answer.beams["xReact"][0].text == event.replace("event", "feeling") for event, answer in found.items())
    cache.put(SETTINGS, {"new": SAD})
    assert cache.get(SETTINGS, ["new"], ["xReact"])
    with sqlite3.connect(path) as sound:
        assert sound.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_two_that_find_the_damage_mend_it_once(path: Path):
    fill(path, 0, 2000)
    first, second = InferenceCache(path), InferenceCache(path)
    content = bytearray(path.read_bytes())
    content[40960:45056] = b"\xff" * 4096
    path.write_bytes(content)
    events = [f"event {number}" for number in range(2000)]
    one = first.get(SETTINGS, events, ["xReact"])
    first.put(SETTINGS, {"new": SAD})
    assert len(second.get(SETTINGS, events, ["xReact"])) == len(one)
    assert second.get(SETTINGS, ["new"], ["xReact"])
    assert len(list(path.parent.glob("*.damaged-*.sqlite"))) == 1


def damaged(content: bytes, chance: random.Random) -> bytes:
    """One of the ways in which files break."""
    broken, at = bytearray(content), chance.randrange(len(content))
    page, other = (chance.randrange(len(content)) // 4096 * 4096 for _ in range(2))
    match chance.choice(["bit", "bytes", "page", "zeros", "cut", "longer", "header", "swapped", "text"]):
        case "bit":
            broken[at] ^= 1 << chance.randrange(8)
        case "bytes":
            for _ in range(200):
                broken[chance.randrange(len(content))] = chance.randrange(256)
        case "page":
            broken[page : page + 4096] = chance.randbytes(4096)
        case "zeros":
            broken[at : at + 500] = bytes(500)
        case "cut":
            del broken[at:]
        case "longer":
            broken += chance.randbytes(5000)
        case "header":
            broken[chance.randrange(100)] = chance.randrange(256)
        case "swapped":
            broken[page : page + 4096], broken[other : other + 4096] = content[other:][:4096], content[page:][:4096]
        case "text":
            if (found := content.find(b"feeling", at)) > 0:
                broken[found + 8] = ord("0") + chance.randrange(10)
    return bytes(broken)


def test_200_damaged_files_give_no_wrong_answer_and_work_afterwards(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.CRITICAL)
    good = tmp_path / "good.sqlite"
    fill(good, 0, 150)
    content, chance, changed = good.read_bytes(), random.Random(13), 0
    everything = {f"event {number}": answer(number) for number in range(150)}
    for number in range(200):
        path = tmp_path / f"{number}.sqlite"
        path.write_bytes(broken := damaged(content, chance))
        changed += broken != content
        cache = InferenceCache(path)
        found = cache.get(SETTINGS, everything, ["xReact"])
        assert found.items() <= everything.items(), f"file {number}"
        cache.put(SETTINGS, everything)
        assert cache.get(SETTINGS, everything, ["xReact"]) == everything, f"file {number}, with {len(found)} left"
        cache.close()
        assert number % 10 or known(path, 150) == list(range(150))
    assert changed > 150


# Files of version 0.1


def save_former(path: Path, rows: int, cut: int = 0) -> None:
    """A file as version 0.1 left it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as former:
        former.executescript("""
            PRAGMA journal_mode = WAL;
            CREATE TABLE IF NOT EXISTS settings (id INTEGER PRIMARY KEY, json TEXT NOT NULL UNIQUE);
            CREATE TABLE IF NOT EXISTS answers (
                settings INTEGER NOT NULL, event TEXT NOT NULL, relation TEXT NOT NULL, beams TEXT NOT NULL,
                cut INTEGER NOT NULL, PRIMARY KEY (settings, event, relation)
            ) WITHOUT ROWID;
        """)
        settings = json.dumps(SETTINGS, sort_keys=True, separators=(",", ":"))
        former.execute("INSERT INTO settings (json) VALUES (?)", (settings,))
        answers = [(f"event {number}", "xReact", f'[["feeling {number}",-1.0]]', cut) for number in range(rows)]
        former.executemany("INSERT INTO answers VALUES (1, ?, ?, ?, ?)", answers)
    former.close()


def test_a_file_of_an_earlier_version_is_taken_over(path: Path):
    save_former(path, 300)
    assert known(path, 300) == list(range(300))
    assert [file.name for file in path.parent.iterdir() if "lock" not in file.name] == ["inferences.sqlite"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert known(path, 300) == list(range(300))


def test_a_cut_that_an_earlier_version_kept_is_still_known(path: Path):
    save_former(path, 20, cut=4)
    cache = InferenceCache(path)
    assert cache.get(SETTINGS, ["event 7"], ["xReact"]) == {"event 7": EventInferences(answer(7).beams, 4)}
    assert cache.get(SETTINGS, ["t 7"], ["xReact"]) == {"t 7": answer(7)}


def test_rows_of_an_earlier_version_that_are_no_answers_are_left_behind(path: Path):
    save_former(path, 20)
    odd = [
        '[["sad',
        "[[1, 2]]",
        '[["sad", true]]',
        '[["sad", NaN]]',
        '{"ab": 1}',
        "7",
        '[["sad", -1.0, 2]]',
        "[" * 9000,
    ]
    with sqlite3.connect(path) as former:
        for number, beams in enumerate(odd):
            former.execute("UPDATE answers SET beams = ? WHERE event = ?", (beams, f"event {number}"))
        former.execute("UPDATE answers SET cut = 'x' WHERE event = 'event 8'")
        former.execute("UPDATE answers SET cut = 99 WHERE event = 'event 9'")
        former.execute("UPDATE answers SET beams = CAST(x'5b5bff' AS TEXT) WHERE event = 'event 10'")
    former.close()
    assert known(path, 20) == list(range(11, 20))


def test_a_broken_file_of_an_earlier_version_is_not_believed(path: Path, caplog: pytest.LogCaptureFixture):
    save_former(path, 2000)
    content = bytearray(path.read_bytes())
    content[40960:45056] = b"\xff" * 4096
    path.write_bytes(content)
    assert known(path, 2000) == []
    assert "0 answers recovered" in caplog.text
    fill(path, 0, 5)
    assert known(path, 5) == [0, 1, 2, 3, 4]


# Places that cannot be written


def test_a_place_where_nothing_can_be_kept(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalempError, match="cannot store inferences in") as caught:
        InferenceCache(tmp_path / "file" / "inferences.sqlite")
    assert "LOCALEMP_CACHE" in caught.value.hint


@pytest.mark.parametrize("there", [True, False])
def test_where_nothing_may_be_written_what_is_there_is_read(caplog: pytest.LogCaptureFixture, there: bool):
    with open_folder() as folder:
        path = folder / "inferences.sqlite"
        if there:
            fill(path, 0, 50)
        with only_read(folder):
            cache = InferenceCache(path)
            assert len(cache.get(SETTINGS, [f"event {number}" for number in range(60)], ["xReact"])) == 50 * there
            cache.put(SETTINGS, {"new": SAD})
            assert cache.get(SETTINGS, ["new"], ["xReact"]) == {}
            cache.close()
        assert caplog.text.count("new inferences are not stored") == 1
        assert known(path, 60) == list(range(50 * there))


def test_on_a_full_disk_what_is_there_is_read(path: Path, caplog: pytest.LogCaptureFixture, monkeypatch):
    fill(path, 0, 50)

    def full(_: Path) -> sqlite3.Connection:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(checked_values, "connect_to_write", full)
    cache = InferenceCache(path)
    assert len(cache.get(SETTINGS, [f"event {number}" for number in range(60)], ["xReact"])) == 50
    cache.put(SETTINGS, {"new": SAD})
    cache.close()
    assert caplog.text.count("new inferences are not stored") == 1


def test_a_broken_file_that_may_only_be_read_is_not_kept_open():
    with open_folder() as folder:
        path = folder / "inferences.sqlite"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE other (x)")
        with only_read(folder):
            cache = InferenceCache(path)
            for _ in range(3):
                assert cache.get(SETTINGS, ["event"], ["xReact"]) == {}
        opened = [os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()]
        assert str(path) not in opened


def test_a_file_that_may_not_be_written_in_a_folder_that_may(caplog: pytest.LogCaptureFixture):
    with open_folder() as folder:
        path = folder / "inferences.sqlite"
        fill(path, 0, 50)
        with only_read(folder, files_only=True):
            cache = InferenceCache(path)
            assert len(cache.get(SETTINGS, [f"event {number}" for number in range(50)], ["xReact"])) == 50
            cache.put(SETTINGS, {"new": SAD})
        assert caplog.text.count("new inferences are not stored") == 1


def test_entries_that_are_not_found_again_are_not_kept(tmp_path):
    connection = sqlite3.connect(tmp_path / "i.sqlite")
    connection.execute("CREATE TABLE answers (id INTEGER PRIMARY KEY, key BLOB UNIQUE, value BLOB, checksum BLOB)")
    connection.execute(
        "CREATE TRIGGER damage AFTER INSERT ON answers BEGIN UPDATE answers SET checksum = x'00' WHERE id = NEW.id; END"
    )
    connection.commit()
    with pytest.raises(sqlite3.DatabaseError, match="not found again"):
        insert_and_find(connection, {b"key": b"value"})
    connection.close()
    assert sqlite3.connect(tmp_path / "i.sqlite").execute("SELECT count(*) FROM answers").fetchone() == (0,)
