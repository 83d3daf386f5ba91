"""The prompts of `zero-shot` and `two-stage` are those that their code sent before they were files."""

import hashlib
import json
from itertools import product
from pathlib import Path

import pytest
from stage_prompts import SameAnswer, flow_of

from localemp.dialogue import Dialogue
from localemp.prompting.render import Prompts
from localemp.prompting.template import load_template
from localemp.sampling import Sampling
from localemp.strategies.base import Draft, Exemplar
from localemp.strategies.strategy import Strategy

GOLDEN = json.loads((Path(__file__).parent / "golden_prompts.json").read_text("utf-8"))
"""SHA-256 of all prompts of a variant, layout and strategy, written by the last version without flows."""

ONE = Dialogue("one", ("I lost my job {today}.",), "sad", "I was laid off, and 100% broke.")
THREE = Dialogue(
    "three", ("My dog died.", "Oh no.", "He was 14.\n\nI miss him."), "devastated", "My dog passed away {old age}."
)
EXAM = Exemplar(Dialogue("e1", ("I passed my exam!",), "proud", None, "Well done!"), 0.9)
RAIN = Exemplar(Dialogue("e2", ("It rains.", "Still?", "Yes {again}."), "sad", None, "That is a pity."), 0.8)
KNOWN = {"xIntent": ["to work", "to earn"], "xReact": ["sad"], "xWant": []}


def drafts(dialogue):
    yield Draft(dialogue)
    yield Draft(dialogue, (EXAM,))
    yield Draft(dialogue, (EXAM, RAIN), KNOWN, instruction="Be brief.")
    yield Draft(dialogue, (), KNOWN)
    yield Draft(dialogue, (), None, additions=("(It rains.)",))


def flows():
    yield "zero-shot", {}
    for given in ((), ("emotion",), ("situation",), ("emotion", "situation")):
        for labels in (None, True, False):
            yield f"two-stage {','.join(given)} labels={labels}", {"given": given, "list_labels": labels}


@pytest.mark.parametrize("layout", ["chat", "transcript"])
@pytest.mark.parametrize("variant", ["paper", "released"])
async def test_every_prompt_is_the_same_byte_for_byte(variant, layout):
    compared = {}
    for system_role, (name, options) in product((True, False), flows()):
        prompts = Prompts(load_template(variant), layout, system_role)
        strategy = Strategy(name, prompts, Sampling(), (), flow_of(name.partition(" ")[0], variant, **options))
        sent = []
        for draft in (draft for dialogue in (ONE, THREE) for draft in drafts(dialogue)):
            engine = SameAnswer("  I think the user is sad {really}.\n")
            await strategy.respond(draft, engine)
            sent.append([[[message.role, message.content] for message in asked] for asked in engine.asked])
        digest = hashlib.sha256(json.dumps(sent, ensure_ascii=True).encode()).hexdigest()
        compared[f"{variant} {layout} {'system' if system_role else 'no-system'} {name}"] = digest
    assert compared == {key: digest for key, digest in GOLDEN.items() if key.startswith(f"{variant} {layout} ")}
