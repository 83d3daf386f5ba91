"""Large files are hashed once, and again as soon as they can be others."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from read_only import only_read, open_folder

from localemp.models import stamps
from localemp.models.checksums import sha256_file, sha256_files
from localemp.models.stamps import SMALLEST, hash_all, hash_and_stamp, known_sha256, sha256_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOCALEMP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(stamps.VERIFY_VARIABLE, raising=False)
    monkeypatch.setattr(stamps, "_SETTLED", -(10**18))  # as if the files had been written long ago
    return tmp_path / "cache"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"w" * SMALLEST)
    return path


def test_a_file_is_hashed_once(weights: Path):
    assert known_sha256(weights) is None
    digest = sha256_of(weights)
    assert digest == sha256_file(weights) == known_sha256(weights)
    weights.with_name("link").symlink_to(weights)
    assert known_sha256(weights.with_name("link")) == digest


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(17)
        file.write(b"X")


def overwrite_and_hide(path: Path) -> None:
    before = path.stat()
    overwrite(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_copy(path: Path) -> None:
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


@pytest.mark.parametrize("change", [overwrite, overwrite_and_hide, replace_by_copy, lambda path: os.truncate(path, 5)])
def test_a_changed_file_is_hashed_again(weights: Path, change: Callable[[Path], None]):
    sha256_of(weights)
    time.sleep(0.02)  # disks note times in steps of a few milliseconds; `_SETTLED` is for that
    change(weights)
    assert known_sha256(weights) is None
    assert sha256_of(weights) == sha256_file(weights)


def test_a_copied_stamp_is_not_believed(weights: Path, cache: Path):
    other = weights.with_name("other")
    other.write_bytes(b"o" * SMALLEST)
    sha256_of(weights)
    (stamp,) = (cache / "hashes").iterdir()
    shutil.copy(stamp, cache / "hashes" / f"{other.stat().st_dev:x}-{other.stat().st_ino:x}.json")
    assert known_sha256(other) is None


@pytest.mark.parametrize("content", ["", "[]", '{"sha256": 1}', "{" * 500, "\0"])
def test_a_broken_stamp_is_not_believed(weights: Path, cache: Path, content: str):
    sha256_of(weights)
    (stamp,) = (cache / "hashes").iterdir()
    stamp.write_text(content)
    assert known_sha256(weights) is None
    stamp.write_text(json.dumps({**stamps._identity(weights.stat()), "sha256": "short"}))
    assert known_sha256(weights) is None
    assert sha256_of(weights) == known_sha256(weights)


def test_all_is_hashed_if_that_is_asked_for(weights: Path, monkeypatch: pytest.MonkeyPatch):
    sha256_of(weights)
    with hash_all():
        assert known_sha256(weights) is None
    assert known_sha256(weights)
    monkeypatch.setenv(stamps.VERIFY_VARIABLE, "1")
    assert known_sha256(weights) is None
    monkeypatch.setenv(stamps.VERIFY_VARIABLE, "0")
    assert known_sha256(weights)


def test_small_files_and_those_just_written_have_no_stamp(weights: Path, monkeypatch: pytest.MonkeyPatch):
    small = weights.with_name("config.json")
    small.write_text("{}")
    assert sha256_of(small) == sha256_file(small)
    assert known_sha256(small) is None
    monkeypatch.setattr(stamps, "_SETTLED", 10**18)
    hash_and_stamp(weights)
    assert known_sha256(weights) is None


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch):
    with open_folder() as folder:
        monkeypatch.setenv("LOCALEMP_CACHE", str(folder / "cache"))
        weights = folder / "model.safetensors"
        weights.write_bytes(b"w" * SMALLEST)
        with only_read(folder):
            assert sha256_of(weights) == sha256_file(weights)
            assert known_sha256(weights) is None
        sha256_of(weights)
        with only_read(folder / "cache"):
            assert known_sha256(weights)


def test_progress_counts_what_is_really_hashed(weights: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("localemp.models.checksums._AT_ONCE", 0)
    weights.with_name("config.json").write_text("{}")
    names, heard = ["config.json", "model.safetensors"], []
    first = sha256_files(weights.parent, names, heard.append)
    assert (heard[-1].done, heard[-1].total) == (SMALLEST + 2, SMALLEST + 2)
    heard.clear()
    assert sha256_files(weights.parent, names, heard.append) == first
    assert heard[-1].total == 2
