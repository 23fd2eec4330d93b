"""The HTTP server: UAA, the v3 API and log-cache on one loopback port, and the faults that tests ask for."""

from __future__ import annotations

import base64
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

from tests.support.s3 import S3Server

from .api import Api, ApiError
from .broker import Broker
from .tasks import Tasks
from .world import User, World

INVALID_TOKEN = {"errors": [{"code": 1000, "title": "CF-InvalidAuthToken", "detail": "Invalid Auth Token"}]}
BAD_JSON = {"errors": [{"code": 1001, "title": "CF-MessageParseError", "detail": "invalid request body"}]}
NO_TOKEN = {"errors": [{"code": 10002, "title": "CF-NotAuthenticated", "detail": "Authentication error"}]}


@dataclass
class Fault:
    """What goes wrong, and where.

    ``what``: a status (429, 500, 503, …) instead of an answer · ``drop``: the connection closes before the request is
    worked on · ``drop after``: it is worked on, the answer never arrives · ``hang``: no answer for ``seconds`` ·
    a function: called with the number of the call, then the request goes on.
    """

    what: int | str | Callable[[int], None]
    match: str = ""
    """A regular expression over ``METHOD /path``; empty matches every call."""
    nth: int = 1
    """Which matching call is the first to go wrong."""
    times: int = 1
    seconds: float = 30.0
    headers: dict[str, str] = field(default_factory=dict)
    seen: int = 0

    def hits(self, call: str) -> bool:
        if not re.search(self.match, call):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


