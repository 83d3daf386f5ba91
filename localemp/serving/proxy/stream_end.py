"""Whether a stream that is passed on as it comes has said that it is whole; nothing of it is decoded or held back."""

import re

# In the text of a reply its quotes would be escaped. An error is an end, too.
_SAID = re.compile(rb'"finish_reason"\s{0,8}:\s{0,8}"|(?:^|[\r\n])data:\s{0,8}(?:\[DONE\]|\{\s{0,8}"error")')
_LONGEST = 64  # bytes of what is looked for, and more


class StreamEnd:
    """Looks at the parts of a streamed completion on their way to a client.

    Attributes:
        whole: Whether a finish reason, "[DONE]" or an error was among them.
    """

    def __init__(self) -> None:
        self.whole = False
        self._tail = b"\n"

    def feed(self, part: bytes) -> None:
        """Look at the next part; what is cut between two parts is found, too."""
        if not self.whole:
            seen = self._tail + part
            self.whole = _SAID.search(seen) is not None
            self._tail = seen[-_LONGEST:]
