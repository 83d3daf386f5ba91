"""Compressed answers: undone where they were accepted, bounded always."""

import gzip
import zlib

import pytest

from localemp.protocol.compression import Decompressor, decompress
from localemp.protocol.errors import MalformedResponseError

TEXT = b"Oh no, your keys. " * 200
RAW = zlib.compressobj(wbits=-15)
RAW_DEFLATE = RAW.compress(TEXT) + RAW.flush()


PACKED = {
    "none": TEXT,
    "gzip": gzip.compress(TEXT),
    "members": gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:]),
    "zlib": zlib.compress(TEXT),
    "raw": RAW_DEFLATE,
    "padded": gzip.compress(TEXT) + b"\0" * 700,
    "padded zlib": zlib.compress(TEXT) + b"more",
}


@pytest.mark.parametrize(
    ("encoding", "form"),
    [
        ("", "none"),
        ("identity", "none"),
        ("utf-8", "none"),
        ("identity, gzip", "gzip"),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip", "members"),
        ("deflate", "zlib"),
        ("deflate", "raw"),
        ("gzip", "padded"),
        ("deflate", "padded zlib"),
    ],
)
def test_undone(encoding, form):
    packed = PACKED[form]
    assert decompress(packed, encoding, 2**20) == TEXT
    by_byte = Decompressor(encoding, 2**20)
    parts = [piece for at in range(len(packed)) for piece in by_byte.feed(packed[at : at + 1])]
    assert b"".join([*parts, by_byte.end()]) == TEXT


@pytest.mark.parametrize(
    ("encoding", "form", "most", "message"),
    [
        ("br", "none", None, "compressed as 'br'"),
        ("gzip, gzip", "gzip", None, "compressed as 'gzip, gzip'"),
        ("gzip", "none", None, "damaged"),
        ("gzip", "gzip", -20, "cut"),
        ("deflate", "zlib", 20, "cut"),
        ("gzip", "bomb", None, "more than 1 MiB"),
        ("", "zeros", None, "more than 1 MiB"),
    ],
)
def test_refused(encoding, form, most, message):
    large = {"bomb": gzip.compress(bytes(50 * 2**20)), "zeros": bytes(2 * 2**20)}
    with pytest.raises(MalformedResponseError, match=message):
        decompress((PACKED | large)[form][:most], encoding, 2**20)
