"""Packages built for another PyTorch are hidden, and no others."""

import sys
from importlib.util import find_spec

import pytest

from localemp.utils.torch_builds import hide_mismatched_builds


@pytest.mark.parametrize(
    ("torch", "torchvision", "hidden"),
    [
        ("2.13.0+cpu", "0.28.0+cu130", True),
        ("2.13.0+cpu", "0.28.0+rocm7", True),
        ("2.13.0+cpu", "0.28.0+cpu", False),
        ("2.13.0+cpu", "0.28.0", False),
        ("2.13.0+cu130", "0.28.0+cu130", False),
        ("2.13.0", "0.28.0+cu130", False),
        (None, "0.28.0+cu130", False),
        ("2.13.0+cpu", None, False),
    ],
)
def test_a_companion_for_cuda_beside_a_torch_for_the_cpu_is_hidden(tmp_path, monkeypatch, torch, torchvision, hidden):
    for package, version in (("torch", torch), ("torchvision", torchvision)):
        monkeypatch.delitem(sys.modules, package, raising=False)
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        if version is not None:
            (tmp_path / package / "version.py").write_text(f"__version__ = '{version}'\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        hide_mismatched_builds()
        assert (find_spec("torchvision") is None) == hidden
    finally:
        sys.modules.pop("torchvision", None)
