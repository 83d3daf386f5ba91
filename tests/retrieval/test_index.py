"""Exact search against brute force, and an index on disk that survives kills, cuts and damage."""

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from patience import wait_until
from read_only import only_read, open_folder

from localemp.errors import LocalempError, OptionError
from localemp.retrieval import index as module
from localemp.retrieval.index import CHUNK_ROWS, Index

Vectors = NDArray[np.float32]


def unit(rows: int, dim: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    normal: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normal


def brute_force(vectors: Vectors, queries: Vectors, k: int, exclude: Sequence[Collection[int]] | None = None):
    """Sorts everything, one query at a time."""
    found = np.full((len(queries), k), -1)
    for number, query in enumerate(queries):
        scores = (vectors.astype(np.float64) * query).sum(axis=1)
        # The sort is stable, so equal rows stay in their order.
        order = [row for row in np.argsort(-scores, kind="stable") if exclude is None or row not in exclude[number]][:k]
        found[number, : len(order)] = order
    return found


class LetterEncoder:
    """A small real encoder: a text's vector depends on its letters only. Counts what it is asked to embed."""

    def __init__(
        self, dim: int = 12, dtype: str = "float32", version: str = "1", stop_after: int | None = None
    ) -> None:
        self.dim, self.dtype, self.version, self.stop_after = dim, dtype, version, stop_after
        self.calls: list[int] = []

    @property
    def key(self) -> Mapping[str, str]:
        return {"dtype": self.dtype, "dim": str(self.dim)}

    @property
    def versions(self) -> Mapping[str, str]:
        return {"letters": self.version}

    def encode(self, texts: Sequence[str]) -> Vectors:
        if self.stop_after is not None and len(self.calls) >= self.stop_after:
            raise KeyboardInterrupt
        self.calls.append(len(texts))
        vectors = np.ones((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for place, letter in enumerate(text.encode()):
                row[letter % self.dim] += place
        normal: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return normal


TEXTS = [f"text number {number}" for number in range(3 * CHUNK_ROWS + 10)]
KEY = {"weights": "abc"}


def only_folder(folder: Path) -> Path:
    (place,) = folder.iterdir()
    return place


# Search


def test_by_hand():
    index = Index(np.array([[1, 0], [0, 1], [-1, 0], [0.6, 0.8]], dtype=np.float32))
    rows, scores = index.search(np.array([[1, 0], [0, 1]], dtype=np.float32), 3)
    assert rows.tolist() == [[0, 3, 1], [1, 3, 0]]
    assert scores == pytest.approx(np.array([[1, 0.6, 0], [1, 0.8, 0]]))
    assert scores.dtype == np.float32


@pytest.mark.parametrize(
    ("rows", "queries", "dim", "k"),
    [(1, 1, 3, 1), (7, 3, 5, 7), (300, 40, 16, 5), (1000, 9, 64, 1), (1000, 9, 64, 70), (513, 2, 1, 5)],
)
def test_like_brute_force(rows: int, queries: int, dim: int, k: int):
    vectors, asked = unit(rows, dim), unit(queries, dim, seed=1)
    found, scores = Index(vectors).search(asked, k)
    assert found.tolist() == brute_force(vectors, asked, k).tolist()
    assert scores == pytest.approx((vectors[found] * asked[:, None]).sum(axis=2), abs=1e-5)


def test_more_rows_than_one_block():
    vectors, asked = unit(2 * module._ROWS + 77, 8), unit(module._QUERIES + 3, 8, seed=1)
    found, _ = Index(vectors).search(asked, 5)
    some = [0, 1, module._QUERIES - 1, module._QUERIES, module._QUERIES + 2]
    assert found[some].tolist() == brute_force(vectors, asked[some], 5).tolist()


def test_exact_ties_go_to_the_lower_row():
    distinct = unit(40, 24)
    vectors = distinct[np.random.default_rng(3).integers(0, 40, 20_000)]
    asked = unit(6, 24, seed=1)
    found, scores = Index(vectors).search(asked, 700)
    assert found.tolist() == brute_force(vectors, asked, 700).tolist()
    assert len(np.unique(scores[0])) < 5


def test_all_rows_alike():
    vectors = np.repeat(unit(1, 48), 9000, axis=0)
    found, _ = Index(vectors).search(unit(3, 48, seed=1), 4)
    assert found.tolist() == [[0, 1, 2, 3]] * 3


def test_scores_that_differ_by_less_than_float32_can_tell():
    """Cosines 1 - e^2/2 with e of about 1e-4: float32 sums round them together, float64 keeps their order."""
    angles = np.linspace(1e-4, 2e-4, 200)
    np.random.default_rng(0).shuffle(angles)
    vectors = np.zeros((200, 64), dtype=np.float32)
    vectors[:, 0], vectors[:, 1] = np.cos(angles), np.sin(angles)
    asked = unit(5, 64, seed=1)
    assert Index(vectors).search(asked, 20)[0].tolist() == brute_force(vectors, asked, 20).tolist()


def test_excluded_rows_are_never_found():
    vectors, asked = unit(500, 16), unit(4, 16, seed=1)
    best = brute_force(vectors, asked, 10)
    exclude: list[Collection[int]] = [[], best[1, :3].tolist(), set(best[2].tolist()), range(500)]
    found, scores = Index(vectors).search(asked, 5, exclude)
    assert found.tolist() == brute_force(vectors, asked, 5, exclude).tolist()
    assert found[1].tolist() == best[1, 3:8].tolist()
    assert found[3].tolist() == [-1] * 5
    assert np.isneginf(scores[3]).all()


def test_fewer_rows_than_asked_for_are_padded():
    vectors = unit(3, 8)
    found, scores = Index(vectors).search(vectors[:2], 5, [[1], []])
    assert found[0, 0] == 0
    assert found[0, 2:].tolist() == [-1, -1, -1]
    assert sorted(found[1].tolist()) == [-1, -1, 0, 1, 2]
    assert np.isneginf(scores[0, 2:]).all() and np.isfinite(scores[0, :2]).all()


def test_the_answer_does_not_depend_on_which_queries_are_asked_together():
    vectors, asked = unit(3000, 32), unit(50, 32, seed=1)
    rows, scores = Index(vectors).search(asked, 5)
    for number in (0, 17, 49):
        alone = Index(vectors).search(asked[number : number + 1], 5)
        assert alone[0].tolist() == [rows[number].tolist()]
        assert alone[1].tolist() == [scores[number].tolist()]


def test_no_queries():
    rows, scores = Index(unit(4, 8)).search(np.zeros((0, 8), dtype=np.float32), 3, [])
    assert rows.shape == scores.shape == (0, 3)


def test_what_does_not_fit_is_refused():
    index = Index(unit(4, 8))
    with pytest.raises(OptionError, match="0 similar dialogues"):
        index.search(unit(1, 8), 0)
    with pytest.raises(ValueError, match=r"\(1, 7\)"):
        index.search(unit(1, 7), 1)
    with pytest.raises(ValueError, match="2 exclusions for 1"):
        index.search(unit(1, 8), 1, [[], []])


# On disk


def test_a_pool_is_embedded_once(tmp_path: Path):
    encoder, heard = LetterEncoder(), []
    index = Index.build_or_load(TEXTS, encoder, KEY, tmp_path, on_progress=lambda p: heard.append((p.done, p.total)))
    assert index.vectors.tolist() == LetterEncoder().encode(TEXTS).tolist()
    assert encoder.calls == [CHUNK_ROWS] * 3 + [10]
    assert heard == [(done, len(TEXTS)) for done in (0, 256, 512, 768, 778)]
    again, silence = LetterEncoder(version="2"), []
    loaded = Index.build_or_load(TEXTS, again, KEY, tmp_path, on_progress=silence.append)
    assert loaded.vectors.tolist() == index.vectors.tolist()
    assert again.calls == silence == []
    assert np.load(only_folder(tmp_path) / "embeddings.npy").shape == (len(TEXTS), 12)
    meta = json.loads((only_folder(tmp_path) / "meta.json").read_text())
    assert meta["key"].items() >= {"weights": "abc", "dtype": "float32", "dim": "12", "rows": "778"}.items()
    assert meta["versions"] == {"letters": "1", "numpy": np.__version__}


def test_from_disk_as_from_memory(tmp_path: Path):
    texts = [f"{number * number} and {number}" for number in range(module._ROWS + 5)]
    index = Index.build_or_load(texts, LetterEncoder(), KEY, tmp_path)
    assert isinstance(index.vectors, np.memmap)
    asked = LetterEncoder().encode(["12 and 9", "nothing", "81 and 9"])
    assert index.search(asked, 9)[0].tolist() == brute_force(np.array(index.vectors), asked, 9).tolist()


def test_whatever_changes_the_vectors_gives_another_index(tmp_path: Path):
    builds = [
        (TEXTS[:3], LetterEncoder(), KEY),
        (TEXTS[:3], LetterEncoder(), {"weights": "def"}),
        (TEXTS[:3], LetterEncoder(dtype="bfloat16"), KEY),
        (TEXTS[:3], LetterEncoder(dim=8), KEY),
        (TEXTS[:4], LetterEncoder(), KEY),
        (["text number 0text number 1", "", "text number 2"], LetterEncoder(), KEY),
    ]
    for texts, encoder, key in builds:
        Index.build_or_load(texts, encoder, key, tmp_path)
        assert encoder.calls == [len(texts)]
    assert len(list(tmp_path.iterdir())) == len(builds)


def test_by_default_the_cache_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOCALEMP_CACHE", str(tmp_path))
    Index.build_or_load(TEXTS[:3], LetterEncoder(), KEY)
    assert (only_folder(tmp_path / "index") / "embeddings.npy").is_file()


@pytest.mark.parametrize("finished", [0, 1, 3])
def test_a_stopped_build_goes_on_where_it_was(tmp_path: Path, finished: int):
    with pytest.raises(KeyboardInterrupt):
        Index.build_or_load(TEXTS, LetterEncoder(stop_after=finished), KEY, tmp_path)
    encoder, heard = LetterEncoder(), []
    index = Index.build_or_load(TEXTS, encoder, KEY, tmp_path, on_progress=lambda p: heard.append(p.done))
    assert sum(encoder.calls) == len(TEXTS) - finished * CHUNK_ROWS
    assert heard[0] == finished * CHUNK_ROWS
    assert index.vectors.tolist() == LetterEncoder().encode(TEXTS).tolist()


def test_a_long_build_tells_its_time_first_and_a_stopped_one_what_is_kept(tmp_path: Path, monkeypatch, caplog):
    caplog.set_level("INFO", "localemp")
    clock = iter((0.0, 4.0))
    monkeypatch.setattr(module, "perf_counter", lambda: next(clock))
    texts = [f"text number {number}" for number in range(2000)]
    encoder = LetterEncoder(stop_after=3)
    with pytest.raises(KeyboardInterrupt) as stop:
        Index.build_or_load(texts, encoder, KEY, tmp_path)
    assert encoder.calls == [module._WARM_UP, module._TIMED, CHUNK_ROWS]
    assert caplog.messages[0].startswith(
        "embedding 2,000 texts takes about 4 min on this machine (8 texts/s, measured on 32"
    )
    assert stop.value.__notes__ == ["256 of 2,000 texts embedded"]


SLOW_BUILD = """
import sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent)]
from test_index import KEY, TEXTS, LetterEncoder
from localemp.retrieval.index import Index

class Slow(LetterEncoder):
    def encode(self, texts):
        if self.calls:
            time.sleep(600)  # the rest is for the next one
        return super().encode(texts)

Index.build_or_load(TEXTS, Slow(), KEY, Path(sys.argv[2]))
"""


def test_a_killed_build_goes_on_where_it_was(tmp_path: Path):
    build = subprocess.Popen([sys.executable, "-c", SLOW_BUILD, str(Path(__file__).parent), str(tmp_path)])
    wait_until(lambda: any(path.stat().st_size for path in tmp_path.glob("*/chunks.txt")), process=build)
    build.kill()
    build.wait()
    encoder = LetterEncoder()
    index = Index.build_or_load(TEXTS, encoder, KEY, tmp_path)
    assert 10 <= sum(encoder.calls) <= len(TEXTS) - CHUNK_ROWS
    assert index.vectors.tolist() == LetterEncoder().encode(TEXTS).tolist()


def cut_in_half(place: Path) -> None:
    path = place / "embeddings.npy"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_byte(place: Path) -> None:
    path = place / "embeddings.npy"
    content = bytearray(path.read_bytes())
    content[-10 * 12 * 4 - 1] ^= 1  # the last byte of the third chunk
    path.write_bytes(content)


def break_the_header(place: Path) -> None:
    with (place / "embeddings.npy").open("r+b") as file:
        file.write(b"not numpy")


def append_garbage(place: Path) -> None:
    with (place / "embeddings.npy").open("ab") as file:
        file.write(b"more")


def lose_the_vectors(place: Path) -> None:
    (place / "embeddings.npy").unlink()


def cut_the_record(place: Path) -> None:
    path = place / "chunks.txt"
    path.write_bytes(path.read_bytes()[:-20])


def scramble_the_record(place: Path) -> None:
    (place / "chunks.txt").write_bytes(b"\xff\xfe one\n1 2 3\n\n0")


def lose_the_meta(place: Path) -> None:
    (place / "meta.json").unlink()


def cut_the_meta(place: Path) -> None:
    (place / "meta.json").write_text('{"key": {"weights"')


def mismatch_the_meta(place: Path) -> None:
    path = place / "meta.json"
    path.write_text(path.read_text().replace("abc", "xyz"))


@pytest.mark.parametrize(
    ("damage", "embedded"),
    [
        (cut_in_half, 2 * CHUNK_ROWS + 10),
        (flip_a_byte, CHUNK_ROWS),
        (break_the_header, 0),
        (append_garbage, 0),
        (lose_the_vectors, len(TEXTS)),
        (cut_the_record, 10),
        (scramble_the_record, len(TEXTS)),
        (lose_the_meta, len(TEXTS)),
        (cut_the_meta, len(TEXTS)),
        (mismatch_the_meta, len(TEXTS)),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_damage_is_noticed_and_repaired(tmp_path: Path, damage, embedded: int):
    Index.build_or_load(TEXTS, LetterEncoder(), KEY, tmp_path)
    damage(only_folder(tmp_path))
    for expected in (embedded, 0):
        encoder = LetterEncoder()
        index = Index.build_or_load(TEXTS, encoder, KEY, tmp_path)
        assert sum(encoder.calls) == expected
        assert index.vectors.tolist() == LetterEncoder().encode(TEXTS).tolist()


def test_two_at_once_share_the_work(tmp_path: Path):
    encoders = [LetterEncoder(), LetterEncoder()]
    threads = [
        threading.Thread(target=Index.build_or_load, args=(TEXTS, encoder, KEY, tmp_path)) for encoder in encoders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sum(encoder.calls) for encoder in encoders) == [0, len(TEXTS)]


def test_an_empty_pool_is_refused(tmp_path: Path):
    with pytest.raises(OptionError, match="pool of exemplars is empty") as caught:
        Index.build_or_load([], LetterEncoder(), KEY, tmp_path)
    assert "pool" in caught.value.hint


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(LocalempError, match=r"file/[0-9a-f]{64}: Not a directory") as caught:
        Index.build_or_load(TEXTS, LetterEncoder(), KEY, tmp_path / "file")
    assert "LOCALEMP_CACHE" in caught.value.hint


def test_an_encoder_that_gives_too_few_vectors_is_an_error(tmp_path: Path):
    class Lazy(LetterEncoder):
        def encode(self, texts: Sequence[str]) -> Vectors:
            return super().encode(texts[:-1])

    with pytest.raises(ValueError, match="for 256 rows"):
        Index.build_or_load(TEXTS, Lazy(), KEY, tmp_path)


def test_vectors_of_texts_that_stay_as_they_were_are_taken_over(tmp_path: Path):
    Index.build_or_load(TEXTS, LetterEncoder(), KEY, tmp_path)
    cut = [*TEXTS[:300], "shorter", *TEXTS[301:]]
    encoder = LetterEncoder()
    index = Index.build_or_load(cut, encoder, KEY, tmp_path, former=TEXTS)
    assert encoder.calls == [CHUNK_ROWS]
    assert index.vectors.tolist() == LetterEncoder().encode(cut).tolist()


def test_what_is_broken_in_an_index_is_not_taken_over(tmp_path: Path):
    Index.build_or_load(TEXTS, LetterEncoder(), KEY, tmp_path)
    cut_in_half(only_folder(tmp_path))
    cut, encoder = [*TEXTS[:-1], "shorter"], LetterEncoder()
    index = Index.build_or_load(cut, encoder, KEY, tmp_path, former=TEXTS)
    assert encoder.calls == [CHUNK_ROWS, CHUNK_ROWS, 10]
    assert index.vectors.tolist() == LetterEncoder().encode(cut).tolist()


@pytest.mark.parametrize("whole", [True, False, None])
def test_where_nothing_may_be_written(caplog: pytest.LogCaptureFixture, whole: bool | None):
    with open_folder() as folder:
        if whole is not None:
            Index.build_or_load(TEXTS, LetterEncoder(), KEY, folder)
        if whole is False:
            flip_a_byte(only_folder(folder))
        with only_read(folder):
            encoder = LetterEncoder()
            index = Index.build_or_load(TEXTS, encoder, KEY, folder)
            assert index.vectors.tolist() == LetterEncoder().encode(TEXTS).tolist()
            asked = LetterEncoder().encode(["text number 7"])
            assert index.search(asked, 1)[0].tolist() == [[7]]
        assert sum(encoder.calls) == {True: 0, False: CHUNK_ROWS, None: len(TEXTS)}[whole]
        assert caplog.text.count("it is kept in memory") == (whole is not True)


@pytest.mark.parametrize("lost", [1, 5 * 48, 300 * 48])
def test_vectors_that_were_cut_where_nothing_may_be_written(lost: int):
    with open_folder() as folder:
        Index.build_or_load(TEXTS, LetterEncoder(), KEY, folder)
        vectors = only_folder(folder) / "embeddings.npy"
        os.truncate(vectors, vectors.stat().st_size - lost)
        with only_read(folder):
            encoder = LetterEncoder()
            index = Index.build_or_load(TEXTS, encoder, KEY, folder)
        assert index.vectors.tolist() == LetterEncoder().encode(TEXTS).tolist()
        assert encoder.calls == ([10] if lost < 10 * 48 else [CHUNK_ROWS, CHUNK_ROWS, 10])


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path):
    Index.build_or_load(TEXTS, LetterEncoder(), KEY, tmp_path)
    place = only_folder(tmp_path)
    (tmp_path / "diary").write_text("dear diary")
    (place / "lock").unlink()
    (place / "lock").symlink_to(tmp_path / "diary")
    with pytest.raises(LocalempError, match="cannot store the index"):
        Index.build_or_load(TEXTS, LetterEncoder(), KEY, tmp_path)
    assert (tmp_path / "diary").read_text() == "dear diary"


@pytest.mark.parametrize("name", ["meta.json", "chunks.txt"])
def test_no_mutant_of_a_record_is_believed(tmp_path: Path, name: str):
    Index.build_or_load(TEXTS, LetterEncoder(), KEY, tmp_path)
    place, chance, right = only_folder(tmp_path), random.Random(name), LetterEncoder().encode(TEXTS).tolist()
    content = (place / name).read_bytes()
    for _ in range(40):
        broken, start = bytearray(content), chance.randrange(len(content))
        odd = [b"", b"[" * 5000, b"9" * 5000 + b" ab\n", b"null", b"\xff", b"\n0 0\n", b'{"key": 7}']
        broken[start : start + chance.randrange(90)] = chance.choice(odd)
        (place / name).write_bytes(broken)
        assert Index.build_or_load(TEXTS, LetterEncoder(), KEY, tmp_path).vectors.tolist() == right
