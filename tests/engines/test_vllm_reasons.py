"""What exceptions of vLLM say, without vLLM."""

import pytest

from localemp.engines.vllm.process import known_cause, reason


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


def test_a_kernel_that_the_cpu_build_only_declares():
    """What `quantization=fp8` ends with on a CPU."""
    log = (
        "(EngineCore pid=7) ERROR 11-30 00:11:02 [core.py:1] RuntimeError: _C::static_scaled_fp8_quant() expected at "
        "most 0 argument(s) but received 4 argument(s). Declaration: _C::static_scaled_fp8_quant() -> ()\n"
    )
    said, hint = known_cause(log, lambda name: f"--engine-arg {name}")
    assert said == "this build of vLLM has no static_scaled_fp8_quant, which these settings need"
    assert hint.startswith("with --engine-arg quantization take another method")
