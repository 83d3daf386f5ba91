"""`few-shot`: exemplars that are the same for every dialogue (section 3.2), sampled once by seed or chosen by index."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from localemp.dialogue import Dialogue
from localemp.errors import OptionError
from localemp.prompting.template import FixedExemplars
from localemp.strategies.base import Draft, Enricher, Exemplar


class FewShot(Enricher):
    """The same exemplars for every dialogue, so that an engine's prefix cache holds them.

    Args:
        pool: Training dialogues with references.
        indices: Rows of the pool, in the order in which they are shown.
        chosen_by: How the rows were chosen, for the manifest.

    Raises:
        OptionError: A row that the pool does not have.
    """

    def __init__(self, pool: Sequence[Dialogue], indices: Sequence[int], chosen_by: str) -> None:
        for index in indices:
            if not 0 <= index < len(pool):
                raise OptionError(f"exemplar {index} is not in the pool, which has rows 0 to {len(pool) - 1}")
        self.indices, self.chosen_by = tuple(indices), chosen_by
        self.exemplars = tuple(Exemplar(pool[index]) for index in indices)

    async def enrich(self, draft: Draft) -> Draft:
        """The exemplars, without any from the dialogue's own conversation."""
        own = set(draft.dialogue.conversations)
        shown = tuple(exemplar for exemplar in self.exemplars if own.isdisjoint(exemplar.dialogue.conversations))
        return replace(draft, exemplars=shown)

    def describe(self) -> dict[str, Any]:
        """Rows, how they were chosen, and a hash of their texts."""
        texts = "\n".join(turn for shown in self.exemplars for turn in shown.dialogue.complete_turns)
        return {
            "shots": len(self.indices),
            "shot_indices": list(self.indices),
            "shots_chosen_by": self.chosen_by,
            "shots_sha256": hashlib.sha256(texts.encode()).hexdigest(),
        }


def choose_shots(
    pool_size: int, shots: int, seed: int, given: Sequence[int] | None = None, fixed: FixedExemplars | None = None
) -> tuple[tuple[int, ...], str]:
    """Rows of the exemplars, and how they were chosen.

    Args:
        pool_size: Rows in the pool.
        shots: How many to show.
        seed: Of the sample.
        given: Rows that the user named; they win.
        fixed: Rows that the prompt variant fixes for a pool of one very size (`released`).

    Raises:
        OptionError: More shots than rows, or fewer than one.
    """
    if given:
        return tuple(given), "indices given"
    if fixed is not None and fixed.pool_size == pool_size and shots in fixed.indices:
        return fixed.indices[shots], "fixed by the prompt variant"
    if not 1 <= shots <= pool_size:
        raise OptionError(f"{shots} shots: the pool of exemplars has {pool_size} rows", f"choose 1 to {pool_size}")
    return tuple(random.Random(seed).sample(range(pool_size), shots)), f"sampled with seed {seed}"
