"""Atomic replacement and locks."""

import os
import stat
import sys
import threading
from types import SimpleNamespace

import pytest
from read_only import only_read, open_folder

from localemp.engines.vllm.process import new_log
from localemp.utils.files import has_room, open_regular, write_atomically
from localemp.utils.locks import file_lock


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, "old")
    write_atomically(path, b"new", mode=0o600)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    (tmp_path / "a.json").symlink_to(theirs)
    write_atomically(tmp_path / "a.json", "ours")
    assert theirs.read_text() == "theirs"
    assert (tmp_path / "a.json").read_text() == "ours"


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError):
        write_atomically(tmp_path / "a", "x")  # a folder cannot be replaced by a file
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def interrupted(at, call):
    """Press Ctrl-C before the given line of `write_atomically`; returns whether there were as many."""
    lines = 0

    def line(frame, event, arg):
        nonlocal lines
        lines += event == "line"
        if event == "line" and lines == at:
            raise KeyboardInterrupt
        return line

    before = sys.gettrace()
    sys.settrace(lambda frame, event, arg: line if frame.f_code is write_atomically.__code__ else None)
    try:
        call()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return lines >= at


def test_ctrl_c_at_any_line_leaves_the_old_file_or_the_new_one_and_nothing_else(tmp_path):
    path, at = tmp_path / "a.json", 1
    path.write_text("old")
    while interrupted(at, lambda: write_atomically(path, "new")):
        assert [each.name for each in tmp_path.iterdir()] == ["a.json"], at
        assert path.read_text() in ("old", "new")
        at += 1
    assert at > 8 and path.read_text() == "new"


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    path, order = tmp_path / ".lock", []
    began = threading.Event()

    def other() -> None:
        began.set()
        with file_lock(path, "writes"):
            order.append("other")

    with file_lock(path, "writes"):
        thread = threading.Thread(target=other)
        thread.start()
        began.wait()
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_a_lock_that_is_a_link_is_refused_and_its_target_kept(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.write_text("precious")
    (tmp_path / ".lock").symlink_to(theirs)
    with pytest.raises(OSError), file_lock(tmp_path / ".lock", "writes"):
        pass
    assert theirs.read_text() == "precious"


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, said in ((tmp_path / "pipe", "Not a regular file"), (tmp_path, "Is a directory")):
        with pytest.raises(OSError, match=said):
            open_regular(path)
    (tmp_path / "file").write_bytes(b"x")
    with open_regular(tmp_path / "file") as file:
        assert file.read() == b"x"


def test_where_there_is_room(tmp_path, monkeypatch):
    assert has_room(tmp_path)
    assert not has_room(tmp_path / "none")
    with open_folder() as folder, only_read(folder):
        assert not has_room(folder)
    monkeypatch.setattr("os.statvfs", lambda _: SimpleNamespace(f_bavail=0))
    assert not has_room(tmp_path)


def test_a_log_is_elsewhere_where_the_cache_takes_no_files(monkeypatch):
    with open_folder() as folder:
        monkeypatch.setenv("LOCALEMP_CACHE", str(folder))
        assert new_log().parent == folder / "logs"
        with only_read(folder):
            log = new_log("serve")
            log.write_text("said")
        assert not log.is_relative_to(folder)
        log.unlink()
        log.parent.rmdir()
