"""The quantities that `localemp bench` measures: names in files and tables, units, and which direction is better."""

from dataclasses import dataclass
from typing import Literal

from localemp.errors import UnknownNameError

Better = Literal["more", "less", ""]


@dataclass(frozen=True, slots=True)
class Quantity:
    """A quantity.

    Attributes:
        name: Its name in files.
        title: Its name in tables and plots.
        unit: Empty for a ratio; "%" is shown as a percentage of a value between 0 and 1.
        better: The better direction; empty if there is none.
        decimals: The number of decimals shown.
    """

    name: str
    title: str
    unit: str
    better: Better
    decimals: int

    @property
    def head(self) -> str:
        """The head of its column."""
        return f"{self.title}, {self.unit}" if self.unit not in ("", "%") else self.title

    def shown(self, value: float) -> str:
        """Return a value as tables show it, without its unit; a median of counts is not rounded."""
        if not self.unit and not self.decimals:
            return f"{value:,.10g}"
        return f"{100 * value:,.{self.decimals}f} %" if self.unit == "%" else f"{value:,.{self.decimals}f}"


_TIMES = {
    "ttft": "time to first token",
    "itl": "between chunks",
    "tpot": "time per output token",
    "e2e": "whole answer",
}

_ALL = (
    Quantity("replies_per_s", "replies", "1/s", "more", 2),
    Quantity("reply_tokens_per_s", "reply tokens", "1/s", "more", 0),
    Quantity("prompt_tokens_per_s", "prompt tokens", "1/s", "more", 0),
    Quantity("tokens_per_s", "all tokens", "1/s", "more", 0),
    Quantity("seconds", "time", "s", "less", 2),
    Quantity("seconds_per_1000", "1,000 replies", "s", "less", 1),
    Quantity("gpu_seconds_per_1000", "1,000 replies", "GPU-s", "less", 1),
    Quantity("usd_per_1000", "1,000 replies", "USD", "less", 4),
    Quantity("tokens_per_reply", "tokens of a reply", "", "", 1),
    Quantity("prompt_tokens_per_reply", "prompt tokens of a reply", "", "less", 1),
    Quantity("prefix_hits", "prefix-cache hits", "%", "more", 1),
    Quantity("start_s", "engine start", "s", "less", 1),
    Quantity("weights_gib", "weights", "GiB", "less", 2),
    Quantity("peak_memory_gib", "peak memory", "GiB", "less", 2),
    Quantity("utilisation", "utilisation", "%", "more", 0),
    Quantity("copy_gb_per_s", "copy bandwidth", "GB/s", "more", 1),
    Quantity("matrix_tflops", "matrix rate", "TFLOP/s", "more", 2),
    Quantity("prefill_tokens_per_s", "prefill", "tokens/s", "more", 0),
    Quantity("mfu", "prefill, of matrix rate (MFU)", "%", "more", 1),
    Quantity("decode_tokens_per_s", "decode", "tokens/s", "more", 0),
    Quantity("step_ms", "decode step", "ms", "less", 2),
    Quantity("mbu", "decode, of bandwidth (MBU)", "%", "more", 1),
    Quantity("run_mfu", "whole run, of the data sheet's matrix rate (MFU)", "%", "more", 1),
    Quantity("run_mbu", "whole run, of the data sheet's bandwidth (MBU, at least)", "%", "more", 1),
    Quantity("of_published", "localemp / published", "", "more", 3),
    Quantity("flops_per_byte", "arithmetic intensity", "FLOP/byte", "", 1),
    Quantity("tflops", "attained", "TFLOP/s", "more", 3),
    Quantity("vllm_tokens_per_s", "vLLM's own benchmark, all tokens", "1/s", "more", 0),
    Quantity("of_vllm", "localemp / vLLM's own benchmark", "", "more", 3),
    Quantity("encoder_s", "encoder", "s", "less", 2),
    Quantity("comet_s", "COMET", "s", "less", 2),
    Quantity("prefill_s", "prefill", "s", "less", 2),
    Quantity("decode_s", "decode", "s", "less", 2),
    Quantity("engine_s", "prefill and decode together", "s", "less", 2),
    Quantity("own_s", "our own code", "s", "less", 2),
    Quantity("requests_per_s", "requests", "1/s", "more", 2),
    Quantity("goodput_per_s", "goodput", "1/s", "more", 2),
    Quantity("in_time", "within the limits", "%", "more", 1),
    Quantity("errors", "errors", "", "less", 0),
    Quantity("failed", "failed requests", "%", "less", 1),
    *(
        Quantity(f"{name}_p{part}_ms", f"{title} p{part}", "ms", "less", 1)
        for name, title in _TIMES.items()
        for part in (50, 90, 99)
    ),
    Quantity("texts_per_s", "texts", "1/s", "more", 1),
    Quantity("text_tokens_per_s", "tokens of texts", "1/s", "more", 0),
    Quantity("queries_per_s", "queries", "1/s", "more", 1),
    Quantity("scored_per_s", "replies scored", "1/s", "more", 1),
    Quantity("gain", "gain", "%", "more", 1),
    Quantity("same_replies", "same replies", "%", "more", 1),
)

QUANTITIES = {quantity.name: quantity for quantity in _ALL}


def quantity(name: str) -> Quantity:
    """Return a quantity by name.

    Raises:
        UnknownNameError: There is no such quantity.
    """
    if name not in QUANTITIES:
        raise UnknownNameError("quantity", name, QUANTITIES)
    return QUANTITIES[name]
