"""`similar`: exemplars that are semantically similar to the dialogue (section 3.3.1, Eq. 1 to 4).

An encoder sees a limited number of tokens. Of longer dialogues, `paper` compares the newest turns that fit; `released`
leaves truncation to the encoder, which drops the end.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from localemp.data.sources import data_hash
from localemp.dialogue import Dialogue
from localemp.errors import OptionError
from localemp.strategies.base import CountTokens, Draft, Enricher, Exemplar
from localemp.strategies.parts import Part, PartContext
from localemp.strategies.shots import POOL, SHOTS, exemplar_pool
from localemp.utils.batching import MicroBatcher
from localemp.utils.option import Option
from localemp.utils.recent import Recent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from localemp.retrieval.index import Index, Vectors

Similarity = Literal["context", "context-and-reply"]

ENCODER = Option(name="encoder", default="all-mpnet-base-v2", help="Sentence encoder of similar.")
ENCODER_DTYPE = Option(
    name="encoder_dtype",
    type=Literal["auto", "bfloat16", "float32"],
    default="auto",
    help="similar: number format of the encoder; auto is bfloat16 if the processor supports it.",
)


class DialogueEncoder(Protocol):
    """The part of an encoder that `similar` needs; `localemp.retrieval.encoder.Encoder` is one."""

    max_seq_length: int

    def encode(self, texts: Sequence[str]) -> "Vectors":
        """Return unit vectors, shape (len(texts), dim)."""

    def too_long(self, texts: Sequence[str]) -> list[bool]:
        """Return for each text whether it has more tokens than the encoder sees."""

    def newest(self, text: str, starts: Callable[[str], Sequence[int]]) -> int:
        """Return how many characters to cut from the beginning of a text, so that its end is seen."""


@dataclass(slots=True)
class Texts:
    """Texts for the encoder.

    Attributes:
        texts: The text of each dialogue.
        longer: Number of dialogues with more tokens than the encoder sees.
    """

    texts: list[str]
    longer: int


@dataclass(slots=True)
class Seen:
    """What enrichers with different numbers of exemplars share.

    Attributes:
        dialogues, longer: Number of dialogues looked up, and of those with more tokens than the encoder sees.
        most: Most exemplars of an enricher that remembers.
        found: Of recent dialogues, how many exemplars were searched for, and those found.
        lengths: Tokens of each of the pool's dialogues, by the function that counted them.
    """

    dialogues: int = 0
    longer: int = 0
    most: int = 0
    found: Recent[Dialogue, tuple[int, tuple[Exemplar, ...]]] = field(default_factory=Recent)
    lengths: "dict[CountTokens, NDArray[np.int64]]" = field(default_factory=dict)


class Similar(Enricher):
    """Uses the most similar training dialogues as exemplars, most similar first.

    Args:
        pool: Training dialogues with references; row i belongs to row i of the index.
        index: Embeddings of the pool.
        encoder: Embeds queries (Eq. 1).
        similarity: Form of queries: the concatenated context ("context"), or that of the released code.
        shots: Number of exemplars.
        settings: The manifest's record of encoder and pool.
        pool_longer: Number of the pool's dialogues with more tokens than the encoder sees.
    """

    def __init__(
        self,
        pool: Sequence[Dialogue],
        index: "Index",
        encoder: DialogueEncoder,
        *,
        similarity: Similarity,
        shots: int,
        settings: dict[str, Any],
        pool_longer: int = 0,
    ) -> None:
        self.pool, self.index, self.encoder = pool, index, encoder
        self.similarity, self.shots, self.settings = similarity, shots, settings
        self.pool_longer, self.seen = pool_longer, Seen()
        self.rows_of: dict[str, list[int]] = defaultdict(list)
        for row, dialogue in enumerate(pool):
            for conversation in dialogue.conversations:
                self.rows_of[conversation].append(row)
        self.batcher: MicroBatcher[tuple[Dialogue, int], tuple[Exemplar, ...]] = MicroBatcher(self._find)

    def with_shots(self, shots: int) -> "Similar":
        """Return the same enricher with another number of exemplars; both share batches."""
        other = copy(self)
        other.shots = shots
        return other

    async def enrich(self, draft: Draft) -> Draft:
        """Add the exemplars, none from the dialogue's own conversation."""
        return replace(draft, exemplars=await self.batcher.submit((draft.dialogue, self.shots)))

    def longest(self, draft: Draft, count: CountTokens) -> Draft:
        """Add the longest dialogues of the pool."""
        import numpy as np

        lengths = self.seen.lengths
        if count not in lengths:
            lengths[count] = np.array(count([_shown(dialogue) for dialogue in self.pool]))
        rows = np.argsort(-lengths[count], kind="stable")[: self.shots]
        return replace(draft, exemplars=tuple(Exemplar(self.pool[row]) for row in rows))

    def remember(self, dialogues: int) -> None:
        """Keep the exemplars of the last dialogues, as many of each as any row shows."""
        self.seen.found.limit = max(self.seen.found.limit, dialogues)
        self.seen.most = max(self.seen.most, self.shots)

    def forget(self, folder: Path) -> None:
        """Forget the exemplars that are kept."""
        self.seen.found.clear()

    def describe(self) -> dict[str, Any]:
        """Return shots, similarity, and the identity of encoder and pool."""
        return {"shots": self.shots, "similarity": self.similarity, **self.settings}

    def notes(self) -> dict[str, str]:
        """Return how many dialogues were too long for the encoder, and which part was ignored."""
        counted = {
            "similar dialogues": (self.seen.longer, f"{self.seen.dialogues:,} dialogues"),
            "similar pool": (self.pool_longer, f"{len(self.pool):,} training dialogues"),
        }
        lost = "beginning" if self.similarity == "context" else "end, the newest turns, as in the released code"
        than = f"more than the {self.encoder.max_seq_length} tokens that the encoder sees"
        return {
            about: f"similar: {longer:,} of {all_of_them} have {than}; they were compared without their {lost}"
            for about, (longer, all_of_them) in counted.items()
            if longer
        }

    def count_anew(self) -> None:
        """Forget the dialogues that were too long; the pool's are known."""
        self.seen.dialogues = self.seen.longer = 0

    def waiting(self) -> dict[str, int]:
        """Return the number of dialogues that wait for the encoder."""
        return {"encoder": self.batcher.waiting}

    def _find(self, asked: Sequence[tuple[Dialogue, int]]) -> list[tuple[Exemplar, ...]]:
        most = max(self.seen.most, *(shots for _, shots in asked))
        known = {dialogue: self.seen.found.get(dialogue) or (0, ()) for dialogue, _ in asked}
        new = [dialogue for dialogue, (searched, _) in known.items() if searched < most]
        for dialogue, found in zip(new, self._search(new, most), strict=True):
            known[dialogue] = most, found
            self.seen.found.put(dialogue, known[dialogue])
        return [known[dialogue][1][:shots] for dialogue, shots in asked]

    def _search(self, dialogues: Sequence[Dialogue], shots: int) -> list[tuple[Exemplar, ...]]:
        if not dialogues:
            return []
        seen = fitted([dialogue.turns for dialogue in dialogues], self.similarity, self.encoder)
        self.seen.dialogues += len(dialogues)
        self.seen.longer += seen.longer
        queries = self.encoder.encode(seen.texts)
        own = [[row for name in dialogue.conversations for row in self.rows_of.get(name, ())] for dialogue in dialogues]
        rows, scores = self.index.search(queries, shots, exclude=own)
        return [
            tuple(Exemplar(self.pool[row], float(score)) for row, score in zip(*found, strict=True) if row >= 0)
            for found in zip(rows, scores, strict=True)
        ]


