"""Locks between processes: who is refused, and what only looks."""

import fcntl
import os
import threading

import pytest

from localemp.utils.locks import LockedError, file_lock, folder_lock, is_locked, lock
from localemp.utils.progress import Progress


@pytest.fixture
def descriptors(tmp_path):
    """Two descriptors of one file, as two processes have them."""
    path = tmp_path / "log"
    path.touch()
    found = [os.open(path, os.O_RDWR) for _ in range(2)]
    yield path, *found
    for descriptor in found:
        os.close(descriptor)


def test_a_second_process_is_refused(descriptors):
    path, first, second = descriptors
    assert not is_locked(path)
    lock(first, wait=False)
    assert is_locked(path)
    with pytest.raises(LockedError, match="another process"):
        lock(second, wait=False)


def test_a_process_that_only_looks_keeps_nobody_from_writing(descriptors):
    _, looking, writing = descriptors
    fcntl.flock(looking, fcntl.LOCK_SH)  # as `is_locked` does for a moment
    release = threading.Timer(0.03, fcntl.flock, (looking, fcntl.LOCK_UN))
    release.start()
    lock(writing, wait=False)
    release.join()


@pytest.mark.parametrize("kind", [file_lock, folder_lock])
def test_who_waits_says_so_and_for_what(tmp_path, kind):
    path = tmp_path / "lock" if kind is file_lock else tmp_path
    heard, task = [], "waiting for another process, which fetches smollm2"
    with kind(path, "fetches smollm2", heard.append):
        assert not heard, "nobody else holds it"
    held = os.open(path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)

    def release(progress: Progress) -> None:
        heard.append(progress)
        if not progress.done:
            fcntl.flock(held, fcntl.LOCK_UN)

    with kind(path, "fetches smollm2", release):
        assert heard == [Progress(task), Progress(task, 1, 1)]
    os.close(held)


def test_what_has_no_display_logs_that_it_waits(tmp_path, caplog):
    caplog.set_level("INFO", "localemp")
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    threading.Timer(0.5, fcntl.flock, (held, fcntl.LOCK_UN)).start()
    with folder_lock(tmp_path, "opens study.db"):
        assert caplog.messages == ["waiting for another process, which opens study.db"]
    os.close(held)
