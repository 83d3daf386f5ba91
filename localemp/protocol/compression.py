"""Decompresses responses in bounded memory: a few kilobytes can expand to gigabytes."""

import zlib
from collections.abc import Iterator

from localemp.protocol.errors import MalformedResponseError

ACCEPTED = "gzip, deflate"
"""Value of the header Accept-Encoding. Some proxies compress whatever a request accepts."""

_UNDONE = frozenset(("gzip", "x-gzip", "deflate"))
_OTHERS = frozenset(("br", "zstd", "compress", "x-compress", "dcb", "dcz"))
_STEP = 2**18  # bytes decompressed at once
_GZIP, _RAW = 16 + zlib.MAX_WBITS, -zlib.MAX_WBITS


class Decompressor:
    """Decompresses one Content-Encoding.

    Args:
        encoding: Value of the header. Values that name no compression ("identity", "utf-8") are ignored.
        largest: Largest decompressed size, in bytes.

    Raises:
        MalformedResponseError: The encoding was not accepted.
    """

    def __init__(self, encoding: str, largest: int) -> None:
        kinds = [kind for part in encoding.lower().split(",") if (kind := part.strip()) in _UNDONE | _OTHERS]
        if len(kinds) > 1 or _OTHERS.intersection(kinds):
            raise MalformedResponseError(f"compressed as {encoding[:40]!r}, which was not accepted")
        self._kind = kinds[0] if kinds else ""
        self._left, self._largest = largest, largest
        self._inflate: zlib._Decompress | None = None

    def feed(self, part: bytes) -> Iterator[bytes]:
        """Decompress the next part, and yield it in pieces.

        Raises:
            MalformedResponseError: The data is damaged, or larger than allowed.
        """
        if not self._kind:
            yield self._counted(part)
            return
        try:
            while part:
                if (
                    self._inflate is not None
                    and self._inflate.eof
                    and (self._kind == "deflate" or not part.strip(b"\0"))
                ):
                    return  # what follows is padding
                if self._inflate is None or self._inflate.eof:  # gzip may have several members
                    self._inflate = zlib.decompressobj(self._format(part))
                yield self._counted(self._inflate.decompress(part, _STEP))
                part = self._inflate.unconsumed_tail or self._inflate.unused_data
        except zlib.error as error:
            raise MalformedResponseError(f"damaged {self._kind} data: {error}") from error

    def end(self) -> bytes:
        """Return what is left at the end.

        Raises:
            MalformedResponseError: The compressed data was cut.
        """
        if self._inflate is None:
            return b""
        rest = self._counted(self._inflate.flush(_STEP)) if not self._inflate.eof else b""
        if not self._inflate.eof:
            raise MalformedResponseError("the compressed data was cut")
        return rest

    def _format(self, beginning: bytes) -> int:
        if self._kind != "deflate":
            return _GZIP
        # RFC 9110 requires zlib's format; some servers send raw deflate.
        return zlib.MAX_WBITS if beginning[0] & 0x0F == 8 else _RAW

    def _counted(self, part: bytes) -> bytes:
        self._left -= len(part)
        if self._left < 0:
            raise MalformedResponseError(f"more than {self._largest // 2**20} MiB")
        return part


def decompress(content: bytes, encoding: str, largest: int) -> bytes:
    """Decompress a whole body. Raises what `Decompressor` raises."""
    decompressor = Decompressor(encoding, largest)
    return b"".join([*decompressor.feed(content), decompressor.end()])