def _shown(dialogue: Dialogue) -> str:
    """Return a dialogue about as a prompt shows it."""
    return "\n".join(f"{'Listener' if n % 2 else 'Speaker'}: {turn}" for n, turn in enumerate(dialogue.complete_turns))


def similarity_text(turns: Sequence[str], similarity: Similarity) -> str:
    """Return the text to embed: turns joined by a space, or each stripped and followed by one (released code)."""
    if similarity == "context":
        return " ".join(turns)
    return "".join(turn.strip() + " " for turn in turns)


def pool_turns(pool: Sequence[Dialogue], similarity: Similarity) -> list[Sequence[str]]:
    """Return the turns of a pool to compare: contexts (Eq. 2), or contexts and replies (released code)."""
    return [dialogue.turns if similarity == "context" else dialogue.complete_turns for dialogue in pool]


def pool_texts(pool: Sequence[Dialogue], similarity: Similarity) -> list[str]:
    """Return the texts of a pool without truncation."""
    return [similarity_text(turns, similarity) for turns in pool_turns(pool, similarity)]


def fitted(dialogues: Sequence[Sequence[str]], similarity: Similarity, encoder: DialogueEncoder) -> Texts:
    """Return the texts to embed, cut to the newest turns that fit; for the released code, they stay uncut.

    Args:
        dialogues: The turns of each dialogue.
        similarity: How turns are joined.
        encoder: Determines what is too long.
    """
    texts = [similarity_text(turns, similarity) for turns in dialogues]
    longer = [row for row, is_longer in enumerate(encoder.too_long(texts)) if is_longer]
    if similarity == "context":
        for row in longer:
            texts[row] = _newest_turns(dialogues[row], texts[row], encoder)
    return Texts(texts, len(longer))


