"""EPITOME's classifier is fitted on a small data set of our own, kept, checked when loaded, and scores replies."""

import csv
import gzip
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from localemp.errors import DataError, LocalempError, OptionError, WeightsError
from localemp.metrics.epitome.data import COLUMNS, MECHANISMS, read_labelled_pairs
from localemp.metrics.epitome.metric import NAMES, Epitome
from localemp.metrics.epitome.training import PUBLISHED, train_epitome
from localemp.metrics.epitome.weights import Recipe, load_model, read_card
from localemp.metrics.kept_values import KeptMetric, read_values, write_values
from localemp.metrics.registry import MetricContext, metrics
from localemp.metrics.replies import Replies, Reply
from localemp.metrics.scoring import score_all

sys.path.insert(0, str(Path(__file__).parents[1]))
from repository import REPOSITORY
from tiny_encoder import save_tiny_encoder

REAL = REPOSITORY.parent / "shared" / "data" / "epitome"
RESPONSES = (("i got it", (0, 2, 1)), ("the cat sad", (1, 0, 2)), ("very happy today !", (2, 1, 0)))
QUICK = Recipe(epochs=12, layer_rate=1e-3, head_rate=1e-2)


def write_pairs(folder: Path, count: int = 90, ending: str = "-reddit.csv") -> Path:
    """Pairs whose levels a word gives away, as the original's files have them."""
    folder.mkdir(parents=True, exist_ok=True)
    for column, name in enumerate(MECHANISMS.values()):
        opened = gzip.open if ending.endswith(".gz") else open
        with opened(folder / f"{name}{ending}", "wt", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for number in range(count):
                text, levels = RESPONSES[number % 3]
                rationale = f"{text}|" if levels[column] else ""
                writer.writerow([f"s{number}", f"r{number}", f"my dog died, {number}", text, levels[column], rationale])
    return folder


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def encoder(one_thread, tmp_path_factory):
    base = tmp_path_factory.mktemp("base")
    return save_tiny_encoder(base, tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, encoder, pairs):
    return train_epitome(pairs, tmp_path_factory.mktemp("model"), encoder=str(encoder), recipe=QUICK)


def replies(*texts, reference="very happy today !"):
    turns = ("i got a new job",)
    items = tuple(Reply(str(n), text, reference, turns=turns) for n, text in enumerate(texts))
    return Replies("mine", items)


@pytest.mark.parametrize("ending", ["-reddit.csv", ".csv", ".csv.gz"])
def test_files_are_read_plain_and_gzipped_and_hashed_alike(tmp_path, pairs, ending):
    read = read_labelled_pairs(write_pairs(tmp_path, ending=ending))
    assert read == read_labelled_pairs(pairs)
    assert read.pairs[1].levels == (1, 0, 2)
    assert read.pairs[1].rationales == (("the cat sad",), (), ("the cat sad",))
    assert sum(map(len, read.parts.values())) == 90


def test_a_seekers_responses_are_in_one_part_whatever_the_order(tmp_path, pairs):
    for name in MECHANISMS.values():
        head, *rows = (pairs / f"{name}-reddit.csv").read_text("utf-8").splitlines(keepends=True)
        (tmp_path / f"{name}.csv").write_text("".join([head, *reversed(rows)]), "utf-8")
    part = {pair.seeker: pair.part for pair in read_labelled_pairs(pairs).pairs}
    assert part == {pair.seeker: pair.part for pair in read_labelled_pairs(tmp_path).pairs}
    assert set(part.values()) == {"train", "dev", "test"}


def test_names_of_columns_count_in_any_case(tmp_path, pairs):
    for name in MECHANISMS.values():
        head, rows = (pairs / f"{name}-reddit.csv").read_text("utf-8").split("\n", 1)
        (tmp_path / f"{name}.csv").write_text(f"{head.upper()} \n{rows}", "utf-8")
    assert read_labelled_pairs(tmp_path).pairs == read_labelled_pairs(pairs).pairs


BROKEN = {
    "no header": (lambda text: text.replace("level,", "grade,", 1), "line 1: the header lacks level"),
    "a level of 3": (lambda text: text.replace(",2,", ",3,", 1), "line 2: the level is '3'"),
    "no level": (lambda text: text.replace(",2,", ",,", 1), "line 2: the level is ''"),
    "no response": (lambda text: text.replace(",i got it,", ",,", 1), "line 2: response_post is empty"),
    "a short row": (lambda text: text + "s,r\n", "line 92: 2 fields instead of 6"),
    "an open quote": (lambda text: text + 's,r,"so', "line 92: no valid CSV (unexpected end of data)"),
    "no rows": (lambda text: text.splitlines()[0], "the file has no rows"),
    "another pair": (lambda text: text.replace("s3,r3", "s3,r9"), "line 5: another pair than in line 5 of emotional"),
    "a row less": (lambda text: text[: text.index("s89")], "89 rows, emotional-reactions.csv has 90"),
    "a seeker twice": (lambda text: text.replace("s3,r3", "s2,r3"), "line 5: s2 has another seeker_post in line 4"),
    "nothing": (lambda text: "", "the file has no rows"),
    "empty lines": (lambda text: text + "\n" * 200_001, "more than 200,000 rows"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_with_its_line(tmp_path, kind):
    change, expected = BROKEN[kind]
    path = write_pairs(tmp_path, ending=".csv") / "interpretations.csv"
    path.write_text(change(path.read_text("utf-8")), "utf-8")
    with pytest.raises(DataError) as error:
        read_labelled_pairs(tmp_path)
    assert error.value.message.startswith(str(path))
    assert expected in error.value.message


def test_a_cut_gzip_file_and_a_missing_one_are_named(tmp_path):
    path = write_pairs(tmp_path, ending=".csv.gz") / "explorations.csv.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"explorations\.csv\.gz: damaged or truncated gzip file"):
        read_labelled_pairs(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"has no explorations-reddit\.csv"):
        read_labelled_pairs(tmp_path)


def test_a_field_without_end_is_refused(tmp_path):
    path = write_pairs(tmp_path, ending=".csv") / "explorations.csv"
    path.write_text(path.read_text("utf-8") + 's,r,"' + "so " * 100_000, "utf-8")
    with pytest.raises(DataError, match="line 92: no valid CSV"):
        read_labelled_pairs(tmp_path)


def test_the_fit_finds_what_is_to_be_found(trained):
    for mechanism in MECHANISMS:
        found = trained.card.test[mechanism]
        assert found.model.accuracy > 90
        assert found.majority.accuracy < 60
    assert sum(trained.card.pairs.values()) == 90
    assert read_card(trained.folder) == trained.card


def test_the_same_seed_gives_the_same_weights_and_another_others(tmp_path, encoder, pairs):
    seeds = {"one": 0, "same": 0, "other": 1}
    recipes = {name: Recipe(seed=seed, epochs=1) for name, seed in seeds.items()}
    made = {
        name: train_epitome(pairs, tmp_path / name, encoder=str(encoder), recipe=recipe).card.sha256
        for name, recipe in recipes.items()
    }
    assert made["one"] == made["same"] != made["other"]


def test_a_second_fit_takes_the_place_of_the_first(tmp_path, encoder, pairs, trained):
    folder = tmp_path / "model"
    shutil.copytree(trained.folder, folder)
    train_epitome(pairs, folder, encoder=str(encoder), recipe=Recipe(epochs=1))
    assert len(list(folder.glob("*.safetensors"))) == 1
    assert load_model(folder).card.recipe.epochs == 1


def test_an_interrupted_fit_leaves_the_former_model(tmp_path, encoder, pairs, trained):
    folder = tmp_path / "model"
    shutil.copytree(trained.folder, folder)

    def stop(progress):
        if progress.task == "Fitting EPITOME" and progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_epitome(pairs, folder, encoder=str(encoder), recipe=QUICK, on_progress=stop)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in trained.folder.iterdir())
    assert load_model(folder).card == trained.card


def test_a_folder_with_other_files_is_not_written_into(tmp_path, encoder, pairs):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OptionError, match="holds other files"):
        train_epitome(pairs, tmp_path, encoder=str(encoder))


def test_values_are_levels_and_squared_differences_from_the_references(trained):
    texts, levels = zip(*RESPONSES, strict=True)
    scored = score_all(replies(*texts, ""), Epitome(str(trained.folder)).metrics())
    mine, theirs = np.array([*levels, (0, 0, 0)]), np.array(levels[2])
    expected = [*mine.mean(axis=0), *((mine - theirs) ** 2).mean(axis=0)]
    assert [scored.score(name).value for name in NAMES] == pytest.approx(expected)
    told = dict(scored.score("diff-ER").signature.settings)
    assert told["seeker"] == "last turn"
    assert told["difference"] == "squared"
    assert told["weights_sha256"] == trained.card.sha256
    assert told["data_sha256"] == trained.card.data_sha256


def test_each_pair_is_judged_once_for_all_columns_and_systems(trained):
    read = []
    epitome = Epitome(str(trained.folder), on_progress=lambda p: read.append(p.total) if p.unit == "pairs" else None)
    for texts in (("i got it", "the cat sad"), ("the cat sad", "i got it")):
        score_all(replies(*texts), epitome.metrics())
    assert set(read) == {2, 1}  # the replies, the reference; the second system brings nothing new


def test_a_levels_batch_does_not_change_it(trained):
    texts = [text for text, _ in RESPONSES]
    alone = [Epitome(str(trained.folder)).levels([replies(text)])[0] for text in texts]
    assert np.array_equal(Epitome(str(trained.folder)).levels([replies(*texts)]), np.array(alone))


def test_what_is_missing_is_said(trained):
    epitome = Epitome(str(trained.folder))
    alone = Replies("mine", (Reply("1", "i got it", "very happy today !"),))
    assert score_all(alone, epitome.metrics()).score("ER").reason == "1 of 1 replies have no turn before them"
    scored = score_all(replies("i got it", reference=None), epitome.metrics())
    assert scored.score("diff-ER").reason == "no reference replies"
    assert scored.score("ER").value is not None


def test_without_a_model_one_line_says_how_to_fit_one(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCALEMP_CACHE", str(tmp_path))
    scored = score_all(replies("i got it"), [each for each in metrics() if each.group == "epitome"])
    assert {score.value for score in scored.scores} == {None}
    assert {score.reason for score in scored.scores} == {
        "no EPITOME model on this machine; `localemp models train epitome --data FOLDER` fits one (docs/metrics.md)"
    }


def test_a_report_needs_no_model(tmp_path, trained):
    context = MetricContext({"epitome_model": str(trained.folder)})
    chosen = [each for each in metrics(context) if each.group == "epitome"]
    mine = replies("i got it", "the cat sad")
    write_values(tmp_path, mine, chosen, context.options)
    kept = read_values(tmp_path, mine)
    for each in chosen:
        again = KeptMetric(each.name, {"mine": kept}).score(mine)
        assert (again.value, again.signature) == (each.score(mine).value, each.score(mine).signature)


def spoil_card(folder, **changes):
    path = folder / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


def spoil_tensors(folder, change):
    """Change the tensors, and let the card have their hash."""
    import hashlib

    card = read_card(folder)
    tensors = load_file(folder / card.tensors)
    change(tensors)
    save_file(tensors, folder / card.tensors)
    spoil_card(folder, sha256=hashlib.sha256((folder / card.tensors).read_bytes()).hexdigest())


SPOILT = {
    "no card": (lambda folder: (folder / "card.json").unlink(), "no EPITOME model in"),
    "another format": (lambda folder: spoil_card(folder, format=2), "format"),
    "a path": (lambda folder: spoil_card(folder, tensors="../x.safetensors"), "tensors"),
    "another file": (lambda folder: spoil_card(folder, sha256="0" * 64), "it has another SHA-256"),
    "no room for a token": (
        lambda folder: spoil_card(folder, recipe=Recipe().model_dump() | {"max_tokens": -1}),
        "recipe.max_tokens",
    ),
    "another encoder": (lambda folder: spoil_card(folder, encoder_sha256="0" * 64), "was fitted on another"),
    "not finite": (
        lambda folder: spoil_tensors(folder, lambda tensors: tensors["attention.bias"].fill(np.nan)),
        "some numbers are not finite",
    ),
    "a tensor less": (
        lambda folder: spoil_tensors(folder, lambda tensors: tensors.pop("attention.bias")),
        "1 tensors do not fit, such as attention.bias",
    ),
    "a cut file": (
        lambda folder: next(folder.glob("*.safetensors")).write_bytes(b"\x08\0\0\0\0\0\0\0{}"),
        "it is empty or cut off",
    ),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_damaged_model_is_refused_with_a_reason(tmp_path, trained, kind):
    spoil, expected = SPOILT[kind]
    folder = tmp_path / "model"
    shutil.copytree(trained.folder, folder)
    spoil(folder)
    with pytest.raises(WeightsError) as error:
        load_model(folder)
    assert expected in error.value.message
    assert "localemp models train epitome" in error.value.hint or "damaged" in error.value.hint


def test_what_cannot_be_fitted_is_told_before_anything_is_read(tmp_path):
    with pytest.raises(OptionError, match=r"--seed 9{30}: out of range"):
        train_epitome(tmp_path, tmp_path / "model", seed=10**30 - 1)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WeightsError, match="a file is in its place"):
        train_epitome(tmp_path / "no-data", tmp_path / "file")
    with pytest.raises(DataError, match="is no folder"):
        train_epitome(tmp_path / ("x" * 5000), tmp_path / "model")


def test_the_command_shows_the_held_out_table(localemp, tmp_path, encoder, pairs):
    asked = ["models", "train", "epitome", "--data", pairs, "--out", tmp_path / "model"]
    shown = localemp(*asked, "--encoder", encoder, "--seed", 3)
    assert shown.returncode == 0, shown.stderr
    for name in (*MECHANISMS, *(f"{each.accuracy:.2f}" for each in PUBLISHED.values()), "seed 3"):
        assert name in shown.stdout
    assert read_card(tmp_path / "model").recipe.seed == 3


def test_an_encoder_of_another_kind_is_refused(tmp_path, encoder, pairs):
    other = tmp_path / "encoder"
    shutil.copytree(encoder, other)
    for path in other.rglob("config.json"):
        told = json.loads(path.read_text("utf-8"))
        if told.get("model_type") == "bert":
            path.write_text(json.dumps(told | {"model_type": "mpnet"}), "utf-8")
    with pytest.raises(LocalempError, match="mpnet"):
        train_epitome(pairs, tmp_path / "model", encoder=str(other))


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the labelled pairs of EPITOME are not in shared/data/epitome")
def test_on_the_original_data_macro_f1_is_near_the_originals(tmp_path):
    card = train_epitome(REAL, tmp_path / "model", recipe=Recipe(epochs=2)).card  # half of the default's: two minutes
    assert card.pairs == {"train": 2312, "dev": 152, "test": 620}
    for mechanism, published in PUBLISHED.items():
        assert card.test[mechanism].model.macro_f1 > 0.85 * published.macro_f1
