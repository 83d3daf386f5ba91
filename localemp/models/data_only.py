"""Checks that a folder of weights is data only: no file may name code that runs when the model is loaded.

transformers and sentence-transformers can both run Python code from the folder. Both are configured not to
(`trust_remote_code=False`); this check comes first, has a clear message, and depends on neither.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from localemp.errors import WeightsError
from localemp.utils.json_reader import JSONError, load_json

_OWN_MODULES = "sentence_transformers."
_CONFIGS = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")


def check_data_only(folder: Path) -> None:
    """Check that neither `modules.json` nor a configuration names code from outside the libraries.

    Raises:
        WeightsError: One of them does, or is not valid JSON.
    """
    modules = folder / "modules.json"
    if modules.is_file():
        _check_modules(modules)
    for name in _CONFIGS:
        for path in sorted(folder.rglob(name)):
            if _names_code(read_settings(path)):
                raise _foreign(path, '"auto_map" names custom Python code')


def read_settings(path: Path) -> dict[str, Any]:
    """Return the JSON object in a configuration file of a model.

    Raises:
        WeightsError: The file cannot be read, or is not a JSON object.
    """
    settings = _read(path)
    if not isinstance(settings, dict):
        raise WeightsError(f"{path}: expected a JSON object", "fetch the weights again")
    return settings


def is_inside(name: object) -> bool:
    """Return whether this is a relative path that stays inside its folder."""
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
            raise _foreign(path, f"{str(kind)[:200]!r} is not a module of sentence-transformers")
        if place != "" and not is_inside(place):
            raise _foreign(path, f"the module {str(place)[:200]!r} lies outside the folder")


def _names_code(settings: Any) -> bool:
    """Return whether a configuration contains an `auto_map` at any level; the JSON reader bounds the depth."""
    if isinstance(settings, dict):
        return bool(settings.get("auto_map")) or any(map(_names_code, settings.values()))
    return isinstance(settings, list) and any(map(_names_code, settings))


def _foreign(path: Path, what: str) -> WeightsError:
    return WeightsError(
        f"{path}: {what}", "localemp does not run code from weights; choose a model without custom code"
    )
