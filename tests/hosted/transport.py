"""HTTP/1.1 as far as clients of the API speak it, on raw asyncio: no framework would be as fast on one core."""

import asyncio
import json
import socket
import struct
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

from hosted.service import Reply, Request, Service

_END = b"\r\n\r\n"


class Connection(asyncio.Protocol):
    """One client's connection: requests one after the other, each answered before the next is read."""

    def __init__(self, service: Service, latency: float) -> None:
        self._service, self._latency = service, latency
        self._received, self._head_end = bytearray(), -1
        self._busy = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._service.connections.add(transport)
        # Most answers are smaller than a packet: none waits for the one before.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._service.connections.discard(self._transport)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._busy:
            self._next()

    def _next(self) -> None:
        """Answer the next request, if it is there."""
        request = self._take()
        if request is None or self._transport is None:
            return
        self._busy = True
        reply = self._service.handle(request)
        if self._latency:
            asyncio.get_running_loop().call_later(self._latency, self._send, reply)
        else:
            self._send(reply)

    def _take(self) -> Request | None:
        if self._head_end < 0:
            self._head_end = self._received.find(_END)
            if self._head_end < 0:
                return None
        start, *lines = bytes(self._received[: self._head_end]).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        begin = self._head_end + len(_END)
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body, end = _chunks(self._received, begin)
        else:
            end = begin + int(headers.get("content-length", 0))
            body = bytes(self._received[begin:end]) if len(self._received) >= end else None
        if body is None:
            return None
        del self._received[:end]
        self._head_end = -1
        method, target, _ = start.split(" ", 2)
        url = urlsplit(target)
        return Request(method, unquote(url.path), dict(parse_qsl(url.query)), headers, body)

    def _send(self, reply: Reply) -> None:
        if self._transport is None or reply.delivery == "hang":
            return  # a client that waits is left waiting
        if reply.delivery == "reset":
            linger = struct.pack("ii", 1, 0)  # a close is then a reset
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()
            return
        whole = {"content-type": "application/json", "content-length": str(len(reply.body)), **reply.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in whole.items())
        phrase = HTTPStatus(reply.status).phrase
        begin = f"HTTP/1.1 {reply.status} {phrase}\r\n{head}\r\n".encode("latin-1")
        if reply.delivery == "cut":
            self._transport.write(begin + reply.body[: len(reply.body) // 2])
            self._transport.close()
            return
        self._transport.write(begin + reply.body)
        self._busy = False
        self._next()


def _chunks(received: bytearray, begin: int) -> tuple[bytes | None, int]:
    """Return a body sent in chunks and where it ends; None if it is not all there."""
    body = bytearray()
    while (end := received.find(b"\r\n", begin)) >= 0:
        size = int(received[begin:end].split(b";")[0], 16)
        begin = end + 2 + size + 2
        if len(received) < begin:
            break
        if size == 0:
            return bytes(body), begin
        body += received[end + 2 : end + 2 + size]
    return None, 0


async def listen(service: Service, latency: float = 0.0, port: int = 0) -> asyncio.Server:
    """Listen on this machine; port 0 for any free one."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Connection(service, latency), "127.0.0.1", port, backlog=1024)


def port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


def announce(port: int) -> str:
    """The line in which a process tells its port."""
    return json.dumps({"port": port})
