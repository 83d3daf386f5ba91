"""The end of a stream that is passed on."""

import pytest

from localemp.serving.proxy.stream_end import StreamEnd

BEGUN = b'data: {"choices": [{"delta": {"content": "Oh"}, "finish_reason": null}]}\n\n'


@pytest.mark.parametrize(
    ("end", "complete"),
    [
        (b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n', True),
        (b'data:{"choices":[{"delta":{},"finish_reason":"length"}]}\r\r', True),
        (b"data: [DONE]\n\n", True),
        (b"data:[DONE]", True),
        (b'data: {"error": {"message": "gone"}}\n\n', True),
        (b"", False),
        (b'data: {"choices": [{"delta": {"content": "[DONE]"}, "finish_reason": null}]}\n\n', False),
        (b'data: {"choices": [{"delta": {"content": "\\"finish_reason\\": \\"stop\\""}}]}\n\n', False),
    ],
)
def test_a_stream_is_complete_when_it_says_so(end, complete):
    raw = BEGUN + end
    for size in (1, 5, 1_000):
        seen = StreamEnd()
        for at in range(0, len(raw), size):
            seen.feed(raw[at : at + size])
        assert seen.complete == complete
        assert seen.done == (b"data:" in end and end.rstrip().endswith(b"[DONE]"))
