"""The store of answers: kept for good, shared by processes, and mended after a crash."""

import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from localemp.commonsense.cache import InferenceCache
from localemp.commonsense.relations import Answer, Beam
from localemp.errors import LocalempError

SETTINGS = {"comet_sha256": "ab", "beams": 5}
SAD = Answer({"xReact": (Beam("sad", -0.5), Beam("lonely", -0.75)), "xWant": ()}, cut=3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "inferences.sqlite"


def fill(path: Path, first: int, count: int, settings: dict[str, object] = SETTINGS) -> None:
    cache = InferenceCache(path)
    for number in range(first, first + count):
        cache.put(settings, {f"event {number}": Answer({"xReact": (Beam(f"feeling {number}", -1.0),)})})
    cache.close()


def known(path: Path, count: int) -> int:
    cache = InferenceCache(path)
    found = cache.get(SETTINGS, [f"event {number}" for number in range(count)], ["xReact"])
    for event, answer in found.items():
        assert answer.beams["xReact"][0].text == event.replace("event", "feeling")
    cache.close()
    return len(found)


def test_what_was_put_is_got_by_settings_event_and_relation(path: Path):
    cache = InferenceCache(path)
    cache.put(SETTINGS, {"my dog died": SAD})
    assert cache.get(SETTINGS, ["my dog died", "other"], ["xReact", "xWant", "xNeed"]) == {"my dog died": SAD}
    assert cache.get(dict(reversed(SETTINGS.items())), ["my dog died"], ["xWant"])["my dog died"].beams == {"xWant": ()}
    assert cache.get({**SETTINGS, "beams": 4}, ["my dog died"], ["xReact"]) == {}
    assert cache.get(SETTINGS, ["My dog died"], ["xReact"]) == {}
    assert InferenceCache(path).get(SETTINGS, ["my dog died"], ["xReact", "xWant"]) == {"my dog died": SAD}


def test_many_processes_write_at_once(path: Path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=fill, args=(path, 30 * number, 30)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert known(path, 120) == 120


def test_no_database_is_moved_aside_and_work_goes_on(path: Path, caplog: pytest.LogCaptureFixture):
    path.parent.mkdir()
    path.write_bytes(b"this is my diary, no database at all " * 100)
    fill(path, 0, 2)
    assert known(path, 2) == 2
    (aside,) = path.parent.glob("inferences.damaged-*.sqlite")
    assert aside.read_bytes().startswith(b"this is my diary")
    assert f"{path} was damaged and is now inferences.damaged-1.sqlite; 0 answers could be saved" in caplog.text


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
    assert 1700 < len(found) < 2000
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


def test_an_answer_that_cannot_be_read_is_as_if_it_were_not_there(path: Path):
    fill(path, 0, 2)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE answers SET beams = '[[\"fee' WHERE event = 'event 0'")
    assert known(path, 2) == 1


def test_a_place_where_nothing_can_be_kept(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalempError, match="cannot be kept in") as caught:
        InferenceCache(tmp_path / "file" / "inferences.sqlite")
    assert "LOCALEMP_CACHE" in caught.value.hint
