"""Fits the direction from unpleasant to pleasant situations that `localemp/commonsense/feelings.py` uses.

    python models/training/fit_feelings.py

Ridge regression on the sentence encoder's vectors of the situations that were written for localemp, each side with the
same weight. The words of `models/feelings/` stay as they are.
"""

import json
from pathlib import Path

import click
import numpy as np

from localemp.models.profiles import load_profile
from localemp.models.weights import resolve
from localemp.retrieval.encoder import Encoder
from localemp.utils.paths import resource

# fmt: off
PLEASANT = frozenset((
    "anticipating", "caring", "confident", "content", "excited", "faithful", "grateful", "hopeful", "impressed",
    "joyful", "prepared", "proud", "trusting",
))
# fmt: on
UNCLEAR = frozenset(("nostalgic", "sentimental", "surprised"))  # both happy and sad stories have these labels
RIDGE = 5.0
SHARPNESS = 2.0  # a regression value of 0.5 makes a context 0.76 pleasant
SITUATIONS = ("models/training/situations.jsonl", "prompts/dialogues/train.jsonl")


@click.command()
@click.option("--encoder", default="all-minilm-l6-v2", show_default=True)
def main(encoder: str) -> None:
    """Fit the direction for a sentence encoder, and write it to `models/feelings/`."""
    root = Path(__file__).parents[2]
    rows = [json.loads(line) for name in SITUATIONS for line in (root / name).read_text("utf-8").splitlines()]
    rows = [row for row in rows if row["emotion"] not in UNCLEAR]
    weights = resolve(load_profile(encoder, "encoder"))
    vectors = Encoder(weights.folder, "float32").encode([row["situation"] for row in rows]).astype(np.float64)
    pleasant = np.array([row["emotion"] in PLEASANT for row in rows])
    direction, offset = fit(vectors, pleasant)
    path = resource("models", "feelings", f"{encoder}.json")
    fitted = {"encoder_sha256": weights.digest, "offset": round(SHARPNESS * offset, 4)}
    content = {
        **json.loads(path.read_text("utf-8")),
        **fitted,
        "direction": np.round(SHARPNESS * direction, 4).tolist(),
    }
    path.write_text(as_text(content), "utf-8")
    right = ((vectors @ direction + offset > 0) == pleasant).mean()
    click.echo(f"{len(rows)} situations, {right:.1%} of them on their side; written to {path}")


def fit(vectors: np.ndarray, pleasant: np.ndarray) -> tuple[np.ndarray, float]:
    """Return a direction and an offset, so that pleasant situations are near 1 and the others near -1."""
    middle = (vectors[pleasant].mean(0) + vectors[~pleasant].mean(0)) / 2
    centred, weight = vectors - middle, np.where(pleasant, 0.5 / pleasant.mean(), 0.5 / (~pleasant).mean())
    weighted = centred * weight[:, None]
    target = np.where(pleasant, 1.0, -1.0)
    direction = np.linalg.solve(centred.T @ weighted + RIDGE * np.eye(len(middle)), weighted.T @ target)
    return direction, float(-middle @ direction)


def as_text(content: dict[str, object]) -> str:
    """JSON with one key a line, so that a changed word is a changed line of a diff."""
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()) + "\n}\n"


if __name__ == "__main__":
    main()
