"""Compressed answers: undone where they were accepted, bounded always."""

import gzip
import zlib

import pytest

from localemp.protocol.compression import Decompressor, decompress
from localemp.protocol.errors import UnreadableAnswerError

TEXT = b"Oh no, your keys. " * 200
RAW = zlib.compressobj(wbits=-15)
RAW_DEFLATE = RAW.compress(TEXT) + RAW.flush()


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("", TEXT),
        ("identity", TEXT),
        ("utf-8", TEXT),
        ("identity, gzip", gzip.compress(TEXT)),
        ("gzip", gzip.compress(TEXT)),
        ("GZIP", gzip.compress(TEXT)),
        ("x-gzip", gzip.compress(TEXT)),
        ("gzip", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", RAW_DEFLATE),
    ],
)
def test_undone(encoding, packed):
    assert decompress(packed, encoding, 2**20) == TEXT
    by_byte = Decompressor(encoding, 2**20)
    parts = [piece for at in range(len(packed)) for piece in by_byte.feed(packed[at : at + 1])]
    assert b"".join([*parts, by_byte.end()]) == TEXT


@pytest.mark.parametrize(
    ("encoding", "packed", "message"),
    [
        ("br", b"x", "compressed as 'br'"),
        ("gzip, gzip", b"x", "compressed as 'gzip, gzip'"),
        ("gzip", b"plain text", "damaged"),
        ("gzip", gzip.compress(TEXT)[:-20], "cut"),
        ("deflate", zlib.compress(TEXT)[:20], "cut"),
        ("gzip", gzip.compress(bytes(50 * 2**20)), "more than 1 MiB"),
        ("", bytes(2 * 2**20), "more than 1 MiB"),
    ],
)
def test_refused(encoding, packed, message):
    with pytest.raises(UnreadableAnswerError, match=message):
        decompress(packed, encoding, 2**20)
