"""Sees that a folder of weights is data and nothing else: none of its files may name code that would run when it loads.

transformers and sentence-transformers both can run Python that lies in the folder, or that its files name by path.
Both are told not to (`trust_remote_code=False`); this says so beforehand, in words, and does not depend on either.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from localemp.errors import WeightsError
from localemp.utils.json_reader import JSONError, load_json

_OWN_MODULES = "sentence_transformers."
_CONFIGS = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")


def check_data_only(folder: Path) -> None:
    """See that neither `modules.json` nor a configuration names code that is not the libraries' own.

    Raises:
        WeightsError: One does, or is no JSON.
    """
    modules = folder / "modules.json"
    if modules.is_file():
        _check_modules(modules)
    for name in _CONFIGS:
        for path in sorted(folder.rglob(name)):
            if _names_code(read_settings(path)):
                raise _foreign(path, '"auto_map" names Python code of its own')


def read_settings(path: Path) -> dict[str, Any]:
    """A JSON object that lies beside weights.

    Raises:
        WeightsError: It cannot be read, or is something else.
    """
    settings = _read(path)
    if not isinstance(settings, dict):
        raise WeightsError(f"{path}: expected a JSON object", "fetch the weights again")
    return settings


def is_inside(name: object) -> bool:
    """Whether this is the name of a file below a folder: relative, and never on its way out of it."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _read(path: Path) -> Any:
    try:
        return load_json(path)
    except (OSError, JSONError) as error:
        line = getattr(error, "line", None)
        where = path if line is None else f"{path}, line {line}"
        said = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise WeightsError(f"{where}: {said}", "fetch the weights again") from error


def _check_modules(path: Path) -> None:
    modules = _read(path)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise WeightsError(f"{path}: expected a list of modules", "fetch the weights again")
    for module in modules:
        kind, place = module.get("type"), module.get("path", "")
        if not isinstance(kind, str) or not kind.startswith(_OWN_MODULES):
            raise _foreign(path, f"{str(kind)[:200]!r} is no module of sentence-transformers")
        if place != "" and not is_inside(place):
            raise _foreign(path, f"the module {str(place)[:200]!r} lies outside the folder")


def _names_code(settings: Any) -> bool:
    """Whether an `auto_map` is in a configuration or in one inside it; the reader bounds the depth."""
    if isinstance(settings, dict):
        return bool(settings.get("auto_map")) or any(map(_names_code, settings.values()))
    return isinstance(settings, list) and any(map(_names_code, settings))


def _foreign(path: Path, what: str) -> WeightsError:
    return WeightsError(f"{path}: {what}", "localemp runs no code of weights; choose a model that needs none")
