"""The packages of an extra, and the command that installs it from where localemp came."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from repository import REPOSITORY

from localemp.errors import MissingPackageError
from localemp.utils import extras
from localemp.utils.extras import PACKAGES, install_command, require


@pytest.fixture
def installed_from(tmp_path, monkeypatch):
    """Puts a localemp before all others on the path, as pip would have installed it from a place."""

    def install(origin: object) -> None:
        folder = tmp_path / "localemp-9.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: localemp\nVersion: 9\n", "utf-8")
        if origin is not None:
            (folder / "direct_url.json").write_text(origin if isinstance(origin, str) else json.dumps(origin), "utf-8")
        assert Distribution.from_name("localemp").version == "9"

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    return install


@pytest.mark.parametrize(
    ("origin", "extra", "command"),
    [
        (None, "study", "pip install 'localemp[study]'"),
        ("{", "study", "pip install 'localemp[study]'"),
        ({"url": "https://example.org/localemp.whl"}, "ray", "pip install 'localemp[ray]'"),
        ({"url": "file:///a/localemp-0.whl"}, "serve", "pip install 'localemp[serve] @ file:///a/localemp-0.whl'"),
        (
            {"url": "file:///a%20b", "dir_info": {"editable": True}},
            "study",
            "pip install --editable '/a b[study]'",
        ),
        ({"url": "file:///a%20b", "dir_info": {"editable": True}}, "cpu", "make -C '/a b' demo"),
    ],
)
def test_the_command_installs_from_where_localemp_came(installed_from, origin, extra, command):
    installed_from(origin)
    assert install_command(extra) == command


def test_vllms_cpu_build_needs_a_place_with_pytorchs(installed_from, monkeypatch):
    installed_from(None)
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels")
    assert install_command("cpu") == "pip install 'localemp[cpu]'"
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert install_command("cpu").endswith(f"--python {sys.executable} --torch-backend cpu 'localemp[cpu]'")


def test_another_environments_pip_is_not_meant(installed_from, monkeypatch):
    installed_from(None)
    monkeypatch.setenv("PATH", "/nowhere")
    assert install_command("study") == f"{sys.executable} -m pip install 'localemp[study]'"


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)  # as if it were not installed
    with pytest.raises(MissingPackageError, match="power needs scipy, not installed here") as caught:
        require("study", "power")
    assert caught.value.hint == install_command("study")
    require("study", "power", "json")


def test_every_extra_is_one_of_pyproject():
    known = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert set(PACKAGES) <= set(known)
    for extra, packages in PACKAGES.items():
        named = " ".join(known[extra]).replace("-", "_")
        assert [name for name in packages if name not in named] == []
    assert extras.engine_extra() in known


def test_no_command_needs_an_extra_before_it_runs():
    """A hosted model is asked with what `pip install localemp` brings."""
    hidden = [name for packages in PACKAGES.values() for name in packages] + ["vllm"]
    program = (
        "import importlib, pkgutil, sys\n"
        f"for name in {hidden}: sys.modules[name] = None\n"
        "import localemp.commands\n"
        "from localemp.cli.main import COMMANDS\n"
        "modules = [f'localemp.cli.{module}' for module, _ in COMMANDS.values()] + ['localemp.cli.talking']\n"
        "modules += [each.name for each in pkgutil.walk_packages(localemp.commands.__path__, 'localemp.commands.')]\n"
        "print(len([importlib.import_module(module) for module in modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, int(done.stdout or 0) > 40) == (0, True), done.stderr
