"""What is public, and what it costs to have it."""

import ast
import copy
import importlib
import pickle
import subprocess
import sys

import pytest
from repository import REPOSITORY
from small_runs import four

import localemp

HEAVY = ("torch", "transformers", "vllm", "sentence_transformers", "numpy", "pydantic", "rich", "openai", "httpx")


def imported_by(program: str) -> set[str]:
    """Top-level packages that a program imports, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_all_is_sorted_and_every_name_is_there():
    assert sorted(set(localemp.__all__)) == sorted(localemp.__all__)
    for name in localemp.__all__:
        assert getattr(localemp, name)
    assert dir(localemp) == sorted(localemp.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        localemp.nothing  # noqa: B018


def test_scripts_of_version_0_1_run():
    bytes_, rows = [], []
    recipe = localemp.Recipe(shots=3)
    assert recipe.shots == 3
    assert copy.deepcopy(recipe) == pickle.loads(pickle.dumps(recipe)) == recipe
    with pytest.raises(AttributeError, match="no attribute 'shot'"):
        recipe.shot  # noqa: B018
    callbacks = {"progress": lambda *step: bytes_.append(step), "on_rows": lambda *step: rows.append(step)}
    responder = localemp.Responder(recipe=recipe, **callbacks)
    assembly = localemp.Assembly(recipe, *callbacks.values())
    for each in (responder.assembly, assembly):
        assert each.config == recipe
        each.on_progress(localemp.Progress("downloading", 1, 2, "bytes"))
        each.on_progress(localemp.Progress("embedding", 3, 4, "dialogues"))
    assert assembly.recipe is recipe
    assert (bytes_, rows) == ([("downloading", 1, 2)] * 2, [(3, 4)] * 2)
    with pytest.raises(localemp.LocalempError, match="both a config and shots are given"):
        localemp.Responder(recipe=recipe, shots=2)


def test_import_and_help_bring_nothing_heavy():
    assert imported_by("import localemp").isdisjoint(HEAVY)
    help_ = "from localemp.cli.main import cli\ntry: cli(['--help'])\nexcept SystemExit: pass"
    assert imported_by(help_).isdisjoint(HEAVY)


def test_a_hosted_answer_needs_no_local_engine():
    program = "from localemp.pipeline.pipeline import Pipeline; import localemp.pipeline.generate, localemp.runs.run"
    assert imported_by(program).isdisjoint({"torch", "transformers", "vllm", "sentence_transformers"})


def test_scoring_without_bertscore_imports_no_model_library(tmp_path):
    run = four(tmp_path / "run")
    command = ["score", str(run), "--no-bertscore"]
    program = f"from localemp.cli.main import cli\ntry: cli({command})\nexcept SystemExit: pass"
    slow = {"nltk", "scipy", "sklearn", "pandas", "torch", "transformers", "bert_score", "openai", "httpx"}
    assert imported_by(program).isdisjoint(slow)
    assert (run / "scores.json").is_file()


@pytest.mark.parametrize(
    "module", ["torch", "vllm", "transformers", "sentence_transformers", "bert_score", "nltk", "ray"]
)
def test_heavy_packages_are_imported_only_by_their_owners(module):
    decoding, checkpoint = "commonsense/decoding.py", "commonsense/checkpoint.py"
    shared, gguf, lora = "utils/torch.py", "models/gguf.py", "engines/vllm/cpu_lora.py"
    seeds = "engines/vllm/cpu_seeds.py"
    epitome = ("metrics/epitome/network.py", "metrics/epitome/training.py")
    comet, encoder, contextual = "commonsense/comet.py", "retrieval/encoder.py", "metrics/contextual.py"
    owners = {
        "torch": {
            shared,
            encoder,
            gguf,
            comet,
            decoding,
            contextual,
            "bench/roofline/hardware.py",
            lora,
            seeds,
            *epitome,
        },
        "vllm": set(),  # engines/vllm/names.py, by their names
        "transformers": {encoder, gguf, "engines/tokens.py", shared, decoding, checkpoint, contextual, epitome[0]},
        "sentence_transformers": {encoder},
        "bert_score": set(),
        "nltk": set(),
        "ray": {"pipeline/ray_cluster.py"},
    }[module]
    package = REPOSITORY / "localemp"
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] == module for name in names):
                found.add(path.relative_to(package).as_posix())
    assert found == owners


def test_the_reference_of_profiles_is_up_to_date(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "docs")
    made = importlib.import_module("make_profiles").reference()
    assert (REPOSITORY / "docs" / "profiles.md").read_text("utf-8") == made, "run: python docs/make_profiles.py"


def test_the_command_reference_is_up_to_date():
    # In a process of its own: a command of click keeps the first help option that it was asked for, by whatever test.
    script = "import make_commands; print(make_commands.reference(), end='')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY / "docs", capture_output=True, text=True, check=True
    )
    assert (REPOSITORY / "docs" / "commands.md").read_text("utf-8") == done.stdout, "run: python docs/make_commands.py"
