"""Lines, one at a time and bounded."""

import io

import pytest

from localemp.utils.lines import LongLineError, read_lines


@pytest.mark.parametrize(
    ("content", "lines"),
    [(b"", []), (b"a", [b"a"]), (b"a\n\nb\r\n", [b"a\n", b"\n", b"b\r\n"]), (b"a\rb\x0bc\n", [b"a\rb\x0bc\n"])],
)
def test_lines_keep_their_ends(content, lines):
    assert list(read_lines(io.BytesIO(content))) == lines


def test_a_line_of_the_longest_length_is_read_and_a_longer_one_told():
    assert list(read_lines(io.BytesIO(b"1234\n1234"), longest=5)) == [b"1234\n", b"1234"]
    read = read_lines(io.BytesIO(b"1\n12345\n"), longest=5)
    assert next(read) == b"1\n"
    with pytest.raises(LongLineError, match="more than") as caught:
        next(read)
    assert caught.value.line == 2
