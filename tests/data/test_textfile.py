"""Text files: bounded, whatever they unpack to."""

import gzip

import pytest

from localemp.data.textfile import ALWAYS_UNPACKED, MOST_UNPACKED, read_lines
from localemp.errors import DataError


@pytest.mark.parametrize("line", [b"\0" * 2**20, b"x" * 1023 + b"\n"])
def test_a_file_that_unpacks_without_end_is_refused_on_the_way(tmp_path, line):
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", 1) as file:
        for _ in range(2**30 // len(line)):
            file.write(line)
    assert path.stat().st_size < 8 * 2**20
    with pytest.raises(DataError, match=r"more than \d+ MiB"):
        read_lines(path)


def test_what_is_packed_well_is_read(tmp_path):
    path = tmp_path / "same.gz"
    path.write_bytes(gzip.compress(b"the same line\n" * 500_000))
    assert path.stat().st_size * MOST_UNPACKED < 500_000 * 14 < ALWAYS_UNPACKED
    assert read_lines(path) == ["the same line"] * 500_000


def test_a_line_without_end_is_told_with_its_number(tmp_path):
    path = tmp_path / "long.txt"
    with path.open("wb") as file:
        file.write(b"short\n")
        file.truncate(2**27)
    with pytest.raises(DataError, match=r"line 2: the line has more than 64 MiB"):
        read_lines(path)


def test_a_byte_order_mark_and_every_line_end(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffa\r\n\ufeffb\u2028c\r\r\n\nd".encode())
    assert read_lines(path) == ["a", "\ufeffb\u2028c\r", "", "d"]


def test_what_is_no_utf_8_can_be_replaced(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\ncaf\xe9\n")
    with pytest.raises(DataError, match=r"line 2: not valid UTF-8"):
        read_lines(path)
    assert read_lines(path, errors="replace") == ["a", "caf\ufffd"]
