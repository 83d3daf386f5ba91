"""A folder with a fitted model: `card.json`, and its tensors in a safetensors file whose name has their hash.

The card names that file, so the new card takes a new model into use at once, and an interruption leaves the old one.
"""

import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load_file, save

from localemp.errors import OptionError, WeightsError
from localemp.metrics.epitome.network import Classifier, FrozenEncoder, Network
from localemp.models.profiles import load_profile
from localemp.models.safetensors_header import TensorHeader, read_header
from localemp.models.stamps import sha256_of
from localemp.models.weights import resolve, tensors_sha256
from localemp.utils.files import is_file, write_atomically, write_errors, write_json
from localemp.utils.json_reader import JSONError, load_json
from localemp.utils.locks import file_lock
from localemp.utils.paths import cache_dir
from localemp.utils.progress import OnProgress, silent
from localemp.utils.validation import format_validation_error

CARD = "card.json"
TRAIN_AGAIN = "`localemp models train epitome --data FOLDER` fits it again"

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class Measured(_Strict):
    """Accuracy and macro-F1 of a mechanism, both times 100."""

    accuracy: Percent
    macro_f1: Percent


class HeldOut(_Strict):
    """One mechanism on a part of the pairs: the model, and always naming the level that is most frequent in train."""

    pairs: int
    model: Measured
    majority: Measured


class Recipe(_Strict):
    """How a model is fitted. docs/metrics.md says how these values were chosen.

    Attributes:
        seed: Of the first weights, the order of pairs and dropout.
        epochs: How often each pair is read.
        batch_size: Pairs in one step.
        layer_rate: Highest learning rate of the layers (AdamW; a tenth of the steps up, then down to zero).
        head_rate: The same of attention and heads.
        weight_decay: Of all.
        dropout: In the heads; the layers have that of the encoder.
        rationales: Weight of the tokens' loss beside that of the levels.
        balance: The loss of a level is weighted by its frequency to the power of minus this.
        max_tokens: The most tokens of a text.
    """

    seed: int = 0
    epochs: int = 4
    batch_size: int = 32
    layer_rate: float = 3e-4
    head_rate: float = 1e-3
    weight_decay: float = 0.01
    dropout: float = 0.1
    rationales: float = 0.5
    balance: float = 0.5
    max_tokens: Annotated[int, Field(ge=3, le=2**16)] = 64


class Card(_Strict):
    """What is known of a fitted model.

    Attributes:
        format: Of the folder.
        tensors: Name of the file.
        sha256: Of that file.
        encoder: Name or folder of the sentence encoder that it was fitted on.
        encoder_sha256: Of the encoder's tensors.
        data_sha256: Of the labelled pairs.
        split: How they were divided.
        pairs: How many are in train, dev and test.
        recipe: How it was fitted.
        versions: Of the libraries.
        seconds: How long reading and fitting took.
        dev, test: Mechanism -> results on these parts.
    """

    format: Literal[1] = 1
    tensors: Annotated[str, Field(pattern=r"^[0-9a-z-]+\.safetensors$")]
    sha256: Sha256
    encoder: str
    encoder_sha256: Sha256
    data_sha256: Sha256
    split: str
    pairs: dict[str, int]
    recipe: Recipe
    versions: dict[str, str]
    seconds: float
    dev: dict[str, HeldOut]
    test: dict[str, HeldOut]


@dataclass(frozen=True, slots=True)
class Model:
    """A fitted model, ready for use: `classifier(pairs)` yields levels batch by batch."""

    classifier: Classifier
    card: Card


def default_folder() -> Path:
    """Return where a model is kept, and looked for, if no folder is given."""
    return cache_dir("models", "epitome")


def check_out(folder: Path) -> None:
    """Make the folder of a model if need be, before minutes are spent on fitting it.

    Raises:
        OptionError: It holds anything else than a fitted model.
        WeightsError: It cannot be written.
    """
    with _written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
        if not is_file(folder / CARD) and any(folder.iterdir()):
            raise OptionError(f"{folder} holds other files", "choose another --out")


def _written(folder: Path) -> AbstractContextManager[None]:
    return write_errors(lambda what, hint: WeightsError(f"{folder}: {what}", hint), "choose another --out")


def read_card(folder: Path) -> Card:
    """Read the card of a model.

    Raises:
        WeightsError: There is none, or it is invalid.
    """
    path = folder / CARD
    try:
        return Card.model_validate(load_json(path))
    except OSError as error:
        raise WeightsError(f"no EPITOME model in {folder}: {CARD}: {error.strerror or error}", TRAIN_AGAIN) from error
    except (JSONError, ValidationError) as error:
        what = format_validation_error(error) if isinstance(error, ValidationError) else str(error)
        raise WeightsError(f"{path}: {what}", TRAIN_AGAIN) from error


def save_model(folder: Path, network: Network, card: Mapping[str, Any]) -> Card:
    """Write a model; the one that the folder had stays in use until this one is complete.

    Args:
        folder: Where; made if need be.
        network: What was fitted.
        card: The values of its card, without those of the file.

    Raises:
        WeightsError: The folder cannot be written.
    """
    raw = save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
    digest = hashlib.sha256(raw).hexdigest()
    # Another process that fits into this folder would remove these tensors before the card names them.
    with _written(folder), file_lock(folder.absolute().with_name(f".{folder.name}.lock"), f"writes to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        made = Card(tensors=f"epitome-{digest[:12]}.safetensors", sha256=digest, **card)
        write_atomically(folder / made.tensors, raw)
        write_json(folder / CARD, made.model_dump(mode="json"))
        for former in folder.glob("epitome-*.safetensors"):
            if former.name != made.tensors:
                former.unlink(missing_ok=True)
    return made


def load_model(folder: Path, on_progress: OnProgress = silent, *, fetch: bool = True) -> Model:
    """Load a model and the encoder that it was fitted on.

    Args:
        folder: The model.
        on_progress: Called with bytes of the encoder that are fetched or checked.
        fetch: Whether the encoder may be fetched.

    Raises:
        WeightsError: The folder holds no model or a damaged one, or the encoder is missing or another one.
    """
    card = read_card(folder)
    path = folder / card.tensors
    header = read_header(path)
    if sha256_of(path) != card.sha256:
        raise WeightsError(f"{path} is not the file of its {CARD}: it has another SHA-256", TRAIN_AGAIN)
    base = resolve(load_profile(card.encoder, "encoder"), on_progress, fetch=fetch, option="--encoder")
    if (found := tensors_sha256(base)) != card.encoder_sha256:
        told = f"SHA-256 {card.encoder_sha256[:12]}, not {found[:12]}"
        raise WeightsError(f"{folder} was fitted on another {card.encoder} ({told})", TRAIN_AGAIN)
    encoder = FrozenEncoder(base.folder, card.recipe.max_tokens)
    network = Network(encoder)
    expected = {name: ("F32", tuple(tensor.shape)) for name, tensor in network.state_dict().items()}
    differ = [name for name in sorted(expected.keys() | header.keys()) if _told(header, name) != expected.get(name)]
    if differ:
        raise WeightsError(f"{path}: {len(differ)} tensors do not fit, such as {differ[0][:100]}", TRAIN_AGAIN)
    tensors = load_file(path)
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise WeightsError(f"{path}: some numbers are not finite", TRAIN_AGAIN)
    network.load_state_dict(tensors)
    return Model(Classifier(encoder, network), card)


def _told(header: Mapping[str, TensorHeader], name: str) -> tuple[str, tuple[int, ...]] | None:
    return (header[name].dtype, header[name].shape) if name in header else None
