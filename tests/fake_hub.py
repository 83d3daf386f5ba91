"""A Hugging Face hub of one process: the few answers that a download needs, real HTTP."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Models by id, each a dict of files; large ones (.safetensors) are named by SHA-256 as LFS files are.

    Attributes:
        url: What HF_ENDPOINT should be.
        gated: Ids that want a token.
        fetched: Names of the files whose content was asked for.
    """

    def __init__(self, models: dict[str, dict[str, bytes]], gated: tuple[str, ...] = ()) -> None:
        self.models, self.gated, self.fetched = models, gated, list[str]()
        self.url = ""

    @contextmanager
    def running(self) -> Iterator["FakeHub"]:
        """Answer on a free port of this machine."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self, with_body=True)

            def do_HEAD(self) -> None:
                hub.answer(self, with_body=False)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, request: BaseHTTPRequestHandler, with_body: bool) -> None:
        """One request: model info, a tree listing, or a file."""
        parts = unquote(urlsplit(request.path).path).strip("/").split("/")
        listed = parts[0] == "api"
        repository = "/".join(parts[2:4] if listed else parts[:2])
        files = self.models.get(repository)
        if files is None:
            return self._send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body)
        if listed and "tree" in parts:
            entries = [_entry(name, data) for name, data in files.items()]
            return self._send(request, 200, json.dumps(entries).encode(), {}, with_body)
        if listed:
            siblings = [{"rfilename": name, "size": len(data), **_hash_of(name, data)} for name, data in files.items()]
            info = {"id": repository, "sha": COMMIT, "siblings": siblings, "gated": repository in self.gated}
            return self._send(request, 200, json.dumps(info).encode(), {}, with_body)
        if repository in self.gated:
            return self._send(request, 401, b"{}", {"X-Error-Code": "GatedRepo"}, with_body)
        name = "/".join(parts[4:])
        if with_body:
            self.fetched.append(name)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{name_of(name, files[name])}"'}
        return self._send(request, 200, files[name], headers, with_body)

    def _send(
        self, request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str], with_body: bool
    ) -> None:
        request.send_response(status)
        for key, value in {"Content-Length": str(len(body)), "Content-Type": "application/json", **headers}.items():
            request.send_header(key, value)
        request.end_headers()
        if with_body:
            request.wfile.write(body)


def name_of(name: str, data: bytes) -> str:
    """What the Hugging Face cache names a file's content by."""
    if name.endswith(".safetensors"):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def fill_cache(home: Path, repository: str, files: dict[str, bytes], links: bool = True) -> Path:
    """Lay files out as the Hugging Face cache does, with links or, as on disks that have none, without."""
    folder = home / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    for name, data in files.items():
        blob = folder / "blobs" / name_of(name, data) if links else snapshot / name
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        if links:
            (snapshot / name).symlink_to(blob)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return snapshot


def _hash_of(name: str, data: bytes) -> dict[str, object]:
    """What model info tells of a file's content."""
    told: dict[str, object] = {"blobId": name_of("", data)}
    if name.endswith(".safetensors"):
        told["lfs"] = {"sha256": name_of(name, data), "size": len(data), "pointerSize": 134}
    return told


def _entry(name: str, data: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": name, "size": len(data), "oid": name_of("", data)}
    if name.endswith(".safetensors"):
        entry["lfs"] = {"oid": name_of(name, data), "size": len(data), "pointerSize": 134}
    return entry
