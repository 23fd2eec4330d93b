"""The proxy of a container: known by its variables, asked with its password, passed by where it must not be asked."""

from __future__ import annotations

import pytest
import urllib3

from fac_backup.hosting.cloudfoundry.http import pool_for
from tests.support.egress import EgressProxy


@pytest.fixture(autouse=True)
def no_other_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(("scheme", "asked"), [("http", "GET far.test"), ("https", "CONNECT far.test")])
def test_the_proxy_is_asked_with_its_password(monkeypatch: pytest.MonkeyPatch, scheme: str, asked: str) -> None:
    with EgressProxy({}) as proxy:  # which lets nobody through, but says who came with the password
        for name, value in proxy.env.items():
            monkeypatch.setenv(name, value)
        pool = pool_for(f"{scheme}://far.test/bucket/key", timeout=5)
        try:
            answer = pool.request("GET", f"{scheme}://far.test/bucket/key", retries=False)
        except urllib3.exceptions.HTTPError:
            assert scheme == "https"
        else:
            assert answer.status == 403
    assert proxy.refused == [asked]


def test_what_is_exempt_and_what_is_on_this_machine_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.test:1")
    monkeypatch.setenv("http_proxy", "http://proxy.test:1")
    monkeypatch.setenv("no_proxy", "s3.test,apps.internal")
    direct = ("https://s3.test/x", "https://bucket.s3.test/x", "http://127.0.0.1:9/x", "https://db.apps.internal")
    assert not any(isinstance(pool_for(url), urllib3.ProxyManager) for url in direct)
    assert isinstance(pool_for("https://other.test/x"), urllib3.ProxyManager)
