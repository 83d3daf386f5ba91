"""Read the report of one of vLLM's own benchmarks; values may be missing, depending on its version."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from localemp.engines.vllm.versions import KNOWN
from localemp.errors import EngineError
from localemp.utils.json_reader import JSONError, load_object

_NUMBER: TypeAdapter[float] = TypeAdapter(Annotated[float, Field(strict=True, allow_inf_nan=False)])


def read_report(path: Path, whose: str) -> dict[str, Any]:
    """Read the JSON object of a report.

    Args:
        path: The file.
        whose: Its writer, for errors: "vLLM's client".

    Raises:
        EngineError: There is none.
    """
    try:
        return load_object(path)
    except (OSError, JSONError) as error:
        raise EngineError(f"{whose} wrote no result: {error}") from error


def read_number(said: Mapping[str, Any], name: str) -> float:
    """Return a number of a report.

    Raises:
        EngineError: It is missing, or not a number.
    """
    try:
        return _NUMBER.validate_python(said.get(name))
    except ValidationError as error:
        raise EngineError(
            f"vLLM's benchmark gives no {name}", f"localemp knows the benchmarks of vLLM {KNOWN}"
        ) from error
