"""WordNet for tests: a small one in its files' format, and the real one where it is or can be fetched."""

import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from localemp.errors import LocalempError
from localemp.metrics.wordnet import FILES, PARTS_OF_SPEECH, WordNet
from localemp.metrics.wordnet_files import load_wordnet, nltk_folders
from localemp.utils.paths import cache_dir

LICENCE = "  1 WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved.\n"
SYNSETS = {
    "noun": (("dog", "domestic_dog", "Canis_familiaris"), ("pooch", "dog"), ("child", "kid")),
    "verb": (("go", "travel", "move"), ("run", "go")),
    "adj": (("happy", "glad(p)"),),
    "adv": (("well", "good"),),
}
IRREGULAR = {"noun": "children child\n", "verb": "went go\n", "adj": "", "adv": "best well\n"}


def small_files() -> dict[str, bytes]:
    """Return the files of a WordNet with a few synsets."""
    files = {}
    for pos in PARTS_OF_SPEECH:
        letter = "r" if pos == "adv" else pos[0]
        data, places = LICENCE, dict[str, list[int]]()
        for members in SYNSETS[pos]:
            for name in members:
                places.setdefault(name.partition("(")[0].lower(), []).append(len(data))
            words = " ".join(f"{name} 0" for name in members)
            data += f"{len(data):08d} 00 {letter} {len(members):02x} {words} 000 | a gloss  \n"
        lines = [
            f"{lemma} {letter} {len(at)} 1 @ {len(at)} 0 {' '.join(f'{place:08d}' for place in at)}  \n"
            for lemma, at in sorted(places.items())
        ]
        files |= {f"index.{pos}": LICENCE + "".join(lines), f"data.{pos}": data, f"{pos}.exc": IRREGULAR[pos]}
    return {name: text.encode() for name, text in files.items()}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a new folder."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def take_away_wordnet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this be a machine without WordNet and without a package index, whose cache and home are in a folder."""
    for name, value in {"HOME": folder, "LOCALEMP_CACHE": folder / "cache", "PIP_NO_INDEX": "1"}.items():
        monkeypatch.setenv(name, str(value))
    for name in ("NLTK_DATA", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    if found := [data for data in nltk_folders() if (data / "corpora").exists()]:
        pytest.skip(f"nltk's data is in {found[0]}")


@cache
def real_wordnet() -> WordNet:
    """Return WordNet 3.0; skips the test if it cannot be had."""
    try:
        return load_wordnet()
    except LocalempError as error:
        pytest.skip(f"no WordNet: {error.message}")


def nltks_reader(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Return nltk's own reader of the same files, which also wants some that are not used here."""
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    real_wordnet()
    source = cache_dir("wordnet-3.0")
    if not source.is_dir():
        pytest.skip(f"no WordNet in {source}")
    data, folder = folder, folder / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(source / name, folder / name)
    (folder / "lexnames").write_text("".join(f"{number:02d}\tname\t1\n" for number in range(45)))
    for name in ("index.sense", "cntlist.rev"):
        (folder / name).touch()
    for path in (data, folder.parent, folder, *folder.iterdir()):
        path.chmod(path.stat().st_mode & ~0o022)  # nltk refuses what others may write
    monkeypatch.setattr(nltk.data, "path", [*nltk.data.path, str(data)])  # nor reads it elsewhere
    with pytest.warns(UserWarning, match="multilingual"):
        return WordNetCorpusReader(str(folder), None)
