"""COMET on a tiny BART of random weights; the texts are nonsense, the machinery is the real one."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tiny_comet import save_tiny
from transformers import BartForConditionalGeneration, PreTrainedTokenizerFast

from localemp.commonsense.comet import Comet
from localemp.commonsense.events import paper_event, released_event
from localemp.commonsense.inferences import Beam, Beams
from localemp.dialogue import Dialogue
from localemp.errors import OptionError, UnknownNameError, WeightsError
from localemp.models.atomic import ATOMIC_2020, RELATIONS

EVENTS = [
    "my dog died",
    "i got a new job and we were very happy today !",
    "sad",
    "the cat lost it again . i lost the cat",
    "we were sad today",
]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("comet"))


@pytest.fixture(scope="module")
def comet(tiny: Path) -> Comet:
    return Comet(tiny, max_new_tokens=8, batch_tokens=200, device="cpu")


def texts(beams: Sequence[Beam]) -> list[str]:
    return [beam.text for beam in beams]


def same(some: Sequence[Beams], others: Sequence[Beams]) -> bool:
    """Equal texts, and scores but for the rounding of float32 sums, which depends on what shares a batch."""
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for relation in one:
            assert texts(one[relation]) == texts(other[relation])
            scores = [beam.score for beam in other[relation]]
            assert [beam.score for beam in one[relation]] == pytest.approx(scores, abs=2e-4)
    return True


def reference(folder: Path, query: str, beams: int = 5, new_tokens: int = 8) -> list[str]:
    """What transformers answers to one query, alone and without padding."""
    model = BartForConditionalGeneration.from_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    answers = model.generate(
        **tokenizer(query, return_tensors="pt", return_token_type_ids=False),
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=new_tokens,
    )
    return [text.strip() for text in tokenizer.batch_decode(answers, skip_special_tokens=True)]


def test_answers_are_those_of_plain_beam_search(tiny: Path, comet: Comet):
    (inferences,) = comet.infer(["my dog died"])
    assert tuple(inferences) == RELATIONS
    for relation in RELATIONS:
        expected = reference(tiny, f"my dog died {relation} [GEN]")
        assert texts(inferences[relation]) == list(dict.fromkeys(filter(None, expected)))
    assert len(set(inferences.values())) > 1, "the relation makes no difference"


def test_a_batch_gives_what_one_by_one_gives_in_the_given_order(tiny: Path, comet: Comet):
    together = comet.infer(EVENTS)
    alone = Comet(tiny, max_new_tokens=8, batch_tokens=1, device="cpu")
    assert same(together, [alone.infer([event])[0] for event in EVENTS])
    assert same(together[::-1], comet.infer(EVENTS[::-1]))
    assert len({str(inferences) for inferences in together}) == len(EVENTS), "the event makes no difference"


def test_equal_events_get_equal_answers(comet: Comet):
    first, second, third = comet.infer(["sad", "my dog died", "sad"], ["xReact"])
    assert first == third != second
    assert list(first) == ["xReact"]


def test_nothing_asked_nothing_answered(comet: Comet):
    assert comet.infer([]) == []
    assert comet.infer(["sad"], []) == [{}]


def test_keep_takes_the_best_of_the_beams(tiny: Path, comet: Comet):
    two = Comet(tiny, keep=2, max_new_tokens=8, device="cpu").infer(EVENTS)
    for inferences, all_five in zip(two, comet.infer(EVENTS), strict=True):
        for relation in RELATIONS:
            assert 0 < len(inferences[relation]) <= 2
            assert inferences[relation] == all_five[relation][: len(inferences[relation])]


def test_repetitions_and_empty_texts_are_left_out(tiny: Path):
    # One new token at most, and BART makes it the end: every beam is empty.
    assert Comet(tiny, max_new_tokens=1, device="cpu").infer(["my dog died"], ["xWant"]) == [{"xWant": ()}]
    # Many short beams differ only in special tokens, which are no text.
    raw = reference(tiny, "my dog died xWant [GEN]", beams=30, new_tokens=3)
    assert len(set(raw)) < len(raw), "nothing is repeated, so the test shows nothing"
    (found,) = Comet(tiny, beams=30, keep=30, max_new_tokens=3, device="cpu").infer(["my dog died"], ["xWant"])
    assert texts(found["xWant"]) == list(dict.fromkeys(text for text in raw if text))


def test_a_long_event_loses_its_beginning_and_keeps_the_relation(comet: Comet):
    tail = "we were very happy today"
    # <s>, relation, [GEN], </s> leave 12 of the 16 positions to the event.
    fits = " ".join(["cat"] * 7) + " " + tail
    assert comet.infer([f"my dog died . {fits}"]) == comet.infer([fits])
    assert comet.infer([f"{'i lost it ' * 400}{fits}"]) == comet.infer([fits])
    long = comet.infer([" ".join(["cat"] * 500)])[0]
    assert len(set(long.values())) > 1, "the relation was cut off"


def test_a_relation_before_the_event_is_kept_too(tiny: Path):
    ahead = Comet(tiny, query="{relation} : {event}", max_new_tokens=8, device="cpu")
    fits = " ".join(["cat"] * 12)
    assert ahead.infer([f"my dog died {fits}"]) == ahead.infer([fits])
    assert len(set(ahead.infer([fits])[0].values())) > 1


def test_a_cut_never_falls_inside_a_character(tmp_path: Path):
    # Four tokens each: with <s>, " xReact" and </s> there is room for one of them and an x.
    comet = Comet(save_tiny(tmp_path, byte_by_byte=True), query="{event} {relation}", relations=["xReact"],
                  max_new_tokens=4, device="cpu")  # fmt: skip
    assert comet.infer(["🙂🙂x"], ["xReact"]) == comet.infer(["🙂x"], ["xReact"])


def test_braces_in_an_event_are_text(comet: Comet):
    assert comet.infer(["my {dog} died"]) == comet.infer(["my <unk> died"])


def test_a_summary_minimum_of_the_checkpoint_does_not_hold(tiny: Path, tmp_path: Path, comet: Comet):
    folder = tmp_path / "summaries"
    folder.mkdir()
    for file in tiny.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(settings | {"min_length": 8, "max_length": 9}))
    assert Comet(folder, max_new_tokens=8, device="cpu").infer(EVENTS[:1]) == comet.infer(EVENTS[:1])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"keep": 6}, "keep is 6, but 5 beams"),
        ({"beams": 2}, "keep is 5, but 2 beams"),
        ({"beams": 0, "keep": 0}, "beams is 0"),
        ({"keep": -1}, "keep is -1"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"batch_tokens": 0}, "batch_tokens is 0"),
        ({"query": "{event} [GEN]"}, "the decoder prompt '' the field {relation}"),
        ({"query": "{event} {relation} {tail}"}, "neither any other"),
        ({"query": "{event}", "decoder_prompt": "{event} {relation}"}, "must have the field {event}"),
        ({"query": "{event} {relation}", "decoder_prompt": "{relation"}, "is not a valid template"),
        ({"query": "{event} {relation"}, "is not a valid template"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
    ],
)
def test_options_out_of_range(tiny: Path, options: dict[str, object], named: str):
    with pytest.raises(OptionError, match=named.replace("{", r"\{").replace("[", r"\[")) as caught:
        Comet(tiny, **options)  # type: ignore[arg-type]
    assert caught.value.hint


@pytest.mark.parametrize(("event", "named"), [("  ", "event 2 is empty"), ("\ud83d", "event 2 is not valid Unicode")])
def test_what_is_no_event(comet: Comet, event: str, named: str):
    with pytest.raises(OptionError, match=named):
        comet.infer(["sad", event])


def test_relations_that_cannot_be_asked(tiny: Path, comet: Comet):
    for unknown in ("xMood", ""):
        with pytest.raises(UnknownNameError, match="unknown relation") as caught:
            comet.infer(["sad"], ["xReact", unknown])
        assert set(caught.value.known) == set(ATOMIC_2020)
    assert len(ATOMIC_2020) == len(set(ATOMIC_2020)) == 23
    five = Comet(tiny, relations=RELATIONS, max_new_tokens=8, device="cpu")
    with pytest.raises(OptionError, match="not trained on the relation 'oReact'") as untrained:
        five.infer(["sad"], ["oReact"])
    assert "xIntent, xNeed" in untrained.value.hint


def test_a_score_is_the_mean_log_probability_of_the_beams_tokens(tiny: Path, comet: Comet):
    model = BartForConditionalGeneration.from_pretrained(tiny)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny)
    asked = tokenizer("my dog died xReact [GEN]", return_tensors="pt", return_token_type_ids=False)
    for beams in (1, 5):
        made = model.generate(**asked, num_beams=beams, num_return_sequences=1, max_new_tokens=8)
        with torch.inference_mode():
            odds = model(**asked, decoder_input_ids=made[:, :-1]).logits.log_softmax(-1)
        chosen = odds.gather(-1, made[:, 1:, None]).squeeze(-1)
        best = Comet(tiny, beams=beams, keep=1, max_new_tokens=8, device="cpu").infer(["my dog died"], ["xReact"])
        # The last token is </s>, forced because there is no room for more, so its probability is 1.
        assert made[0, -1] == model.config.eos_token_id and made.shape[1] == 9
        expected = float(chosen[:, :-1].sum() / chosen.shape[1])
        assert best[0]["xReact"][0].score == pytest.approx(expected, abs=1e-4)
    scores = [beam.score for beam in comet.infer(["my dog died"], ["xReact"])[0]["xReact"]]
    assert scores == sorted(scores, reverse=True)


def test_a_decoder_prompt_is_asked_but_no_part_of_the_answer(tiny: Path):
    prompted = Comet(
        tiny, query="{event}", decoder_prompt="{relation}", max_new_tokens=8, batch_tokens=200, device="cpu"
    )
    found = prompted.infer(EVENTS)
    assert len(set(found[0].values())) > 1, "the relation makes no difference"
    assert same(found, [prompted.infer([event])[0] for event in EVENTS])
    model = BartForConditionalGeneration.from_pretrained(tiny)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny)
    for event, inferences in zip(EVENTS, found, strict=True):
        for relation in RELATIONS:
            begun = [model.config.decoder_start_token_id, tokenizer.convert_tokens_to_ids(relation)]
            answers = model.generate(
                **tokenizer(event, return_tensors="pt", return_token_type_ids=False),
                decoder_input_ids=torch.tensor([begun]),
                num_beams=5,
                num_return_sequences=5,
                max_new_tokens=8,
            )
            plain = [text.strip() for text in tokenizer.batch_decode(answers[:, 2:], skip_special_tokens=True)]
            assert texts(inferences[relation]) == list(dict.fromkeys(filter(None, plain)))


def test_a_decoder_prompt_that_the_checkpoint_does_not_know(tiny: Path):
    with pytest.raises(WeightsError, match=r"does not know the decoder prompt '\[xIntent\]'"):
        Comet(tiny, query="{event}", decoder_prompt="[{relation}]", device="cpu").infer(["sad"])


@pytest.mark.parametrize(
    ("event", "kept"),
    [
        ("my dog died", "my dog died"),
        ("my dog died . " + "i lost the cat . " * 2 + "sad", "i lost the cat . i lost the cat . sad"),
        (
            "my dog died today ! i lost the cat again and we were sad today",
            "i lost the cat again and we were sad today",
        ),
        ("sad . " + "cat " * 40 + "died", "cat " * 11 + "died"),
        ("cat " * 40 + ". sad", "sad"),
    ],
)
def test_a_long_event_is_cut_at_a_sentence_if_it_can_be(comet: Comet, event: str, kept: str):
    # <s>, relation, [GEN], </s> leave 12 of the 16 positions to the event.
    assert comet.fit(event) == (kept, len(event) - len(kept))
    assert comet.infer([event]) == comet.infer([kept])


@pytest.mark.parametrize("unit", [".", "cat ", ". ", ".)", "cat . ", "🙂"])
def test_an_event_of_a_megabyte_takes_no_longer_than_what_is_seen_of_it(comet: Comet, unit: str):
    event = unit * (1_000_000 // len(unit)) + " my dog died"
    started = time.process_time()
    kept, cut = comet.fit(event)
    assert (event[cut:], event.endswith("my dog died")) == (kept, True)
    comet.infer([event], ["xReact"])
    assert time.process_time() - started < 3  # 0.1 on a laptop; 72 s for 40,000 stops where all of it was scanned


def test_a_query_that_alone_fills_the_encoder(tiny: Path):
    with pytest.raises(OptionError, match="exceeds the encoder's 16 tokens"):
        Comet(tiny, query="{event} {relation}" + " [GEN]" * 20, device="cpu").infer(["my dog died"])


def test_no_folder(tmp_path: Path):
    with pytest.raises(WeightsError, match="is not a folder") as caught:
        Comet(tmp_path / "nowhere")
    assert "config.json" in caught.value.hint


@pytest.mark.parametrize("broken", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_is_missing_or_cut(tmp_path: Path, broken: str):
    path = save_tiny(tmp_path) / broken
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WeightsError, match=r"load a COMET checkpoint from|config\.json, line \d+: not valid JSON"):
        Comet(tmp_path)
    path.unlink()
    with pytest.raises(WeightsError):
        Comet(tmp_path)


def test_weights_that_lack_a_layer(tmp_path: Path):
    config = json.loads((save_tiny(tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"decoder_layers": 3}))
    with pytest.raises(WeightsError, match=r"lack \d+ tensors, such as model.decoder.layers.2"):
        Comet(tmp_path)


def test_a_model_that_only_continues_text(tmp_path: Path):
    config = json.loads((save_tiny(tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "gpt2", "architectures": None}))
    with pytest.raises(WeightsError, match="cannot load a COMET checkpoint from"):
        Comet(tmp_path)


def test_a_tokenizer_of_another_model(tmp_path: Path):
    with pytest.raises(WeightsError, match="do not match"):
        Comet(save_tiny(tmp_path, extra_tokens=3))


@pytest.mark.parametrize(
    ("utterance", "event"),
    [
        # Checked against nltk 3.10 with its English sentence splitter.
        ("I'm the one who can't sleep!", "i am the one who can not sleep !"),
        ("It's 5:30 a.m. and she's gone.", "it is 5:30 a.m. and she 's gone ."),
        ("Dr. Smith won't say why... I gave up", "dr. smith will not say why ... i gave up"),
        ("We're 3,36 miles away, aren't we?", "we 're 3,36 miles away , are not we ?"),
        ("They survived. They had no injuries but ran.", "they survived . they had no injuries but ran ."),
        ("the dogs' bed", "the dogs ' bed"),
        ("gonna wanna go, gotta run", "gon na wan na go , got ta run"),
        ('He said "go away." Then left', "he said `` go away . '' then left"),
        ("50% off @ the store - $3.88 (cheap)", "50 % off @ the store - $ 3.88 ( cheap )"),
        ("hello.there friend", "hello.there friend"),
        ("rock'n'roll -- loud", "rock'n'roll -- loud"),
        ("she should've. he hasn't.", "she should 've . he has n't ."),
        ("back in the 80's. it was", "back in the 80 's . it was"),
        ("around the corner.! yes", "around the corner . ! yes"),
        ("i was 10. it was", "i was 10. it was"),
        ("my rabbit's ill", "my rabbit is ill"),
        ("it’s “so” fine", "it ’ s “ so ” fine"),
        ("  ", ""),
        ("", ""),
    ],
)
def test_released_event(utterance: str, event: str):
    assert released_event(utterance) == event


def test_paper_event_is_the_whole_context():
    assert paper_event(Dialogue("a", ("My dog died. ", "Oh no!", "Yes."))) == "My dog died. Oh no! Yes."
