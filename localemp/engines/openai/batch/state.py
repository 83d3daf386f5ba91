"""The state of a batch: what is known of it, in a file that is written after each step, and never trusted."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from localemp.engines.openai.batch.api import read_id
from localemp.errors import RunError
from localemp.utils.json_reader import JSONError, load_object
from localemp.utils.plain_errors import in_words
from localemp.utils.validation import Lenient, format_validation_error

STATE = "state.json"
"""Name of the file, in the batch's folder."""

Step = Literal["prepared", "uploaded", "created", "ended", "fetched"]


def _checked_id(value: str) -> str:
    if value != read_id(value):
        raise ValueError("not an id")
    return value


_Number = Annotated[int, Field(ge=0, lt=2**53)]
_Id = Annotated[str, AfterValidator(_checked_id)]


class BatchState(Lenient):
    """What is known of a batch.

    Attributes:
        step: The last step: its requests are in a file; the file is at the service; so is a batch of it; that batch
            will change no more; all that it has is here.
        server, endpoint, model: What is asked.
        requests, size: The number of requests, and the bytes of their file.
        prepared: When the file was written, in seconds since 1970.
        file, batch: Their ids at the service; empty before there are any.
        past: Ids of batches of the same file that the service had no room for.
        status: The service's word for how the batch stands.
        completed, failed: Number of requests that were answered and that failed, as the service says.
        created, ended: When, as the service says, in seconds since 1970.
        output_file, error_file: Ids of the files of answers and of failures; empty if there is none.
        note: Why the batch failed.
    """

    format: Literal[1] = 1
    step: Step = "prepared"
    server: str = ""
    endpoint: str = ""
    model: str = ""
    requests: _Number = 0
    size: _Number = 0
    prepared: float = Field(0.0, ge=0, lt=2**53)
    file: _Id = ""
    batch: _Id = ""
    past: list[_Id] = Field(default_factory=list)
    status: str = ""
    completed: _Number | None = None
    failed: _Number | None = None
    created: _Number | None = None
    ended: _Number | None = None
    output_file: _Id = ""
    error_file: _Id = ""
    note: str = ""

    @model_validator(mode="after")
    def _has_its_ids(self) -> "BatchState":
        if (self.step == "uploaded" and not self.file) or (self.step in ("created", "ended") and not self.batch):
            raise ValueError(f"it is {self.step}, but has no id")
        return self

    @property
    def is_under_way(self) -> bool:
        """Whether the service may be answering it, or has answers that are not here yet."""
        return self.step in ("uploaded", "created", "ended")


def read_state(folder: Path) -> BatchState:
    """Read the state of a batch from its folder.

    Raises:
        RunError: There is none, or it is damaged.
    """
    path = folder / STATE
    try:
        return BatchState.model_validate(load_object(path))
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing") from error
    except (OSError, JSONError) as error:
        raise RunError(f"{path} cannot be read: {in_words(error)}") from error
    except ValidationError as error:
        raise RunError(f"{path} is damaged: {format_validation_error(error)}") from error
