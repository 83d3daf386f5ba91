"""`pull` against a real HTTP server on this machine."""

import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ports import free_port

from localemp.data.download import pull
from localemp.errors import DataError


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            content = f"content of {name}".encode() * 5000
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    # Without its time in it: pytest-xdist's processes must name the same tests, and their names have the checksum.
    return gzip.compress(buffer.getvalue(), mtime=0)


GOOD = archive("ed/train.csv", "ed/valid.csv", "../test.csv", "/etc/unrelated", "../../escaped")


def crooked(kind: bytes, size: int = 0) -> bytes:
    """An archive whose test.csv is no file of its own; only the size that it tells may be large."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("train.csv", "valid.csv"):
            tar.addfile(tarfile.TarInfo(name))
        member = tarfile.TarInfo("test.csv")
        member.type, member.linkname, member.size = kind, "/etc/passwd", size
        tar.addfile(member)
    return gzip.compress(buffer.getvalue(), mtime=0)


LINKED, HARD_LINKED, DEVICE = map(crooked, (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE))
ENDLESS = crooked(tarfile.REGTYPE, 2**40)
INCOMPLETE = archive("ed/train.csv", "ed/test.csv")
NO_TAR = gzip.compress(b"no tar at all" * 100, mtime=0)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        bodies = {"/good.tar.gz": GOOD, "/cut.tar.gz": GOOD, "/incomplete.tar.gz": INCOMPLETE, "/no.tar.gz": NO_TAR}
        bodies |= {"/linked.tar.gz": LINKED, "/hard.tar.gz": HARD_LINKED, "/device.tar.gz": DEVICE}
        bodies |= {"/endless.tar.gz": ENDLESS, "/odd.tar.gz": GOOD}
        if self.path == "/moved.tar.gz":
            self.send_response(302)
            self.send_header("Location", "/good.tar.gz")
            self.end_headers()
            return
        if self.path not in bodies:
            self.send_error(404)
            return
        body = bodies[self.path]
        self.send_response(200)
        self.send_header("Content-Length", "many" if self.path == "/odd.tar.gz" else str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/cut.tar.gz" else body)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", ["good", "moved"])
def test_good_archive(tmp_path, server, name):
    seen: list[tuple[int, int | None]] = []
    folder = tmp_path / "new" / "folder"
    files = pull(folder, lambda p: seen.append((p.done, p.total)), f"{server}/{name}.tar.gz", sha256(GOOD))
    assert [file.name for file in files] == ["train.csv", "valid.csv", "test.csv"]
    assert files[2].read_bytes() == b"content of ../test.csv" * 5000
    assert sorted(path.name for path in folder.iterdir()) == ["test.csv", "train.csv", "valid.csv"]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["test.csv", "train.csv", "valid.csv"]
    assert seen[-1] == (len(GOOD), len(GOOD))


def test_second_pull_needs_no_server(tmp_path):
    for name in ("train.csv", "dev.csv.gz", "test.csv"):
        (tmp_path / name).write_text("mine")
    files = pull(tmp_path, url="http://127.0.0.1:1/x.tar.gz")
    assert [file.name for file in files] == ["train.csv", "dev.csv.gz", "test.csv"]
    assert {file.read_text() for file in files} == {"mine"}


def test_archive_put_there_by_hand(tmp_path):
    (tmp_path / "good.tar.gz").write_bytes(GOOD)
    files = pull(tmp_path, url="http://127.0.0.1:1/good.tar.gz", sha256=sha256(GOOD))
    assert all(file.is_file() for file in files)


def test_wrong_archive_put_there_by_hand(tmp_path):
    (tmp_path / "good.tar.gz").write_bytes(INCOMPLETE)
    with pytest.raises(DataError, match="SHA-256") as caught:
        pull(tmp_path, url="http://127.0.0.1:1/good.tar.gz", sha256=sha256(GOOD))
    assert "delete it" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "checksum", "words"),
    [
        ("good", "0" * 64, f"its SHA-256 is {sha256(GOOD)}"),
        ("cut", sha256(GOOD), "cannot be fetched"),
        ("none", sha256(GOOD), "returned status 404"),
        ("incomplete", sha256(INCOMPLETE), "lacks valid.csv"),
        ("no", sha256(NO_TAR), "not a readable tar"),
        ("linked", sha256(LINKED), "lacks test.csv"),
        ("hard", sha256(HARD_LINKED), "lacks test.csv"),
        ("device", sha256(DEVICE), "lacks test.csv"),
        ("endless", sha256(ENDLESS), "archive is too large"),
        ("odd", sha256(GOOD), "cannot be fetched"),
    ],
)
def test_nothing_is_left_of_a_bad_archive(tmp_path, server, name, checksum, words):
    with pytest.raises(DataError, match=words):
        pull(tmp_path, url=f"{server}/{name}.tar.gz", sha256=checksum)
    assert list(tmp_path.iterdir()) == []


def test_no_server(tmp_path):
    url = f"http://127.0.0.1:{free_port()}/official.tar.gz"
    with pytest.raises(DataError, match="cannot be fetched") as caught:
        pull(tmp_path, url=url)
    assert caught.value.hint == f"download {url} manually into {tmp_path}, and run `localemp data pull` again"


def test_folder_that_cannot_be_made(tmp_path, server):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        pull(tmp_path / "file", url=f"{server}/good.tar.gz", sha256=sha256(GOOD))
