"""The quality of a COMET, compared with COMET-BART's answers to the same questions.

ATOMIC 2020   the 1,816 five-relation prompts of its evaluation set, greedy and beams: BLEU-1 and exact match with a
              human tail, each relative to the same value for its own answers shuffled among the prompts of a relation.
              A model that gives the same answer to everything scores well and has no lift.
dialogues     500 test utterances of EmpatheticDialogues: the same values with COMET-BART's inferences as references
polarity      the same utterances: does xReact contradict the emotion that the speaker was given? The best beam alone,
              and what each selection of the `knowledge` strategy leaves; selections never see emotions
"""

import gzip
import json
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from sacrebleu.metrics.bleu import BLEU
from script import Script, out_option
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from localemp.commonsense.comet import Comet
from localemp.commonsense.events import paper_event
from localemp.commonsense.feelings import load_feelings
from localemp.commonsense.inferences import Beam, Beams
from localemp.commonsense.selection import Selection, Selector, select_all
from localemp.data.sources import load_dialogues
from localemp.models.atomic import RELATIONS
from localemp.models.profiles import load_profile
from localemp.models.weights import resolve
from localemp.prompting.template import load_template
from localemp.retrieval.encoder import Encoder
from localemp.utils.machine import machine, versions

SHUFFLES = 20
POLAR = 0.05  # VADER's own threshold between neutral and not
# fmt: off
POSITIVE = frozenset((
    "anticipating", "caring", "confident", "content", "excited", "faithful", "grateful", "hopeful", "impressed",
    "joyful", "prepared", "proud", "trusting",
))
# fmt: on
UNCLEAR = frozenset(("nostalgic", "sentimental", "surprised"))  # both happy and sad stories have these labels

NONE = frozenset(("none",))

Prompt = tuple[str, str]  # event, relation
SelectInferences = Callable[[Sequence[str], Sequence[Beams]], list[Selection]]


@click.command(cls=Script)
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="Folder with comet_bart/ and empathetic_dialogues/."
)
@click.option("--comet", "name", default="comet-mini", show_default=True)
@click.option("--utterances", default=500, show_default=True)
@click.option("--beams", default=5, show_default=True)
@click.option("--show", default=0, show_default=True, help="Print so many utterances with xReact and xIntent of both.")
@out_option
def main(data: Path, name: str, utterances: int, beams: int, show: int, out: Path | None) -> None:
    """Compare a COMET with people and with COMET-BART."""
    profile = load_profile(name, "commonsense")
    weights = resolve(profile)
    query = profile.query or "{event}"
    greedy, wide = (
        Comet(weights.folder, query=query, decoder_prompt=profile.decoder_prompt, beams=width, keep=width)
        for width in (1, beams)
    )
    selectors: dict[str, SelectInferences] = {
        "all": select_all,
        "on-topic": selector(feelings=False),
        "relevant": selector(feelings=True),
    }
    result = {
        "machine": machine(),
        "versions": versions(),
        "comet": profile.name,
        "comet_sha256": weights.digest,
        "beams": beams,
        "atomic2020": atomic2020(data / "comet_bart" / "BART-atomic_2020.json.gz", greedy, wide),
        "dialogues": dialogues(data, wide, utterances, show, selectors),
    }
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print_result(result)


def atomic2020(path: Path, greedy: Comet, wide: Comet) -> dict[str, dict[str, float]]:
    """Both ways of decoding, of both models."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if row["relation"] in RELATIONS]
    prompts = [(row["head"], row["relation"]) for row in rows]
    people = [row["tails"] for row in rows]
    answers = {
        "COMET-BART, greedy": [row["greedy"] for row in rows],
        "COMET-BART, best beam": [row["generations"][0] for row in rows],
        "this, greedy": best(greedy, prompts),
        "this, best beam": best(wide, prompts),
    }
    # COMET-BART learnt to say "none", which comet-mini never does: a tenth of its greedy answers.
    said = [n for n, tails in enumerate(people) if NONE.isdisjoint(map(_plain, tails))]
    result = {name: lift(prompts, texts, people) for name, texts in answers.items()}
    for name in ("COMET-BART, greedy", "this, greedy"):
        some = ([prompts[n] for n in said], [answers[name][n] for n in said], [people[n] for n in said])
        result[f"{name}, nobody said none"] = lift(*some)
    return result


def selector(feelings: bool) -> Selector:
    """The selection of the paper's prompts, with or without feelings."""
    settings = load_template("paper").knowledge.select
    weights = resolve(load_profile(settings.encoder, "encoder"))
    known = load_feelings(settings.encoder, weights.digest) if feelings else None
    return Selector(settings, Encoder(weights.folder, "float32"), known)


