"""`similar` on dialogues that are longer than the encoder sees: a real encoder of random weights, and a real index."""

from pathlib import Path

import pytest
from tiny_encoder import LIMIT, save_tiny_encoder

from localemp.dialogue import Dialogue
from localemp.prompting.render import Prompts
from localemp.prompting.template import load_template
from localemp.retrieval.encoder import Encoder
from localemp.retrieval.index import Index
from localemp.sampling import Sampling
from localemp.strategies.similar import Similar, fitted, pool_texts, pool_turns
from localemp.strategies.strategy import Strategy

pytestmark = pytest.mark.usefixtures("one_thread")

ROOM = LIMIT - 2  # [CLS] and [SEP]
POOL = [
    Dialogue(f"p{row}", (text,), reference="i lost it")
    for row, text in enumerate(["my dog died today", "i got a new job", "we were very happy again"])
]
LONG = "cat " * 40


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = save_tiny_encoder(tmp_path_factory.mktemp("bert"), tmp_path_factory.mktemp("encoder"))
    return Encoder(folder, "float32", "cpu")


def similar(encoder: Encoder, pool: list[Dialogue], folder: Path, similarity: str = "context") -> Similar:
    seen = fitted(pool_turns(pool, similarity), similarity, encoder)
    index = Index.build_or_load(seen.texts, encoder, {}, folder, former=pool_texts(pool, similarity))
    return Similar(pool, index, encoder, similarity=similarity, shots=1, settings={}, pool_longer=seen.longer)


def strategy(part: Similar) -> Strategy:
    return Strategy("similar", Prompts(load_template("paper"), "chat"), Sampling(), [part])


@pytest.mark.parametrize(
    ("turns", "text"),
    [
        (("my dog died", "sad .", "i lost it"), "my dog died sad . i lost it"),
        ((LONG, "sad .", "i lost it"), "sad . i lost it"),
        # Whole turns go: "sad ." would fit, but not with what stands before it.
        (("my dog", LONG, "sad . " * 3, "we were", "i lost it"), "sad . sad . sad .  we were i lost it"),
        # The newest turn alone is too long: its end stays.
        (("my dog", "sad .", LONG + "died"), "cat " * (ROOM - 1) + "died"),
        # Sentences inside a turn are no pieces.
        (("my dog .", "cat " * 10 + ". sad sad sad", "i lost it"), "i lost it"),
    ],
)
def test_the_newest_turns_that_fit_are_compared(encoder: Encoder, turns: tuple[str, ...], text: str):
    assert fitted([turns], "context", encoder).texts == [text]


def test_the_released_code_leaves_it_to_the_encoder(encoder: Encoder):
    found = fitted([(LONG, "sad .", "i lost it"), ("sad",)], "context-and-reply", encoder)
    assert (found.texts, found.longer) == ([f"{LONG.strip()} sad . i lost it ", "sad "], 1)


async def test_a_long_beginning_does_not_hide_the_newest_turn(encoder: Encoder, tmp_path: Path):
    part = similar(encoder, POOL, tmp_path)
    for row, dialogue in enumerate(POOL):
        long = Dialogue("q", ("sad", LONG, dialogue.turns[0]))
        (found,) = (await strategy(part).draft(long, log=False)).exemplars
        assert found.dialogue == POOL[row]
    assert list(part.notes().values()) == [
        "similar: 3 of 3 dialogues have more than the 16 tokens that the encoder sees; "
        "they were compared without their beginning"
    ]
    (hidden,) = (await strategy(similar(encoder, POOL, tmp_path, "context-and-reply")).draft(long)).exemplars
    assert hidden.score < 0.99


def test_a_pool_in_which_nothing_is_cut_keeps_its_index(encoder: Encoder, tmp_path: Path):
    Index.build_or_load(pool_texts(POOL, "context"), encoder, {}, tmp_path)
    part = similar(encoder, POOL, tmp_path)
    assert (part.notes(), len(list(tmp_path.iterdir()))) == ({}, 1)


async def test_of_a_long_training_dialogue_the_newest_turns_are_compared(encoder: Encoder, tmp_path: Path):
    longer = [*POOL, Dialogue("p3", ("sad", LONG, "the cat lost it"), reference="sad")]
    part = similar(encoder, longer, tmp_path)
    (found,) = (await strategy(part).draft(Dialogue("q", ("the cat lost it",)), log=False)).exemplars
    assert found.dialogue.id == "p3"
    assert part.notes().keys() == {"similar pool"}
    assert "1 of 4 training dialogues" in part.notes()["similar pool"]


async def test_it_is_said_once(encoder: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    asked = strategy(similar(encoder, POOL, tmp_path, "context-and-reply"))
    await asked.draft(Dialogue("q", ("sad",)))
    assert caplog.text == ""
    for _ in range(3):
        await asked.draft(Dialogue("q", (LONG, "oh", "sad")))
    assert caplog.text.count("they were compared without their end, the newest turns, as in the released code") == 1