def _newest_turns(turns: Sequence[str], text: str, encoder: DialogueEncoder) -> str:
    """Return the newest whole turns that fit, or the end of the last turn if not even that fits."""
    begins = list(accumulate(len(turn) + 1 for turn in turns[:-1]))

    def starts(end: str) -> list[int]:
        gone = len(text) - len(end)
        return [begin - gone for begin in begins if begin >= gone]

    return text[encoder.newest(text, starts) :]


def build_similar(context: PartContext) -> Similar:
    """Build the enricher; embeds the pool if it is not cached.

    Raises:
        LocalempError: The pool or the encoder cannot be read, or the index cannot be written.
    """
    _check_shots(context)
    asked = [context.option(option) for option in (POOL, ENCODER, ENCODER_DTYPE)]
    made = context.shared(
        ("similar", context.data, context.instances, context.template.sha256, *asked), lambda: _make_shared(context)
    )
    return made.with_shots(context.option(SHOTS))


def _make_shared(context: PartContext) -> Similar:
    from localemp.retrieval.index import Index

    pool, similarity, name = exemplar_pool(context), context.template.exemplars.similarity, context.option(ENCODER)
    found, encoder = context.encoder(name, context.option(ENCODER_DTYPE))
    shown = fitted(pool_turns(pool, similarity), similarity, encoder)
    index = Index.build_or_load(
        shown.texts,
        encoder,
        {"weights": found.digest},
        on_progress=context.on_progress,
        former=pool_texts(pool, similarity),
    )
    settings = {
        "encoder": name,
        "encoder_sha256": found.digest,
        "encoder_dtype": encoder.dtype,
        "pool_sha256": data_hash(pool),
    }
    return Similar(
        pool,
        index,
        encoder,
        similarity=similarity,
        shots=context.option(SHOTS),
        settings=settings,
        pool_longer=shown.longer,
    )


def _fetch(context: PartContext) -> None:
    _check_shots(context)
    exemplar_pool(context)
    context.weights(context.option(ENCODER), "encoder")


def _check_shots(context: PartContext) -> None:
    if (shots := context.option(SHOTS)) < 1:
        raise OptionError(f"{shots} shots: at least one exemplar is needed", "choose 1 or more")


SIMILAR = Part(
    place="exemplars",
    about="exemplars of similar meaning (section 3.3.1)",
    options=(SHOTS, POOL, ENCODER, ENCODER_DTYPE),
    make=build_similar,
    fetch=_fetch,
)