def dialogues(
    data: Path, comet: Comet, count: int, show: int, selectors: Mapping[str, SelectInferences]
) -> dict[str, Any]:
    """Agreement with COMET-BART on utterances of real dialogues, and the polarity of xReact."""
    with gzip.open(data / "comet_bart" / "ed_test_comet_linked.jsonl.gz", "rt", encoding="utf-8") as lines:
        linked = [json.loads(line) for line in lines]
    published = load_dialogues(str(data / "empathetic_dialogues"), "test", "published")
    if len(published) != len(linked):
        raise click.ClickException(
            f"{len(published)} dialogues and {len(linked)} lines of inferences: not the same rows"
        )
    step = len(linked) / count
    chosen = [int(number * step) for number in range(count)]
    rows, labels = [linked[n] for n in chosen], [published[n].emotion or "" for n in chosen]
    prompts = [(row["last_utterance"], relation) for row in rows for relation in RELATIONS]
    references = [row[relation] for row in rows for relation in RELATIONS]
    utterances, contexts = [row["last_utterance"] for row in rows], [paper_event(published[n]) for n in chosen]
    found = comet.infer(utterances)
    answers = [_best(beams[relation]) for beams in found for relation in RELATIONS]
    asked = [number for number, texts in enumerate(references) if texts]  # a filter left some empty
    reacts = answers[RELATIONS.index("xReact") :: len(RELATIONS)]
    theirs = [row["xReact"][0] if row["xReact"] else "" for row in rows]
    for row, label, react, their in list(zip(rows, labels, reacts, theirs, strict=True))[:show]:
        click.echo(f"[{label}] {row['last_utterance']}\n    this: {react}    COMET-BART: {their or '-'}")
    return {
        "agreement": lift([prompts[n] for n in asked], [answers[n] for n in asked], [references[n] for n in asked]),
        "polarity, this": polarity(labels, reacts),
        "polarity, this, shuffled": polarity(labels, _shuffled([("", "xReact")] * len(reacts), reacts, 0)),
        "polarity, COMET-BART": polarity(labels, theirs),
        "selected": {
            "utterance": selected(labels, utterances, [beams["xReact"] for beams in found], selectors),
            "utterance, by dialogue": selected(labels, contexts, [beams["xReact"] for beams in found], selectors),
            "whole context": selected(
                labels, contexts, [beams["xReact"] for beams in comet.infer(contexts, ["xReact"])], selectors
            ),
            "COMET-BART: utterance": selected(labels, utterances, _as_beams(rows), selectors),
            "COMET-BART: utterance, by dialogue": selected(labels, contexts, _as_beams(rows), selectors),
        },
    }


def selected(
    labels: Sequence[str],
    contexts: Sequence[str],
    beams: Sequence[tuple[Beam, ...]],
    selectors: Mapping[str, SelectInferences],
) -> dict[str, dict[str, float]]:
    """By selection: how many reactions contradict the emotion, of the first ones and of all, and what is lost."""
    result = {}
    for name, select in selectors.items():
        chosen = select(contexts, [{"xReact": each} for each in beams])
        kept = [one.kept.get("xReact", ()) for one in chosen]
        first = polarity(labels, [texts[0] if texts else "" for texts in kept])
        every = polarity(*_flat(labels, kept))
        before = polarity(*_flat(labels, [[beam.text for beam in each] for each in beams]))
        right = [figures["judged"] * (1 - figures["contradicting"]) for figures in (every, before)]
        result[name] = {
            "first judged": first["judged"],
            "first contradicting": first["contradicting"],
            "all judged": every["judged"],
            "all contradicting": every["contradicting"],
            "with a reaction": sum(map(bool, kept)) / max(1, sum(map(bool, beams))),
            "agreeing kept": right[0] / right[1],
            "contradicting kept": every["judged"]
            * every["contradicting"]
            / (before["judged"] * before["contradicting"]),
        }
    return result


def _flat(labels: Sequence[str], texts: Sequence[Sequence[str]]) -> tuple[list[str], list[str]]:
    pairs = [(label, text) for label, some in zip(labels, texts, strict=True) for text in some]
    return [label for label, _ in pairs], [text for _, text in pairs]


def _as_beams(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Beam, ...]]:
    return [tuple(map(Beam, row["xReact"])) for row in rows]


def _best(beams: Sequence[Beam]) -> str:
    return beams[0].text if beams else ""


def best(comet: Comet, prompts: Sequence[Prompt]) -> list[str]:
    """The best beam of every prompt, "" where there is none."""
    relations_of: dict[str, list[str]] = defaultdict(list)
    for event, relation in prompts:
        relations_of[event].append(relation)
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for event, relations in relations_of.items():
        groups[tuple(dict.fromkeys(relations))].append(event)
    found: dict[Prompt, str] = {}
    for asked, events in groups.items():
        for event, inferences in zip(events, comet.infer(events, asked), strict=True):
            found |= {(event, name): _best(beams) for name, beams in inferences.items()}
    return [found[prompt] for prompt in prompts]


