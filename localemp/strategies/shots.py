"""`few-shot`: the same exemplars for every dialogue (section 3.2), sampled by seed or chosen by row."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from localemp.data.conversations import complete_dialogues
from localemp.data.sources import load_dialogues, pool_source
from localemp.dialogue import Dialogue
from localemp.errors import OptionError
from localemp.prompting.template import FixedExemplars
from localemp.strategies.base import CountTokens, Draft, Enricher, Exemplar
from localemp.strategies.parts import Part, PartContext
from localemp.utils.option import Option


def _rows(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise OptionError(f"--shot-indices {text!r} is not a list of row numbers", "use the form 3,14,15") from error


SHOTS = Option(
    name="shots",
    type=int,
    default=5,
    help="Number of exemplars of few-shot and similar.",
    in_requests=Annotated[int, Field(ge=1, le=100)],
)
SHOT_INDICES = Option(
    name="shot_indices",
    type=tuple[int, ...],
    default=(),
    metavar="TEXT",
    help="few-shot: rows of the pool, such as 3,14,15, instead of a sample.",
    parse=_rows,
)
POOL = Option(
    name="pool",
    type=str | None,
    help="Source of exemplars; by default the data set's training split, or `bundled`.",
)


def exemplar_pool(context: PartContext) -> list[Dialogue]:
    """Return the training dialogues for exemplars, in the unit of the prompt variant.

    Raises:
        DataError: The pool cannot be read.
        OptionError: No dialogue has a reply.
    """
    unit, source = context.template.exemplars.unit, context.option(POOL) or pool_source(context.data)

    def load() -> list[Dialogue]:
        instances = load_dialogues(source, "train", context.instances)
        with_reply = [dialogue for dialogue in instances if dialogue.reference]
        if not with_reply:
            raise OptionError(f"--pool {source}: no dialogue has a reply", 'add a "reference" to the dialogues')
        return with_reply if unit == "instance" else complete_dialogues(with_reply)

    return context.shared(("pool", source, context.instances, unit), load)


class FewShot(Enricher):
    """Uses the same exemplars for every dialogue, so that an engine's prefix cache applies.

    Args:
        pool: Training dialogues with references.
        indices: Rows of the pool, in the order of the prompt.
        chosen_by: How the rows were chosen, for the manifest.

    Raises:
        OptionError: The pool does not have a row.
    """

    looks_up = False

    def __init__(self, pool: Sequence[Dialogue], indices: Sequence[int], chosen_by: str) -> None:
        for index in indices:
            if not 0 <= index < len(pool):
                raise OptionError(f"exemplar {index} is not in the pool, which has rows 0 to {len(pool) - 1}")
        self.indices, self.chosen_by = tuple(indices), chosen_by
        self.exemplars = tuple(Exemplar(pool[index]) for index in indices)

    async def enrich(self, draft: Draft) -> Draft:
        """Add the exemplars, except those from the dialogue's own conversation."""
        own = set(draft.dialogue.conversations)
        shown = tuple(exemplar for exemplar in self.exemplars if own.isdisjoint(exemplar.dialogue.conversations))
        return replace(draft, exemplars=shown)

    def longest(self, draft: Draft, count: CountTokens) -> Draft:
        """Add all exemplars."""
        return replace(draft, exemplars=self.exemplars)

    def describe(self) -> dict[str, Any]:
        """Return the rows, how they were chosen, and a hash of their texts."""
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
    """Return the rows of the exemplars, and how they were chosen.

    Args:
        pool_size: Number of rows in the pool.
        shots: Number of exemplars.
        seed: Seed of the sample.
        given: The user's choice of rows, which takes precedence.
        fixed: Rows that the prompt variant fixes for a pool of a certain size (`released`).

    Raises:
        OptionError: There are more shots than rows, or fewer than one.
    """
    if given:
        return tuple(given), "indices given"
    if fixed is not None and fixed.pool_size == pool_size and shots in fixed.indices:
        return fixed.indices[shots], "fixed by the prompt variant"
    if not 1 <= shots <= pool_size:
        raise OptionError(f"{shots} shots: the pool of exemplars has {pool_size} rows", f"choose 1 to {pool_size}")
    return tuple(random.Random(seed).sample(range(pool_size), shots)), f"sampled with seed {seed}"


def _make(context: PartContext) -> FewShot:
    pool, fixed = exemplar_pool(context), context.template.exemplars.fixed
    given = context.option(SHOT_INDICES)
    indices, how = choose_shots(len(pool), context.option(SHOTS), context.seed, given, fixed)
    return FewShot(pool, indices, how)


def _fetch(context: PartContext) -> None:
    _make(context)


FEW_SHOT = Part(
    place="exemplars",
    about="the same exemplars for every dialogue (section 3.2)",
    options=(SHOTS, SHOT_INDICES, POOL),
    make=_make,
    fetch=_fetch,
)
