"""Which dialogues of a split are taken: all, the first, or a random sample.

A sample is fair to conversations: no conversation gives a second dialogue before every one has given its first, so that
a hundred dialogues are of a hundred conversations where there are as many. Conversations, and dialogues within each,
are ranked by a hash of seed and id. Therefore a sample is the same on every machine, and part of every larger sample of
the same seed.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from localemp.dialogue import Dialogue
from localemp.errors import OptionError
from localemp.utils.option import check_at_least


@dataclass(frozen=True, slots=True)
class Subset:
    """Which dialogues are taken; all by default.

    Attributes:
        limit: Only the first N, from 1.
        sample: Only N of them at random, from 1; all if there are fewer.
        seed: Of the sample.

    Raises:
        OptionError: A number is below 1, or both are given.
    """

    limit: int | None = None
    sample: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(1, limit=self.limit, sample=self.sample)
        if self.limit is not None and self.sample is not None:
            raise OptionError(
                f"--limit {self.limit} and --sample {self.sample} exclude each other",
                "--limit takes the first dialogues, --sample a random choice: give one of them",
            )

    def of(self, dialogues: Sequence[Dialogue]) -> list[Dialogue]:
        """Return the chosen dialogues, in the order of the data."""
        return [dialogues[position] for position in self.positions(dialogues)]

    def positions(self, dialogues: Sequence[Dialogue]) -> Sequence[int]:
        """Return the positions of the chosen dialogues in the data, from 0, in order."""
        if self.sample is None:
            return range(len(dialogues))[: self.limit]
        conversations: dict[tuple[str, ...], list[int]] = {}
        for position, dialogue in enumerate(dialogues):
            conversations.setdefault(dialogue.conversations or (dialogue.id,), []).append(position)
        ranked: list[tuple[int, bytes, int]] = []
        for names, own in conversations.items():
            rank = self._rank("conversation", *names)
            own.sort(key=lambda position: self._rank("dialogue", dialogues[position].id))
            ranked += [(turn, rank, position) for turn, position in enumerate(own)]
        return sorted(position for _, _, position in sorted(ranked)[: self.sample])

    def settings(self) -> dict[str, Any]:
        """Return what a run's settings say of it. Numbers are left out: a larger one continues the run."""
        return {} if self.sample is None else {"sample_seed": self.seed}

    def describe(self) -> dict[str, int]:
        """Return it as JSON values; nothing for all dialogues."""
        if self.sample is not None:
            return {"sample": self.sample, "sample_seed": self.seed}
        return {} if self.limit is None else {"limit": self.limit}

    def note(self, dialogues: Sequence[Dialogue]) -> str:
        """Return how a sample was drawn, in a line; empty without one."""
        if self.sample is None:
            return ""
        chosen, of = (
            (len(each), len({one.conversations or one.id for one in each})) for each in (self.of(dialogues), dialogues)
        )
        return (
            f"a sample of {chosen[0]:,} of {of[0]:,} dialogues, of {chosen[1]:,} of {of[1]:,} conversations, "
            f"drawn with seed {self.seed}"
        )

    def _rank(self, *names: str) -> bytes:
        return hashlib.sha256(json.dumps([self.seed, *names]).encode()).digest()
