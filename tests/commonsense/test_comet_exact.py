"""COMET's answers against plain transformers' beam search, one query at a time in float32, on many events."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_comet import VOCABULARY, save_tiny
from transformers import BartForConditionalGeneration, PreTrainedTokenizerFast

from localemp.commonsense.comet import Comet
from localemp.commonsense.decoding import ATTENTION, Texts
from localemp.models.atomic import RELATIONS

WAYS = {"relation in the query": ("{event} {relation} [GEN]", ""), "relation as prompt": ("{event}", "{relation}")}
CHECKPOINTS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "a forced first token": {"forced_bos_token_id": 0},
    "what BART-large brings": {"early_stopping": True, "num_beams": 4, "no_repeat_ngram_size": 3},
    "a length penalty": {"length_penalty": 2.0, "num_beams": 4},
}


pytestmark = pytest.mark.usefixtures("one_thread")


def many_events(count: int) -> list[str]:
    rng, words = random.Random(0), VOCABULARY.split()
    return [" ".join(rng.choices(words, k=rng.randint(1, 12))) for _ in range(count)]


@pytest.mark.parametrize("brings", CHECKPOINTS.values(), ids=CHECKPOINTS)
@pytest.mark.parametrize(("query", "prompt"), WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("beams", [1, 5])
def test_every_answer_is_that_of_a_plain_search(
    tmp_path: Path, query: str, prompt: str, brings: dict[str, Any], beams: int
):
    model = BartForConditionalGeneration.from_pretrained(save_tiny(tmp_path))
    for name, value in brings.items():
        setattr(model.generation_config, name, value)
    model.generation_config.save_pretrained(tmp_path)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    events = many_events(16)
    # Several batches of several texts.
    comet = Comet(
        tmp_path,
        query=query,
        decoder_prompt=prompt,
        beams=beams,
        keep=beams,
        max_new_tokens=8,
        batch_tokens=500,
        device="cpu",
    )
    for event, inferences in zip(events, comet.infer(events), strict=True):
        for relation in RELATIONS:
            begun = [model.config.decoder_start_token_id]
            begun += [tokenizer.convert_tokens_to_ids(relation)] if prompt else []
            found = model.generate(
                **tokenizer(
                    query.format(event=event, relation=relation), return_tensors="pt", return_token_type_ids=False
                ),
                decoder_input_ids=torch.tensor([begun]),
                num_beams=beams,
                num_return_sequences=beams,
                max_new_tokens=8,
                return_dict_in_generate=True,
                output_scores=True,
            )
            texts = [
                text.strip()
                for text in tokenizer.batch_decode(found.sequences[:, len(begun) :], skip_special_tokens=True)
            ]
            assert [beam.text for beam in inferences[relation]] == list(dict.fromkeys(filter(None, texts)))
            if beams > 1:
                scores = dict(zip(reversed(texts), reversed(found.sequences_scores.tolist()), strict=True))
                expected = [scores[beam.text] for beam in inferences[relation]]
                assert [beam.score for beam in inferences[relation]] == pytest.approx(expected, abs=1e-4)


def test_what_is_the_same_is_computed_once_and_no_vocabulary_is_kept(tmp_path: Path):
    model = BartForConditionalGeneration.from_pretrained(save_tiny(tmp_path)).eval()
    model.set_attn_implementation(ATTENTION)
    model.generation_config.forced_bos_token_id = 0
    rows: list[int] = []
    model.get_decoder().register_forward_pre_hook(
        lambda _, __, given: rows.append(len(given["input_ids"])), with_kwargs=True
    )
    with torch.inference_mode():
        found = Texts(model, [[0, 4, 5, 2], [0, 6, 2]], padding=1).generate(
            5, num_return_sequences=5, max_new_tokens=6, min_length=0
        )
    # One row for each text while its beams are equal: until a token that is not forced.
    assert rows[:2] == [2, 2]
    assert set(rows[2:]) == {10}
    assert all(len(layer.keys) == 2 for layer in found.past_key_values.cross_attention_cache.layers)
    assert sum(step.numel() for step in found.scores) == 0
    assert found.sequences_scores.shape == (10,)
    assert not model._forward_hooks


def test_bfloat16_is_another_number_type(tmp_path: Path):
    exact, rough = (
        Comet(save_tiny(tmp_path), dtype=dtype, max_new_tokens=8, device="cpu").infer(["my dog died"])
        for dtype in ("float32", "bfloat16")
    )
    assert exact[0].keys() == rough[0].keys()
    assert exact != rough
