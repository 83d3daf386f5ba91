"""`retrieval build`: the index of `similar`, made ahead of time."""

import json

import pytest
from tiny_encoder import save_tiny_encoder

from localemp import build_index

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_pool_is_embedded_ahead_and_the_command_says_where(localemp, tmp_path_factory, tmp_path, monkeypatch):
    encoder = save_tiny_encoder(tmp_path_factory.mktemp("bert"), tmp_path_factory.mktemp("encoder"))
    monkeypatch.setenv("LOCALEMP_CACHE", str(tmp_path / "cache"))
    built = json.loads(localemp("retrieval", "build", "--encoder", encoder, "--json").stdout)
    (folder,) = (tmp_path / "cache" / "index").iterdir()
    assert built["folder"] == str(folder)
    assert (built["dim"], built["settings"]["encoder"]) == (32, str(encoder))
    written = (folder / "embeddings.npy").stat().st_mtime_ns
    again = localemp("retrieval", "build", "--encoder", encoder)
    assert again.stdout.splitlines()[-1] == f"{built['rows']:,} training dialogues, 32 dimensions ({encoder}): {folder}"
    assert "Embedding" not in again.stderr
    assert build_index(encoder=str(encoder)).folder == folder
    assert (folder / "embeddings.npy").stat().st_mtime_ns == written


def test_a_pool_that_is_not_there_is_named(localemp):
    done = localemp("retrieval", "build", "--pool", "nowhere.jsonl")
    assert (done.returncode, "nowhere.jsonl" in done.stderr) == (2, True)
