"""The service's files: uploads as multipart forms, lists by pages, contents."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any

from hosted.errors import ServiceError

MOST_BYTES = 512 * 2**20
MOST_BATCH_BYTES = 200 * 2**20


@dataclass
class File:
    id: str
    filename: str
    purpose: str
    content: bytes
    created_at: int
    expires_at: int | None = None

    def value(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }


class Files:
    """All files, the newest last."""

    def __init__(self) -> None:
        self.all: dict[str, File] = {}
        self._number = 0

    def add(self, filename: str, purpose: str, content: bytes, now: float, lifetime: int | None = None) -> File:
        self._number += 1
        file = File(f"file-{self._number:020d}", filename, purpose, content, int(now))
        file.expires_at = None if lifetime is None else int(now) + lifetime
        self.all[file.id] = file
        return file

    def upload(self, content_type: str, body: bytes, now: float) -> File:
        """Take an uploaded form in."""
        fields: dict[str, tuple[str | None, bytes]] = {
            name: (file, data) for name, file, data in parts(content_type, body)
        }
        if "file" not in fields:
            raise ServiceError(
                400, "Missing required parameter: 'file'.", code="missing_required_parameter", param="file"
            )
        if "purpose" not in fields:
            message = "Missing required parameter: 'purpose'."
            raise ServiceError(400, message, code="missing_required_parameter", param="purpose")
        filename, content = fields["file"]
        purpose = fields["purpose"][1].decode()
        if purpose not in ("batch", "assistants", "fine-tune", "user_data", "vision", "evals"):
            raise ServiceError(400, f"'{purpose}' is not one of the allowed purposes.", param="purpose")
        if purpose == "batch" and not (filename or "").endswith(".jsonl"):
            raise ServiceError(400, "Invalid file format for Batch API. Must be .jsonl")
        if len(content) > (MOST_BATCH_BYTES if purpose == "batch" else MOST_BYTES):
            raise ServiceError(413, "File is too large.", code="file_too_large", param="file")
        lifetime = fields.get("expires_after[seconds]")
        return self.add(filename or "", purpose, content, now, None if lifetime is None else int(lifetime[1]))

    def get(self, id: str) -> File:
        if id not in self.all:
            raise ServiceError(404, f"No such File object: {id}", param="id")
        return self.all[id]

    def delete(self, id: str) -> dict[str, Any]:
        del self.all[self.get(id).id]
        return {"id": id, "object": "file", "deleted": True}

    def listed(self, query: Mapping[str, str]) -> dict[str, Any]:
        found = [file.value() for file in self.all.values() if query.get("purpose", file.purpose) == file.purpose]
        return page(found, query, 10_000, 10_000)


def page(values: list[dict[str, Any]], query: Mapping[str, str], usual: int, most: int) -> dict[str, Any]:
    """One page of a list, whose oldest value comes first; the page begins with the newest, unless `order` is "asc"."""
    limit = int(query.get("limit", usual))
    if not 1 <= limit <= most:
        raise ServiceError(
            400, f"Invalid 'limit': expected 1 to {most}, got {limit}.", code="invalid_value", param="limit"
        )
    ordered = values if query.get("order", "desc") == "asc" else values[::-1]
    if after := query.get("after"):
        place = next((place for place, value in enumerate(ordered) if value["id"] == after), None)
        if place is None:
            raise ServiceError(400, f"No object with id '{after}'.", code="invalid_value", param="after")
        ordered = ordered[place + 1 :]
    shown = ordered[:limit]
    first, last = (shown[0]["id"], shown[-1]["id"]) if shown else (None, None)
    return {"object": "list", "data": shown, "first_id": first, "last_id": last, "has_more": len(ordered) > limit}


def parts(content_type: str, body: bytes) -> Iterator[tuple[str, str | None, bytes]]:
    """The parts of a multipart form: name, file name, content."""
    boundary = _parameters("content-type", content_type).get_param("boundary")
    if not content_type.startswith("multipart/form-data") or not isinstance(boundary, str):
        raise ServiceError(400, "Invalid body: expected a multipart form.")
    for piece in body.split(b"--" + boundary.encode())[1:-1]:
        head, _, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        lines = dict(line.split(":", 1) for line in head.decode().split("\r\n") if ":" in line)
        said = {name.strip().lower(): value.strip() for name, value in lines.items()}
        header = _parameters("content-disposition", said.get("content-disposition", ""))
        name = header.get_param("name", header="content-disposition")
        yield str(name), header.get_filename(), content.removesuffix(b"\r\n")


def _parameters(name: str, value: str) -> Message:
    message = Message()
    message[name] = value
    return message
