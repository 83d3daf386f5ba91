"""`similar`: exemplars that are semantically similar to the dialogue (section 3.3.1, Eq. 1 to 4)."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from localemp.batching import MicroBatcher
from localemp.dialogue import Dialogue
from localemp.strategies.base import Draft, Enricher, Exemplar

if TYPE_CHECKING:
    from localemp.retrieval.index import Index, TextEncoder

Similarity = Literal["context", "context-and-reply"]


class Similar(Enricher):
    """The most similar training dialogues, most similar first.

    Args:
        pool: Training dialogues with references; row i belongs to row i of the index.
        index: Their embeddings.
        encoder: Makes the query's embedding (Eq. 1).
        similarity: How a query is written: the concatenated context ("context"), or as the released code has it.
        shots: How many to show.
        settings: What the manifest records of encoder and pool.
    """

    def __init__(
        self,
        pool: Sequence[Dialogue],
        index: "Index",
        encoder: "TextEncoder",
        similarity: Similarity,
        shots: int,
        settings: dict[str, Any],
    ) -> None:
        self.pool, self.index, self.encoder = pool, index, encoder
        self.similarity, self.shots, self.settings = similarity, shots, settings
        self.rows_of: dict[str, list[int]] = defaultdict(list)
        for row, dialogue in enumerate(pool):
            for conversation in dialogue.conversations:
                self.rows_of[conversation].append(row)
        self.batcher: MicroBatcher[tuple[Dialogue, int], tuple[Exemplar, ...]] = MicroBatcher(self._find)

    def with_shots(self, shots: int) -> "Similar":
        """The same with another number of exemplars; both fill the same batches."""
        other = copy(self)
        other.shots = shots
        return other

    async def enrich(self, draft: Draft) -> Draft:
        """The exemplars, never one from the dialogue's own conversation."""
        return replace(draft, exemplars=await self.batcher.submit((draft.dialogue, self.shots)))

    def describe(self) -> dict[str, Any]:
        """Shots, similarity, and what identifies encoder and pool."""
        return {"shots": self.shots, "similarity": self.similarity, **self.settings}

    def _find(self, asked: Sequence[tuple[Dialogue, int]]) -> list[tuple[Exemplar, ...]]:
        dialogues = [dialogue for dialogue, _ in asked]
        queries = self.encoder.encode([similarity_text(dialogue.turns, self.similarity) for dialogue in dialogues])
        own = [[row for name in dialogue.conversations for row in self.rows_of.get(name, ())] for dialogue in dialogues]
        rows, scores = self.index.search(queries, max(shots for _, shots in asked), exclude=own)
        return [
            tuple(Exemplar(self.pool[row], float(score)) for row, score in zip(*found, strict=True) if row >= 0)[:shots]
            for *found, (_, shots) in zip(rows, scores, asked, strict=True)
        ]


def similarity_text(turns: Sequence[str], similarity: Similarity) -> str:
    """The text that is embedded: turns joined by a space, or stripped and each followed by one (released code)."""
    if similarity == "context":
        return " ".join(turns)
    return "".join(turn.strip() + " " for turn in turns)


def pool_texts(pool: Sequence[Dialogue], similarity: Similarity) -> list[str]:
    """The texts of a pool: its contexts (Eq. 2), or contexts and replies (released code)."""
    turns: Callable[[Dialogue], Sequence[str]] = (
        (lambda dialogue: dialogue.turns) if similarity == "context" else (lambda dialogue: dialogue.complete_turns)
    )
    return [similarity_text(turns(dialogue), similarity) for dialogue in pool]
