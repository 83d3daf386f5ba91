"""Locks between processes: who is refused, and what only looks."""

import fcntl
import os
import threading

import pytest

from localemp.utils.locks import LockedError, is_locked, lock


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
