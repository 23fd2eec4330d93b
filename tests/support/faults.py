"""Faults between us and PostgreSQL or S3: a TCP proxy that misbehaves, and an S3 front that answers like a bad day.

Both are driven by a seeded ``random.Random``, so a failure is repeated by its seed.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHUNK = 65536


@dataclass
class TcpProxy:
    """Listens on a loopback port and passes bytes on to ``target_port``, until ``fault`` says otherwise.

    ``fault(connection, size)`` is asked before each chunk with the number of the connection (from 1) and the chunk's
    bytes; it returns ``""`` (pass on), ``"reset"``, ``"close"``, ``"truncate"`` (pass half of the chunk, then close) or
    ``"stall"`` (3 seconds).
    """

    target_port: int
    fault: Callable[[int, int], str] = lambda _connection, _size: ""
    port: int = field(init=False)
    connections: int = field(default=0, init=False)
    done: list[str] = field(default_factory=list, init=False)
    _open: list[socket.socket] = field(default_factory=list, init=False)

    def __enter__(self) -> TcpProxy:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for one in self._open:
            with suppress(OSError):
                one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target_port))
            except OSError:
                return
            self.connections += 1
            self._open += [client, server]
            number = self.connections
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(number, source, sink), daemon=True).start()

    def _pump(self, number: int, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(CHUNK):
                what = self.fault(number, len(data))
                if what:
                    self.done.append(what)
                if what == "stall":
                    time.sleep(3)
                elif what == "truncate":
                    sink.sendall(data[: len(data) // 2])
                    break
                elif what == "reset":
                    for one in (source, sink):
                        # SO_LINGER 0: close sends RST instead of FIN
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    break
                elif what == "close":
                    break
                sink.sendall(data)
        except OSError:
            pass
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                one.close()


def once_after(rng: random.Random, most: int, kinds: tuple[str, ...]) -> Callable[[int, int], str]:
    """A fault that strikes exactly once, after a random number of bytes (below ``most``) of all connections."""
    limit = rng.randrange(most)
    kind = rng.choice(kinds)
    state = {"total": 0, "struck": False}
    lock = threading.Lock()

    def fault(_connection: int, size: int) -> str:
        with lock:
            state["total"] += size
            if not state["struck"] and state["total"] > limit:
                state["struck"] = True
                return kind
        return ""

    return fault


CODES = {"403": "AccessDenied", "500": "InternalError", "503": "SlowDown"}
S3_FAULTS = ("500", "503", "half body", "dropped", "stale list")


class S3Front:
    """An S3 endpoint that passes requests on, and answers wrongly where ``fault(method, path)`` says so.

    Faults: ``403`` (AccessDenied), ``500`` (InternalError), ``503`` (SlowDown), ``half body`` (the answer breaks off),
    ``dropped`` (done by the server, but the answer never arrives), ``stale list`` (a LIST is answered with what it was
    when first asked), ``head only`` (the connection breaks between head and body of the request, of which a server like
    SeaweedFS keeps an empty object).
    ``watch(method, path, body)`` sees each request first; where it returns False the request goes no further.
    """

    def __init__(
        self,
        target_port: int,
        fault: Callable[[str, str], str] = lambda _method, _path: "",
        watch: Callable[[str, str, bytes], bool] = lambda _method, _path, _body: True,
    ) -> None:
        self.target_port = target_port
        self.fault = fault
        self.watch = watch
        self.done: list[str] = []
        self.flying = 0
        """Requests that are being answered."""
        self._count = threading.Lock()
        self._lists: dict[str, tuple[int, list[tuple[str, str]], bytes]] = {}

    def __enter__(self) -> S3Front:
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def handle_any(self) -> None:
                with front._count:
                    front.flying += 1
                try:
                    with suppress(ConnectionError):
                        front._answer(self)
                finally:
                    with front._count:
                        front.flying -= 1

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that was killed is nothing to print."""

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(length)
        # A client that died in the middle has asked for nothing; SeaweedFS would keep an empty object of its head.
        if len(body) != length or not self.watch(request.command, request.path, body):
            request.close_connection = True
            return
        what = self.fault(request.command, request.path)
        is_list = request.command == "GET" and "list-type=2" in request.path
        if what == "stale list" and not is_list:
            what = ""
        if what:
            self.done.append(what)
        if what in CODES:
            self._send(request, int(what), [], f"<Error><Code>{CODES[what]}</Code></Error>".encode())
            return
        if what == "stale list" and request.path in self._lists:
            self._send(request, *self._lists[request.path])
            return
        try:
            status, headers, answer = self._forward(request, body, head_only=what == "head only")
        except (OSError, HTTPException):
            request.close_connection = True
            return
        if is_list:
            self._lists.setdefault(request.path, (status, headers, answer))
        if what in ("dropped", "head only"):
            request.close_connection = True
            return
        self._send(request, status, headers, answer, half=what == "half body")

    def _forward(
        self, request: BaseHTTPRequestHandler, body: bytes, *, head_only: bool
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = HTTPConnection("127.0.0.1", self.target_port, timeout=60)
        try:
            connection.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                connection.putheader(name, value)  # Host too: it is signed
            connection.endheaders(None if head_only else body or None)
            if head_only:
                connection.sock.shutdown(socket.SHUT_WR)
            answer = connection.getresponse()
            dropped = ("transfer-encoding", "connection", "content-length")
            headers = [(n, v) for n, v in answer.getheaders() if n.lower() not in dropped]
            if request.command == "HEAD":
                headers.append(("Content-Length", answer.getheader("Content-Length") or "0"))
            return answer.status, headers, answer.read()
        finally:
            connection.close()

    def _send(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        headers: list[tuple[str, str]],
        body: bytes,
        *,
        half: bool = False,
    ) -> None:
        request.send_response_only(status)
        for name, value in headers:
            request.send_header(name, value)
        if request.command != "HEAD" and status != 204:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        with suppress(OSError):
            request.wfile.write(body[: len(body) // 2] if half else body)
        if half:
            request.close_connection = True
