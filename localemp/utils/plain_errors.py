"""Exceptions of the operating system and of other libraries in plain words, for what a person reads."""

import errno
import re
import socket
import ssl
from collections.abc import Iterator

OFFLINE = "no such host, or this machine is offline"

_LINKS = 10  # of a chain of causes
_OTHER_NETWORKS = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
# What the resolvers of Linux, macOS and Windows say, where a library has kept only the text.
_NO_NAME = re.compile(r"name resolution|Name or service not known|nodename nor servname|getaddrinfo failed")
_NO_NAME_SAID = re.compile(r"\[Errno -?\d+\] (?:Temporary failure in name resolution|Name or service not known)")
_CODES = re.compile(r"\[(?:Errno|WinError) -?\d+\] ?")


def in_words(error: BaseException) -> str:
    """Return why something failed, in a line: without numbers of errors, and in plain words where it is the network.

    What else there is to say, such as which server or what to do, is the caller's part.
    """
    for each in _chain(error):
        if told := _network(each):
            return told
    if isinstance(error, OSError) and error.strerror:
        about = "" if error.filename is None else f": {error.filename}"
        return f"{error.strerror}{about}"
    line = next(iter(str(error).strip().splitlines()), "")
    if _NO_NAME.search(str(error)):
        return OFFLINE
    return plain_text(line).strip() or type(error).__name__


def plain_text(text: str) -> str:
    """Return a text that was kept of an exception, without numbers of errors."""
    return _CODES.sub("", _NO_NAME_SAID.sub(OFFLINE, text))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, and those that it came from."""
    found: BaseException | None = error
    for _ in range(_LINKS):
        if found is None:
            return
        yield found
        found = found.__cause__ or found.__context__


def _network(error: BaseException) -> str:
    """Return what an exception says of the network; empty if it is about something else."""
    if isinstance(error, socket.gaierror):
        return OFFLINE
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not trusted on this machine"
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "the connection was lost"
    if isinstance(error, OSError) and error.errno in _OTHER_NETWORKS:
        return "the network cannot be reached"
    if isinstance(error, TimeoutError) or type(error).__name__ in ("ConnectTimeout", "ReadTimeout"):
        return "no response in time"
    return ""