class CloudFoundry:
    """One running stand-in. ``world`` holds what there is, ``faults`` what goes wrong, ``calls`` what was asked."""

    def __init__(
        self, s3: S3Server | None = None, *, token_seconds: float = 600, refresh_seconds: float = 3600
    ) -> None:
        self.world = World()
        self.broker = Broker(self.world, s3)
        self.tasks = Tasks(self.world)
        self.api = Api(self.world, self.broker, self.tasks, lambda: self.address)
        self.token_seconds, self.refresh_seconds = token_seconds, refresh_seconds
        self.faults: list[Fault] = []
        self.calls: list[str] = []
        """``METHOD /path`` of every request, in order; tokens and log reads too."""
        self.log_cache_down = False
        self.logins = 0
        self._tokens: dict[str, tuple[User, float]] = {}
        self._refresh: dict[str, tuple[User, float]] = {}
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    @property
    def address(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> CloudFoundry:
        stand_in = self

        class Handler(_Handler):
            cloud = stand_in

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        self.broker.hang_bind.set()
        self.tasks.stop()
        for job in self.world.jobs:
            if job.thread is not None:
                job.thread.join(5)
        self.broker.stop()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def __enter__(self) -> CloudFoundry:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def expire_tokens(self, *, refresh: bool = False) -> None:
        """All access tokens (and refresh tokens) are worth nothing from now on."""
        self._tokens.clear()
        if refresh:
            self._refresh.clear()

    # answers: status, body, headers

    def answer(
        self, method: str, path: str, query: dict[str, str], headers: Any, raw: bytes
    ) -> tuple[int, Any, dict[str, str]]:
        if path in ("/", ""):
            return 200, self._root(), {}
        if path == "/v3":
            return 200, {"links": {"self": {"href": f"{self.address}/v3"}}}, {}
        if path in ("/login/oauth/token", "/uaa/oauth/token") and method == "POST":
            return self._token(headers, dict(parse_qsl(raw.decode())))
        user = self._user(headers)
        if path.startswith("/log-cache/"):
            return self._read_logs(user, path, query)
        if user is None:
            return (401, INVALID_TOKEN if headers.get("Authorization") else NO_TOKEN, {})
        body = {}
        if raw:
            try:
                body = json.loads(raw)
            except ValueError:
                body = None
            if not isinstance(body, dict):
                return 400, BAD_JSON, {}
        try:
            return self.api.answer(user, method, path, query, body)
        except ApiError as error:
            return error.status, error.body, {}

    def _root(self) -> dict[str, Any]:
        links = {name: {"href": f"{self.address}{path}"} for name, path in (
            ("self", ""), ("login", "/login"), ("uaa", "/uaa"), ("cloud_controller_v3", "/v3"),
            ("log_cache", "/log-cache"),
        )}  # fmt: skip
        links["app_ssh"] = {"href": "ssh.invalid:2222"}
        return {"links": links}

    def _user(self, headers: Any) -> User | None:
        scheme, _, token = (headers.get("Authorization") or "").partition(" ")
        user, until = self._tokens.get(token, (None, 0.0))
        return user if scheme.lower() == "bearer" and time.monotonic() < until else None

    def _token(self, headers: Any, form: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        basic = "Basic " + base64.b64encode(b"cf:").decode()
        if headers.get("Authorization") != basic and form.get("client_id") != "cf":
            return 401, {"error": "invalid_client", "error_description": "Bad client credentials"}, {}
        if form.get("grant_type") == "refresh_token":
            user, until = self._refresh.get(form.get("refresh_token", ""), (None, 0.0))
            if user is None or time.monotonic() >= until:
                return 401, {"error": "invalid_token", "error_description": "The refresh token expired"}, {}
        elif form.get("grant_type") == "password":
            user = next((u for u in self.world.users if u.name == form.get("username")), None)
            if user is None or not secrets.compare_digest(user.password, form.get("password", "")):
                return 401, {"error": "unauthorized", "error_description": "Bad credentials"}, {}
            if user.password_expired:
                return 403, {"error": "access_denied", "error_description": "Your current password has expired. Please "
                             "reset your password."}, {}  # fmt: skip
            self.logins += 1
        else:
            return 401, {"error": "invalid_client", "error_description": "Unauthorized grant type"}, {}
        token, refresh = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self._tokens[token] = user, time.monotonic() + self.token_seconds
        self._refresh[refresh] = user, time.monotonic() + self.refresh_seconds
        return 200, {"access_token": token, "token_type": "bearer", "refresh_token": refresh,
                     "expires_in": max(0, int(self.token_seconds) - 1), "scope": "", "jti": "x"}, {}  # fmt: skip

    def _read_logs(self, user: User | None, path: str, query: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        match = re.fullmatch(r"/log-cache/api/v1/read/([0-9a-f-]{36})", path)
        app = next((a for a in self.world.apps if match and a.guid == match[1]), None)
        if user is None or app is None or app.space.guid not in user.roles:
            return 404, {"message": "not found"}, {}  # log-cache hides what a caller may not see
        if self.log_cache_down:
            return 503, {"error": "unavailable"}, {}
        start, limit = int(query.get("start_time", 0)), int(query.get("limit", 100))
        if limit > 1000:
            return 400, {"message": "Limit must be 1000 or less"}, {}
        with self.world.lock:
            lines = [line for line in self.world.logs.get(app.guid, [])
                     if line.timestamp >= start and time.monotonic() >= line.visible_at]  # fmt: skip
        batch = [
            {
                "timestamp": str(line.timestamp), "source_id": app.guid, "instance_id": "0", "deprecated_tags": {},
                "tags": {"source_type": line.source_type, "app_name": app.name, "instance_id": "0"},
                "log": {"payload": base64.b64encode(line.payload).decode(), "type": line.stream},
            }
            for line in sorted(lines, key=lambda line: line.timestamp)[:limit]
        ]  # fmt: skip
        return 200, {"envelopes": {"batch": batch}}, {}

    def disturb(self, call: str) -> Fault | None:
        """Count the call and find the fault that hits it."""
        with self._lock:
            self.calls.append(call)
            number = len(self.calls)
            fault = next((f for f in self.faults if f.hits(call)), None)
        if fault is not None and callable(fault.what):
            fault.what(number)
            return None
        return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cloud: CloudFoundry

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length) if length else b""
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        fault = self.cloud.disturb(f"{self.command} {path}")
        headers: dict[str, str] = {}
        body: Any
        if fault is None:
            status, body, headers = self.cloud.answer(self.command, path, query, self.headers, raw)
        elif fault.what == "hang":
            time.sleep(fault.seconds)
            return self._drop()
        elif fault.what == "drop":
            return self._drop()
        elif fault.what == "drop after":
            self.cloud.answer(self.command, path, query, self.headers, raw)
            return self._drop()
        else:
            status, headers = cast(int, fault.what), fault.headers
            body = {"errors": [{"code": 10001, "title": "UnknownError", "detail": "An unknown error occurred."}]}
        payload = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if payload:
            self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)
        return None

    def _drop(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def do_GET(self) -> None:
        try:
            self._handle()
        except (BrokenPipeError, ConnectionResetError, ValueError, OSError):
            self.close_connection = True

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass
