"""Ports for servers that are told theirs before they start."""

import itertools
import os
import socket

# Below those that the system gives to whoever asks for any, so that nobody is given one of these before its server
# starts. Each process of the tests begins elsewhere, and takes none twice.
_FIRST, _COUNT = 20_000, 12_000
_places = itertools.count(os.getpid() * 97)


def free_port() -> int:
    """Return a port that nobody listens on, nor will by chance."""
    while True:
        port = _FIRST + next(_places) % _COUNT
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
