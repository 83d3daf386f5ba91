"""`retrieval build`: embeds the pool of `similar` ahead of time."""

from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from localemp.pipeline.config import RunConfig, RunSettings
from localemp.pipeline.pipeline import Pipeline
from localemp.strategies.similar import Similar, build_similar
from localemp.utils.progress import OnProgress, silent


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """The index of a pool of exemplars, complete.

    Attributes:
        rows: Number of training dialogues.
        dim: Numbers in each vector.
        folder: Where it is kept; None if that cannot be written, so that it is lost.
        settings: What the manifest of a run with it records: the encoder, its hash and precision, the pool's hash.
        notes: What is to be known, such as how many dialogues are longer than the encoder sees.
    """

    rows: int
    dim: int
    folder: Path | None
    settings: dict[str, str]
    notes: tuple[str, ...]


def build_index(*, on_progress: OnProgress = silent, **settings: Unpack[RunSettings]) -> BuiltIndex:
    """Embed the training dialogues that `similar` finds its exemplars in, so that later commands need not.

        build_index(data="empathetic-dialogues")

    Nothing is embedded twice, and a build that was stopped or killed goes on where it was. The time that it will take
    is logged first (logger `localemp`, level INFO), measured on some of the texts.

    Args:
        on_progress: Called with bytes of weights fetched or verified, and texts embedded.
        **settings: Settings of `RunConfig`: `data`, `pool`, `instances`, `variant`, `encoder`, `encoder_dtype`.

    Raises:
        UnknownNameError: A setting does not exist.
        LocalempError: The pool or the encoder cannot be read, or the index cannot be written.
    """
    similar: Similar = build_similar(Pipeline(RunConfig(**settings), on_progress).context)
    rows, dim = similar.index.vectors.shape
    return BuiltIndex(rows, dim, similar.index.folder, similar.settings, tuple(similar.notes().values()))
