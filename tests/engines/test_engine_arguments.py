"""Engine arguments are checked against vLLM's source, without vLLM's import."""

import sys
from importlib.util import find_spec

import pytest

from localemp.engines.vllm import arguments
from localemp.errors import LocalempError, OptionError, UnknownNameError
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline

SOURCE = """
import not_there
@dataclass
class EngineArgs:
    model: str = ModelConfig.model
    dtype: ModelDType = "auto"
    max_num_seqs: int | None = None
    gpu_memory_utilization: float = 0.9
    enforce_eager: bool = False
    backend: (
        str | type[Executor] | None
    ) = None
    tier: Literal["warn", "error"] = "warn"
    names: list[str] | None = None
    mamba: MambaConfig = None
    extra: "dict[str, Any] | None" = None
    speculative_config: dict[str, Any] | None = None
    _hidden: int = 0

@dataclass
class AsyncEngineArgs(EngineArgs):
    enable_log_requests: bool = False
"""


@pytest.fixture
def vllm_source(tmp_path, monkeypatch):
    """A package `vllm` with the source above."""
    (tmp_path / "vllm" / "engine").mkdir(parents=True)
    (tmp_path / "vllm" / "config").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("raise ImportError('nobody may import it')")
    (tmp_path / "vllm" / "engine" / "arg_utils.py").write_text(SOURCE)
    types = 'from typing import Literal\n\nModelDType = Literal["auto", "half", "float32"]\n'
    (tmp_path / "vllm" / "config" / "model.py").write_text(types)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    for cached in (arguments._arguments, arguments._literal):
        cached.cache_clear()
    yield tmp_path / "vllm"
    for cached in (arguments._arguments, arguments._literal):
        cached.cache_clear()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"max_num_seqs": 4, "enforce_eager": True, "enable_log_requests": False, "gpu_memory_utilization": 1},
        {"max_num_seqs": None, "backend": "ray", "tier": "error", "names": ["a"], "dtype": "half"},
        {"mamba": {"any": "thing"}, "extra": 5, "speculative_config": {"method": "ngram"}, "enforce_eager": 0},
    ],
)
def test_arguments_that_vllm_has(vllm_source, given):
    arguments.check_engine_args(given)


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"max_num_seq": 4}, "unknown engine argument 'max_num_seq'", "did you mean 'max_num_seqs'?"),
        ({"max_num_seqs": "4k"}, 'max_num_seqs="4k" cannot be used', "give a whole number"),
        ({"max_num_seqs": True}, "max_num_seqs=true cannot be used", "give a whole number"),
        ({"gpu_memory_utilization": "high"}, 'utilization="high" cannot be used', "give a number"),
        ({"enforce_eager": "yes"}, 'enforce_eager="yes" cannot be used', "give true or false"),
        ({"dtype": "float61"}, 'dtype="float61" cannot be used', "give one of auto, half, float32"),
        ({"tier": 1}, "tier=1 cannot be used", "give one of warn, error"),
        ({"names": "a"}, 'names="a" cannot be used', "give a JSON list"),
        ({"speculative_config": "ngram"}, 'speculative_config="ngram" cannot', "give a JSON object"),
    ],
)
def test_arguments_that_vllm_refuses(vllm_source, given, message, hint):
    with pytest.raises(LocalempError) as raised:
        arguments.check_engine_args({"enforce_eager": True, **given})
    assert isinstance(raised.value, UnknownNameError | OptionError)
    assert message in raised.value.message
    assert hint in raised.value.hint
    assert "_hidden" not in raised.value.hint


def test_a_pipeline_tells_before_anything_is_read(vllm_source):
    pipeline = Pipeline(RunConfig(strategy="similar", engine_args={"max_num_seq": 4}))
    with pytest.raises(UnknownNameError, match="max_num_seq"):
        pipeline.check_options()
    with pytest.raises(OptionError, match="only to vLLM"):
        Pipeline(RunConfig(model="gpt-4o", engine_args={"max_num_seqs": 4})).check_options()


@pytest.mark.parametrize("text", ["class Other:\n    x: int", "not Python (", "\0"])
def test_a_source_that_is_not_understood_leaves_it_to_vllm(vllm_source, text):
    (vllm_source / "engine" / "arg_utils.py").write_text(text)
    arguments.check_engine_args({"anything": 1})


@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_the_installed_vllm_is_understood():
    arguments._arguments.cache_clear()
    assert {"tensor_parallel_size", "enable_log_requests", "max_num_seqs"} <= arguments._arguments().keys()
    assert arguments._literal("ModelDType") is not None
