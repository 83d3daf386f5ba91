"""What exceptions of vLLM say, without vLLM."""

import pytest

from localemp.engines.vllm.process import reason


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("\n one\n\ntwo\nthree\nfour"), "one two three"),
        (caused(RuntimeError(), KeyError("lora")), "'lora'"),
        (caused(RuntimeError("own words"), KeyError("lora")), "own words"),
        (caused(RuntimeError(), caused(RuntimeError(), OSError())), "OSError"),
        (ValueError("half \ud83d \x1b[2J"), "half \ufffd \\x1b[2J"),
        (ValueError("x" * 10_000), "x" * 299 + "…"),
    ],
)
def test_what_an_exception_says(error, said):
    assert reason(error) == said