def lift(prompts: Sequence[Prompt], answers: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Corpus BLEU-1 and exact match (case and a last full stop aside), and both for shuffled answers."""
    own = _scores(answers, references)
    others = [_scores(_shuffled(prompts, answers, seed), references) for seed in range(SHUFFLES)]
    bleu, exact = (statistics.mean(scores[part] for scores in others) for part in (0, 1))
    return {
        "prompts": len(prompts),
        "bleu1": own[0],
        "bleu1_shuffled": bleu,
        "bleu1_lift": own[0] - bleu,
        "exact": own[1],
        "exact_shuffled": exact,
        "exact_lift": own[1] - exact,
        "distinct": len(set(map(_plain, answers))),
        "empty": sum(not answer.strip() for answer in answers) / len(answers),
        "malformed": sum(_malformed(answer) for answer in answers) / len(answers),
    }


def polarity(labels: Sequence[str], reacts: Sequence[str]) -> dict[str, float]:
    """Of the reactions that VADER takes to be positive or negative: the share whose sign is not the emotion's."""
    vader = SentimentIntensityAnalyzer()
    agree = contradict = 0
    for label, react in zip(labels, reacts, strict=True):
        score = vader.polarity_scores(react)["compound"]
        if label in UNCLEAR or abs(score) < POLAR:
            continue
        same = (score > 0) == (label in POSITIVE)
        agree, contradict = agree + same, contradict + (not same)
    return {"judged": agree + contradict, "contradicting": contradict / max(1, agree + contradict)}


def _scores(answers: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, float]:
    plain = [[_plain(text) for text in texts] for texts in references]
    most = max(map(len, plain))
    # sacrebleu wants streams: the n-th reference of every answer, None where there are fewer.
    streams: Any = [[texts[n] if n < len(texts) else None for texts in plain] for n in range(most)]
    bleu = BLEU(max_ngram_order=1, tokenize="none", smooth_method="none")
    said = [_plain(answer) for answer in answers]
    score = bleu.corpus_score(said, streams).score / 100
    return score, sum(answer in texts for answer, texts in zip(said, plain, strict=True)) / len(said)


def _shuffled(prompts: Sequence[Prompt], answers: Sequence[str], seed: int) -> list[str]:
    rng, places = random.Random(seed), defaultdict(list)
    for number, (_, relation) in enumerate(prompts):
        places[relation].append(number)
    shuffled = list(answers)
    for numbers in places.values():
        for number, other in zip(numbers, rng.sample(numbers, len(numbers)), strict=True):
            shuffled[number] = answers[other]
    return shuffled


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).strip(" .")


def _malformed(text: str) -> bool:
    """A special token, a word said three times running, or a text of signs alone."""
    words = text.split()
    repeated = any(words[n] == words[n + 1] == words[n + 2] for n in range(len(words) - 2))
    return "[" in text or "##" in text or repeated or (bool(words) and not any(letter.isalpha() for letter in text))


def print_result(result: dict[str, Any]) -> None:
    """The tables that matter."""
    columns = (
        "bleu1",
        "bleu1_shuffled",
        "bleu1_lift",
        "exact",
        "exact_shuffled",
        "exact_lift",
        "distinct",
        "empty",
        "malformed",
    )
    table = Table(title=f"{result['comet']} beside COMET-BART")
    table.add_column("")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    rows = result["atomic2020"] | {"agreement with COMET-BART on utterances": result["dialogues"]["agreement"]}
    for name, figures in rows.items():
        table.add_row(
            name, *(f"{figures[c]:.3f}" if isinstance(figures[c], float) else str(figures[c]) for c in columns)
        )
    console = Console(width=150)
    console.print(table)
    for which in ("greedy", "best beam", "greedy, nobody said none"):
        own, real = result["atomic2020"][f"this, {which}"], result["atomic2020"][f"COMET-BART, {which}"]
        for part in ("bleu1_lift", "exact_lift"):
            console.print(f"{which}: {part.replace('_', ' ')} {own[part] / real[part]:.2f} of COMET-BART's")
    table = Table(title="xReact against the emotion that the speaker was given, by VADER's sign")
    names = next(iter(next(iter(result["dialogues"]["selected"].values())).values()))
    for column in ("event", "selection", *names):
        table.add_column(column, justify="left" if column in ("event", "selection") else "right")
    for event, selections in result["dialogues"]["selected"].items():
        for name, figures in selections.items():
            cells = [f"{value:.1%}" if isinstance(value, float) else str(value) for value in figures.values()]
            table.add_row(event, name, *cells)
    console.print(table)
    for name in ("polarity, this", "polarity, this, shuffled", "polarity, COMET-BART"):
        figures = result["dialogues"][name]
        console.print(f"{name}: {figures['contradicting']:.1%} of {figures['judged']} reactions contradict the emotion")


if __name__ == "__main__":
    main()
