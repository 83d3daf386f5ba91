"""Detects whether a relayed stream ended properly, without decoding it or holding it back."""

import re

# In the text of a reply the quotes would be escaped. An error is an end, too.
_COMPLETE = re.compile(rb'"finish_reason"\s{0,8}:\s{0,8}"|(?:^|[\r\n])data:\s{0,8}(?:\[DONE\]|\{\s{0,8}"error")')
_DONE = re.compile(rb"(?:^|[\r\n])data:\s{0,8}\[DONE\]")
_LONGEST = 64  # bytes, more than either can match


class StreamEnd:
    """Watches the parts of a streamed completion on their way to a client.

    Attributes:
        complete: Whether a finish reason, "[DONE]" or an error was among them.
        done: Whether "[DONE]" was, after which nothing follows.
    """

    def __init__(self) -> None:
        self.complete = self.done = False
        self._tail = b"\n"

    def feed(self, part: bytes) -> None:
        """Search the next part, and what is split between it and the one before."""
        if self.done:
            return
        seen = self._tail + part
        if not self.complete and _COMPLETE.search(seen):
            self.complete = True
        if self.complete and (last := seen.rfind(b"[DONE]")) >= 0:
            # Only there: a scan of a large part takes longer than all the rest.
            self.done = _DONE.search(seen, max(0, last - _LONGEST)) is not None
        self._tail = seen[-_LONGEST:]
