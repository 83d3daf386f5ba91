"""Engine arguments as options of vLLM's server, and the user's options read as engine arguments."""

import pytest

from localemp.engines.vllm.determinism import ONE_AT_A_TIME, Determinism
from localemp.errors import OptionError
from localemp.serving.vllm.options import as_options, read_options

ARGS = {"max_num_seqs": 1, "enable_lora": True, "enable_prefix_caching": False, "dtype": "float32"}
ALONE = Determinism(ONE_AT_A_TIME, "", {"max_num_seqs": 1, "enable_prefix_caching": False})


def test_what_is_written_is_read_back():
    options = as_options(ARGS)
    assert options == ["--max-num-seqs", "1", "--enable-lora", "--no-enable-prefix-caching", "--dtype", "float32"]
    assert read_options(options) == ARGS
    assert as_options({"reasoning_config": {"reasoning_start_str": "<a>"}})[1] == '{"reasoning_start_str": "<a>"}'


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("--max_num_seqs=8", {"max_num_seqs": 8}),
        ("--max-num-seqs 8 --max-num-seqs=1", {"max_num_seqs": 1}),
        ("--enable-lora --no-enable-lora", {"enable_lora": False}),
        ("--max-loras many", {"max_loras": "many"}),
        ("--max-loras -1", {"max_loras": "-1"}),
        ("--max-loras=", {"max_loras": ""}),
        ("--lora-modules a=b c=d", {"lora_modules": "a=b"}),
    ],
    ids=["underscores", "last", "last-flag", "no-number", "negative", "empty", "several-values"],
)
def test_the_users_options_are_read_as_vllm_reads_them(words, found):
    assert read_options(words.split()) == found


@pytest.mark.parametrize("words", ["--max-num-seqs 1", "--max_num_seqs=1", "--no-enable-prefix-caching", "--dtype x"])
def test_options_that_agree_with_deterministic_are_taken(words):
    ALONE.check(read_options(words.split()))


@pytest.mark.parametrize(
    "words", ["--max-num-seqs 8", "--max_num_seqs=8", "--max-num-seqs=", "--enable-prefix-caching", "--max-num-seqs -1"]
)
def test_options_that_contradict_deterministic_are_refused(words):
    with pytest.raises(OptionError, match="contradicts it"):
        ALONE.check(read_options(words.split()))
