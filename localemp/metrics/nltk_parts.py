"""nltk's word and sentence tokenizers and its Porter stemmer. Owns nltk.

`import nltk` loads all of it, with scipy and scikit-learn where they are installed: over a second of processor time.
The three modules that are needed here load in a tenth of that, so they are imported without the `__init__` of the
packages around them.
"""

import sys
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.metadata import version
from types import ModuleType
from typing import Any

NLTK_VERSION = version("nltk")

_PACKAGES = ("nltk", "nltk.tokenize", "nltk.stem")


def _load(*names: str) -> list[Any]:
    """Import modules of nltk; a later `import nltk` elsewhere finds it as if nothing had been imported."""
    if "nltk" in sys.modules:
        return [import_module(name) for name in names]
    paths: dict[str, list[str]] = {}
    try:
        for package in _PACKAGES:
            spec = PathFinder.find_spec(package, paths.get(package.rpartition(".")[0]))
            if spec is None or spec.submodule_search_locations is None:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)
            shell = ModuleType(package)
            shell.__path__ = paths[package] = list(spec.submodule_search_locations)
            sys.modules[package] = shell
        return [import_module(name) for name in names]
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "nltk"]:
            del sys.modules[name]


_destructive, _punkt, _porter = _load("nltk.tokenize.destructive", "nltk.tokenize.punkt", "nltk.stem.porter")

NLTKWordTokenizer = _destructive.NLTKWordTokenizer
PunktParameters = _punkt.PunktParameters
PunktSentenceTokenizer = _punkt.PunktSentenceTokenizer
PorterStemmer = _porter.PorterStemmer
