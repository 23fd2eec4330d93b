"""An egress proxy as cloud.gov puts before a space: it asks for a password, and counts what goes through it.

It forwards plain HTTP and answers CONNECT. Hosts are looked up in ``routes`` alone, so that what does not use the proxy
does not arrive: give S3 the address ``FAR``, which belongs to nobody (RFC 5737).
"""

from __future__ import annotations

import base64
import secrets
import socket
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

FAR = "203.0.113.7"
_HEAD = 65536


@dataclass
class EgressProxy:
    """Listens on a loopback port. ``routes`` are host names to ports of this machine."""

    routes: dict[str, int]
    passed: Counter[str] = field(default_factory=Counter)
    """``METHOD host`` to how often it was let through."""
    refused: list[str] = field(default_factory=list)
    """What came without the password, or wanted to go where nobody may."""
    _password: str = field(default_factory=lambda: secrets.token_hex(8), repr=False)

    def __enter__(self) -> EgressProxy:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    @property
    def env(self) -> dict[str, str]:
        """What the container's profile exports."""
        address = f"http://space:{self._password}@127.0.0.1:{self._listener.getsockname()[1]}"
        return {"http_proxy": address, "https_proxy": address}

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            head, body = self._read_head(client)
            line, *headers = head.decode("latin-1").split("\r\n")
            method, _, rest = line.partition(" ")
            target, _, version = rest.rpartition(" ")
            place, slash, path = target.removeprefix("http://").partition("/")
            host = place.partition(":")[0]
            wanted = base64.b64encode(f"space:{self._password}".encode()).decode()
            if f"proxy-authorization: basic {wanted}".lower() not in [one.lower() for one in headers]:
                self.refused.append(f"{method} {host} without the password")
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            if host not in self.routes:
                self.refused.append(f"{method} {host}")
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            self.passed[f"{method} {host}"] += 1
            with socket.create_connection(("127.0.0.1", self.routes[host])) as server:
                if method == "CONNECT":
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    # One request a connection: what follows on it would be counted by nobody.
                    kept = [one for one in headers if not one.lower().startswith(("proxy-", "connection:"))]
                    new = "\r\n".join([f"{method} {slash}{path} {version}", *kept, "Connection: close", "", ""])
                    server.sendall(new.encode("latin-1"))
                server.sendall(body)
                sender = threading.Thread(target=_pump, args=(client, server), daemon=True)
                sender.start()
                _pump(server, client)

    def _read_head(self, client: socket.socket) -> tuple[bytes, bytes]:
        read = b""
        while b"\r\n\r\n" not in read:
            more = client.recv(_HEAD)
            if not more or len(read) > _HEAD:
                raise ConnectionError
            read += more
        head, _, body = read.partition(b"\r\n\r\n")
        return head, body


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_HEAD):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
