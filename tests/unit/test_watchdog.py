from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fac_backup.operations.watchdog import watched
from fac_backup.plain.errors import FailedError, UsageError


@pytest.fixture
def switch() -> Iterator[tuple[str, list[str]]]:
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/uuid", paths
    server.shutdown()
    server.server_close()


def test_a_success_is_told_as_start_and_success(switch: tuple[str, list[str]]) -> None:
    url, paths = switch
    with watched(url):
        pass
    assert paths == ["/uuid/start", "/uuid"]


def test_a_failure_is_told_as_start_and_fail(switch: tuple[str, list[str]]) -> None:
    url, paths = switch
    with pytest.raises(FailedError), watched(url):
        raise FailedError("no")
    assert paths == ["/uuid/start", "/uuid/fail"]


def test_a_switch_that_is_down_fails_nothing_and_its_url_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    with watched("http://127.0.0.1:9/secret-uuid"):
        pass
    assert "secret-uuid" not in caplog.text


def test_an_address_that_is_not_https_is_refused() -> None:
    with pytest.raises(UsageError), watched("http://example.com/x"):
        pass
