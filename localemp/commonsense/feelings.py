"""Whether a context tells of something pleasant, and whether a reaction names a feeling that contradicts it.

The feelings that a text names are looked up in a list of words. A context seldom names its own, so its vector from the
sentence encoder is projected on a direction from unpleasant to pleasant situations as well (`models/feelings/`).
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from localemp.utils.json_reader import parse_json
from localemp.utils.paths import resource

# Words that turn the next three into their opposite, such as "not very happy".
_NEGATIONS = frozenset(("no", "not", "never", "without", "less", "isn't", "wasn't", "don't", "doesn't", "didn't"))
_REACH = 3


@dataclass(frozen=True, slots=True)
class Feelings:
    """How pleasant contexts are, and the feelings that reactions name.

    Attributes:
        weight: Weight of the agreement between reaction and context in a reaction's value.
        signs: 1 for words that name a pleasant feeling, -1 for those that name an unpleasant one.
        direction: From unpleasant to pleasant, shape (dim of the encoder,).
        offset: Added to a vector's projection, so that 0 is neither.
        word_weight: Weight of the feelings that a context names, beside its projection.
        clear: How far from 0 a context's feeling must be for a reaction to contradict it.
        sha256: SHA-256 of the file, for manifests.
    """

    weight: float
    signs: Mapping[str, int] = field(repr=False)
    direction: NDArray[np.float32] = field(repr=False)
    offset: float
    word_weight: float
    clear: float
    sha256: str

    def of_context(self, text: str, vector: NDArray[np.float32]) -> float:
        """Return how pleasant a context is, from -1 to 1.

        Args:
            text: The context.
            vector: Its unit vector.
        """
        return float(np.tanh(vector @ self.direction + self.offset + self.word_weight * self.named(text)))

    def named(self, text: str) -> float:
        """Return the mean sign of the feelings that a text names, from -1 to 1; 0 if it names none."""
        signs: list[int] = []
        reach = 0
        for word in re.findall(r"[\w']+", text.lower()):
            if word in _NEGATIONS:
                reach = _REACH
                continue
            if word in self.signs:
                signs.append(-self.signs[word] if reach else self.signs[word])
            reach = max(0, reach - 1)
        return sum(signs) / len(signs) if signs else 0.0


def load_feelings(encoder: str, encoder_sha256: str) -> Feelings | None:
    """Read the words and the direction for a sentence encoder; None if none was fitted for these weights."""
    path = resource("models", "feelings", f"{Path(encoder).name}.json")
    if not path.is_file():
        return None
    content = path.read_bytes()
    read = parse_json(content)
    if read["encoder_sha256"] != encoder_sha256:
        return None
    return Feelings(
        weight=read["weight"],
        word_weight=read["word_weight"],
        clear=read["clear"],
        signs=dict.fromkeys(read["pleasant"], 1) | dict.fromkeys(read["unpleasant"], -1),
        direction=np.array(read["direction"], dtype=np.float32),
        offset=read["offset"],
        sha256=hashlib.sha256(content).hexdigest(),
    )
