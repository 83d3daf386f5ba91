"""What comet-mini learns from: events and the tails that people wrote for them, in ATOMIC's form and the first person.

ATOMIC v4 (Sap et al. 2019, CC BY 4.0) and Event2Mind (Rashkin et al. 2018, MIT) say "PersonX loses PersonX's job".
Somebody who talks says "I lost my job". Both forms are learnt, so that either can be asked.
"""

import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lemminflect import getInflection, getLemma

# Those that ATOMIC v4 has; the paper uses the first five.
RELATIONS = ("xIntent", "xNeed", "xWant", "xEffect", "xReact", "xAttr", "oReact", "oWant", "oEffect")
PERSONS = ("PersonX", "PersonY", "PersonZ")
HELD_OUT_EVENTS = 400
_TAILS_A_VISIT = 2

Tails = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Visit:
    """One event with some of its tails: the encoder reads it once for all of them.

    Attributes:
        event: In ATOMIC's form.
        tails: (relation, tail) pairs.
    """

    event: str
    tails: tuple[tuple[str, str], ...]


def read_events(atomic: Path, evaluation: Iterable[str]) -> dict[str, Tails]:
    """All events of ATOMIC v4 and Event2Mind with their tails, without those that evaluation uses.

    Args:
        atomic: The folder with `atomic_v4_devtst_tuples.tsv.gz` and `event2mind_tuples.tsv.gz`.
        evaluation: Heads that must not be learnt from, in any spelling.
    """
    forbidden = {_bare(head) for head in evaluation}
    events: dict[str, dict[str, dict[str, None]]] = defaultdict(lambda: defaultdict(dict))
    for name in ("atomic_v4_devtst_tuples.tsv.gz", "event2mind_tuples.tsv.gz"):
        for head, relation, tail in _tuples(atomic / name):
            if name.startswith("event2mind"):
                if relation not in ("xIntent", "xReact"):
                    continue  # what others feel is known from ATOMIC
                tail = _as_atomic(relation, tail)
            tail = clean_tail(tail)
            if tail and _bare(head) not in forbidden:
                events[_clean_head(head)][relation][tail] = None
    return {head: {name: tuple(tails) for name, tails in found.items()} for head, found in sorted(events.items())}


def evaluation_heads(data: Path) -> set[str]:
    """The heads of ATOMIC 2020's evaluation set, from both files that have them."""
    heads = {head for head, _, _ in _tuples(data / "atomic" / "atomic2020_eval_tuples_5rel.tsv.gz")}
    with gzip.open(data / "comet_bart" / "BART-atomic_2020.json.gz", "rt", encoding="utf-8") as lines:
        return heads | {json.loads(line)["head"] for line in lines}


def visits(events: dict[str, Tails], rng: random.Random) -> list[Visit]:
    """One epoch: at most two tails of a relation in one visit, visits in random order."""
    found = []
    # Event2Mind knows only intents and reactions, and has four times the events: the others' tails are seen twice.
    twice = [event for event, tails in events.items() if "xNeed" in tails or "xWant" in tails]
    for event in [*events, *twice]:
        tails = events[event]
        shuffled = {relation: rng.sample(texts, len(texts)) for relation, texts in tails.items()}
        for start in range(0, max(map(len, shuffled.values())), _TAILS_A_VISIT):
            some = [(name, text) for name, texts in shuffled.items() for text in texts[start : start + _TAILS_A_VISIT]]
            found.append(Visit(event, tuple(some)))
    rng.shuffle(found)
    return found


def clean_tail(tail: str) -> str:
    """A tail as comet-mini says it, empty for "none": no subject, no full stop."""
    tail = " ".join(tail.replace("___", "something").replace("_", " ").split()).strip(" .\"'")
    tail = re.sub(r"^(?:person ?x|they|he|she)(?:'s)? (?=\w)", "", tail, flags=re.IGNORECASE)
    tail = re.sub(r"\bperson ?([xyz])\b", lambda found: f"Person{found[1].upper()}", tail, flags=re.IGNORECASE)
    return "" if tail.lower() in ("none", "n/a", "nothing", "no effect", "na", "none.") else tail


_TIMES = (
    "today",
    "yesterday",
    "last week",
    "last night",
    "this morning",
    "a few days ago",
    "recently",
    "the other day",
)
_OTHERS = ("my friend", "my best friend", "my sister", "my brother", "my mom", "my husband", "my wife", "someone")


def first_person(event: str, rng: random.Random) -> str:
    """An event as the person who lived it tells it: "PersonX loses PersonX's job" becomes "I lost my job"."""
    words = event.split()
    tense = "VBD" if rng.random() < 0.7 else "VBP"
    if words and words[0] == "PersonX":
        words[0] = "I"
        for place in range(1, min(4, len(words))):
            if verb := _inflected(words[place], tense):
                words[place] = verb
                break
    others = dict(zip(PERSONS[1:], rng.sample(_OTHERS, 2), strict=True))
    told = []
    for word in words:
        base, ending = (word[:-2], "'s") if word.endswith("'s") else (word, "")
        if base == "PersonX":
            told.append("my" if ending else "me")
        else:
            told.append(others.get(base, base) + ending)
    if tense == "VBD" and rng.random() < 0.25:
        told.append(rng.choice(_TIMES))
    return " ".join(told)


def _inflected(word: str, tense: str) -> str | None:
    """The first person of a verb in the third, None where the word is none ("finally", "never")."""
    if word == "is":
        return "was" if tense == "VBD" else "am"
    if not word.endswith("s") or word in ("always", "sometimes", "perhaps", "was", "'s"):
        return None
    lemma: tuple[str, ...] = getLemma(word, "VERB")
    if not lemma or lemma[0] == word:
        return None
    if tense == "VBP":
        return lemma[0]
    past: tuple[str, ...] = getInflection(lemma[0], "VBD")
    return past[0] if past else None


def _clean_head(head: str) -> str:
    head = head.replace("___", "something").replace("person x", "PersonX").replace("person y", "PersonY")
    head = re.sub(r"\bpersonx\b", "PersonX", head, flags=re.IGNORECASE)
    return " ".join(re.sub(r"\bpersony\b", "PersonY", head, flags=re.IGNORECASE).split()).strip(" .")


def _as_atomic(relation: str, tail: str) -> str:
    """Event2Mind's intents are bare ("make money", "because like person"); ATOMIC's begin with "to" and a verb."""
    if relation != "xIntent" or tail.lower() == "none":
        return tail
    tail = re.sub(r"^(?:because|to|wants? to|in order to) ", "", tail, flags=re.IGNORECASE)
    verb, _, rest = tail.partition(" ")
    lemma: tuple[str, ...] = getLemma(verb.lower(), "VERB", lemmatize_oov=False)
    if not lemma or (lemma[0] != verb.lower() and not verb.endswith(("ing", "s"))):
        return ""
    return f"to {lemma[0]} {rest}".strip()


def _bare(head: str) -> str:
    """What two spellings of an event have in common."""
    head = re.sub(r"person ?[xyz]", "person", head.lower()).replace("___", " ")
    words = re.sub(r"[^a-z ]", "", head).split()
    return " ".join(word for word in words if word not in ("a", "an", "the", "something"))


def _tuples(path: Path) -> Iterator[tuple[str, str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            head, relation, tail, *_ = line.rstrip("\n").split("\t")
            yield head, relation, tail
