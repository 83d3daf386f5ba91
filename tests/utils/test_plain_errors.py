"""Exceptions in plain words."""

import errno
import socket
import ssl

import pytest

from localemp.errors import EngineError
from localemp.runs.run import failure_record
from localemp.utils.plain_errors import OFFLINE, in_words, plain_text


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (socket.gaierror(-2, "Name or service not known"), OFFLINE),
        (caused(RuntimeError("[Errno -2] Name or service not known"), socket.gaierror(-2, "x")), OFFLINE),
        (ValueError("HTTPSConnectionPool: Failed to resolve 'x' ([Errno -2] Name or service not known)"), OFFLINE),
        (ConnectionRefusedError(111, "Connection refused"), "the connection was refused"),
        (caused(ValueError("all attempts failed"), ConnectionResetError(104, "reset")), "the connection was lost"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "the network cannot be reached"),
        (ssl.SSLCertVerificationError(1, "self-signed"), "its certificate is not trusted on this machine"),
        (TimeoutError(), "no response in time"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "Permission denied: /x/y"),
        (OSError("an end of a file\nand more"), "an end of a file"),
        (RuntimeError("[Errno 5] it failed"), "it failed"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_no_number_of_an_error_is_shown(error, told):
    assert in_words(error) == told


def test_a_circle_of_causes_ends():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert in_words(one) == "one"


def test_a_kept_reason_of_an_older_version_is_plain():
    kept = "the hub could not be reached: [Errno -2] Name or service not known (check the network)"
    assert plain_text(kept) == f"the hub could not be reached: {OFFLINE} (check the network)"
    assert plain_text("[Errno 13] Permission denied: 'x'") == "Permission denied: 'x'"


def test_failed_lines_have_plain_words():
    assert failure_record("a", OSError(28, "No space left on device"))["error"]["message"] == "No space left on device"
    assert failure_record("a", EngineError("too hot"))["error"]["message"] == "too hot"
