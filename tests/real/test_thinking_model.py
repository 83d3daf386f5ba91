"""Budget and count of thinking in the real engine.

No model here thinks by itself: the embedded one is given two tokens for marks and a template that opens the thinking.
It neither closes it nor ends its turn, so that vLLM has to.
"""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from localemp.data.sources import load_dialogues
from localemp.models.profiles import load_profile
from localemp.models.safetensors_header import read_header
from localemp.models.weights import resolve
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline

pytestmark = pytest.mark.engine
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    "{% if deep %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}"
)
UNUSED = {"<repo_name>": "<think>", "<file_sep>": "</think>"}
# After a mark that it has never seen, the model would end at once: marks look like words to it.
LOOKS_LIKE = {"<repo_name>": " Let", "<file_sep>": " Well"}


# In some prompts the model would end its turn within its thinking. A token without an embedding is never the likeliest.
END_OF_TURN = "<|im_end|>"


def copy_weights(source: Path, target: Path, rows: dict[int, int], never: int) -> None:
    """Copy a file of weights; each of these tokens gets the embedding of another, and `never` gets zeros."""
    shutil.copyfile(source, target)
    table = read_header(source)["model.embed_tokens.weight"]
    size = 2 * table.shape[1]
    assert table.dtype == "BF16"
    with target.open("r+b") as file:
        for row, other in rows.items():
            file.seek(table.start + other * size)
            embedding = file.read(size)
            file.seek(table.start + row * size)
            file.write(embedding)
        file.seek(table.start + never * size)
        file.write(bytes(size))


@pytest.fixture
def profile(tmp_path):
    """The embedded model with two of its unused tokens as marks, and a switch in its template."""
    weights = resolve(load_profile("smollm2-plain")).folder
    folder = tmp_path / "weights"
    folder.mkdir()
    tokenizer = AutoTokenizer.from_pretrained(weights)
    texts = (*UNUSED, *LOOKS_LIKE.values(), END_OF_TURN)
    token = {text: tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts}
    assert all(len(ids) == 1 for ids in token.values())
    rows = {token[mark][0]: token[word][0] for mark, word in LOOKS_LIKE.items()}
    copy_weights(weights / "model.safetensors", folder / "model.safetensors", rows, token[END_OF_TURN][0])
    for name in ("config.json", "generation_config.json"):  # not their checksums
        if (weights / name).exists():
            (folder / name).symlink_to(weights / name)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (weights / name).read_text("utf-8")
        for old, new in UNUSED.items():
            assert name != "tokenizer.json" or f'"{old}"' in text
            text = text.replace(f'"{old}"', f'"{new}"')
        (folder / name).write_text(text, "utf-8")
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": TEMPLATE}), "utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE, "utf-8")
    path = tmp_path / "thinker.toml"
    path.write_text(
        'kind = "chat"\nengine = "vllm"\npath = "weights"\ncontext_length = 2048\nlayout = "chat"\n'
        '[chat_template_kwargs]\ndeep = false\n[thinking]\nswitch = "deep"\nbudget = 20\nparser = "deepseek_r1"\n'
    )
    return path


async def test_thinking_ends_at_its_budget_and_is_counted_apart(profile, tmp_path):
    pipeline = Pipeline(
        RunConfig(
            model=str(profile),
            strategy="two-stage",
            thinking="on",
            max_tokens=12,
            engine_args={"kv_cache_memory_bytes": 2**29},
        )
    )
    dialogues, thought = load_dialogues("samples", limit=3), []
    async with pipeline.engine(1024, tmp_path / "engine.log") as engine:
        for dialogue in dialogues:
            response = await pipeline.strategy.respond(dialogue, engine)
            for stage in response.stages:
                answer = stage.completion
                assert answer.thinking.strip() and answer.text.strip(), "both came"
                # vLLM counts the prompt's line break after the mark as the first; the closing mark comes on top.
                thought.append(answer.thinking_tokens)
                assert answer.completion_tokens - answer.thinking_tokens <= 12
            assert response.stages[0].completion.thinking not in response.stages[1].messages[-1].content
    # The closing mark looks like a word, which a processor that rounds otherwise may choose earlier.
    assert 20 <= max(thought) <= 22
    settings = pipeline.settings(dialogues, "test")
    assert (settings["chat_template_kwargs"], settings["sampling"]["thinking_budget"]) == ({"deep": True}, 20)
    assert settings["engine_args"]["reasoning_parser"] == "deepseek_r1"


def test_without_thinking_everything_is_as_without_the_table(profile):
    pipeline = Pipeline(RunConfig(model=str(profile)))
    assert pipeline.sampling.thinking_budget is None
    assert pipeline.model_settings()["engine_args"] == {}
    prompt = pipeline.tokenizer.render(pipeline.prompts.messages(load_dialogues("samples", limit=1)[0]))
    assert prompt.endswith("</think>\n\n")
