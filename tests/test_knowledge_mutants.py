"""Files of weights and of inferences that disks and other programs have damaged: no traceback, whatever they hold."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from package_index import TINY, TINY_SHA256
from tiny_comet import save_tiny
from tiny_encoder import save_tiny_encoder
from utils.mutants import Kind

from localemp.commonsense.comet import Comet
from localemp.commonsense.inferences import Beam
from localemp.commonsense.store import Entry, KnowledgeStore, line_of
from localemp.commonsense.writer import KnowledgeWriter
from localemp.dialogue import Dialogue
from localemp.engines.tokens import PromptTokenizer, context_length
from localemp.models.checksums import write_manifest
from localemp.models.profiles import PackageSource, Profile
from localemp.models.weights import cached_folder, find, resolve
from localemp.retrieval.encoder import Encoder

pytestmark = pytest.mark.usefixtures("one_thread")

HEADER = {"comet": "tiny", "comet_sha256": "ab", "event": "context", "split": "test"}
PACKAGE = PackageSource(requirements=("tiny==1.0",), recipe="wheel", sha256=TINY_SHA256)


def inferences(folder: Path) -> Path:
    path = folder / "k.jsonl"
    with KnowledgeWriter.open(path, HEADER) as writer:
        for name in ("a", "b", "c"):
            beams = {"xReact": (Beam("sad", -0.5), Beam("worried")), "xWant": ()}
            writer.add([Entry(f"I lost {name}.", beams, name, cut=len(name))])
    return path


def comfact(folder: Path) -> Path:
    path = folder / "comfact.jsonl"
    record = {"index": 0, "conv_id": "c1", "last_utterance": "I lost it.", "xIntent": [], "xReact": ["sad", "worried"]}
    path.write_text("".join(json.dumps({**record, "index": index}) + "\n" for index in range(3)))
    return path


def read_store(path: Path) -> None:
    store = KnowledgeStore.read(path)
    found = store.find(Dialogue("a", ("I lost a.",), conversations=("c1",)))
    for beams in (found or {}).values():
        line_of(Entry("x", {"xReact": beams}))
    store.check_settings({"event": "context", "comet_sha256": "ab"})


def go_on_writing(path: Path) -> None:
    with KnowledgeWriter.open(path, HEADER) as writer:
        writer.add([Entry("new", {"xReact": (Beam("glad"),)}, "new")])


def cached_weights(folder: Path) -> Path:
    place = cached_folder(Profile(name="tiny", kind="encoder", package=PACKAGE))
    for name, data in TINY.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    write_manifest(place, PACKAGE.model_dump(mode="json", include={"requirements", "recipe", "sha256"}))
    return place / "weights.json"


def resolve_cached(path: Path) -> None:
    profile = Profile(name="tiny", kind="encoder", package=PACKAGE)
    find(profile)
    resolve(profile, fetch=False)


def sharded(folder: Path) -> Path:
    (folder / "config.json").write_text('{"model_type": "bert"}')
    for number in (1, 2):
        (folder / f"model-{number}.safetensors").write_bytes(b"w")
    path = folder / "model.safetensors.index.json"
    path.write_text(
        json.dumps({"metadata": {}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    )
    return path


def resolve_given(path: Path) -> None:
    resolve(Profile(name="given", kind="encoder", path=path.parent))


def encoder(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "base").mkdir()
        return save_tiny_encoder(folder / "base", folder / "encoder") / name

    return make


def load_encoder(path: Path) -> None:
    used = Encoder(path.parent, "float32", "cpu")
    used.encode(used.ends(["my dog died", "cat " * 50]))


def comet(name: str) -> Callable[[Path], Path]:
    return lambda folder: save_tiny(folder) / name


def load_comet(path: Path) -> None:
    Comet(path.parent, max_new_tokens=2, device="cpu")


def load_tokenizer(path: Path) -> None:
    PromptTokenizer(path.parent)


KINDS = {
    "inferences": Kind(inferences, read_store),
    "inferences, gone on with": Kind(inferences, go_on_writing),
    "ComFact's inferences": Kind(comfact, read_store),
    "weights.json": Kind(cached_weights, resolve_cached),
    "index of shards": Kind(sharded, resolve_given),
    "modules.json": Kind(encoder("modules.json"), load_encoder, 60),
    "encoder's config.json": Kind(encoder("config.json"), load_encoder, 60),
    "encoder's tokenizer_config.json": Kind(encoder("tokenizer_config.json"), load_encoder, 40),
    "COMET's config.json": Kind(comet("config.json"), load_comet, 60),
    "COMET's tokenizer.json": Kind(comet("tokenizer.json"), load_tokenizer, 60),
    "a context's config.json": Kind(comet("config.json"), lambda path: context_length(path.parent)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_mutant_ends_in_a_traceback(kind: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOCALEMP_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "made"
    folder.mkdir()
    KINDS[kind].check(folder, share)
