"""The few calls of Cloud Foundry's v3 API that backups need (https://v3-apidocs.cloudfoundry.org)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from fac_backup.hosting.cloudfoundry.errors import ApiRefusedError, UnreachableError
from fac_backup.hosting.cloudfoundry.http import Http, Pace, Reply, check_address, same_platform
from fac_backup.hosting.cloudfoundry.login import Account, Login
from fac_backup.plain.errors import FailedError, UsageError
from fac_backup.plain.text import one_line

_log = logging.getLogger(__name__)
_PAGES = 200


@dataclass(frozen=True)
class Space:
    """A space of an organization."""

    guid: str
    name: str
    org: str


@dataclass(frozen=True)
class App:
    """An app."""

    guid: str
    name: str
    space: Space


@dataclass(frozen=True)
class Instance:
    """A service instance that a space can use; ``owner`` is the guid of the space that it belongs to."""

    guid: str
    name: str
    space: Space
    owner: str
    managed: bool
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def own(self) -> bool:
        """Whether the space that uses it owns it. ``additional_instances`` are resolved in the owner's space."""
        return self.owner == self.space.guid


class Client:
    """One account at one Cloud Foundry. Errors are sentences; credentials never appear in them or in a log."""

    def __init__(self, api: str, account: Account, pace: Pace | None = None) -> None:
        self.pace = pace or Pace()
        self._api = check_address(api, "The address of Cloud Foundry's API (input cf-api)")
        self._http = Http(self.pace)
        self._account = account
        self._login: Login | None = None
        self._log_cache = ""

    # the wire

    def _connect(self) -> Login:
        if self._login is None:
            reply = self._http.send("GET", f"{self._api}/", {}, None, what="Asking Cloud Foundry where to log in")
            links = reply.body.get("links") or {}
            uaa = self._link(links, "login") or self._link(links, "uaa")
            if not uaa:
                raise UsageError(
                    "The address in cf-api does not answer like Cloud Foundry's API",
                    next_step="cloud.gov's is https://api.fr.cloud.gov (`cf api` shows it).",
                )
            self._log_cache = self._link(links, "log_cache")
            self._login = Login(self._http, uaa, self._account)
        return self._login

    def _link(self, links: dict[str, Any], name: str) -> str:
        address = str((links.get(name) or {}).get("href") or "")
        if not address:
            return ""
        address = check_address(address, f"The address that Cloud Foundry names for {name}")
        if not same_platform(self._api, address):
            raise UsageError(
                f"Cloud Foundry names an address for {name} that is not of its own domain",
                next_step="Check cf-api: the password is sent to no other platform.",
            )
        return address

    def _send(self, method: str, url: str, body: bytes | None, what: str, limit: float | None = None) -> Reply:
        login = self._connect()
        for turn in (1, 2):
            headers = login.header() | ({"Content-Type": "application/json"} if body is not None else {})
            reply = self._http.send(method, url, headers, body, what=what, limit=limit)
            if reply.status != 401 or turn == 2:
                return reply
            login.renew()  # a 401 was not carried out: the same request may follow
        raise AssertionError("unreachable")

    def request(self, method: str, path: str, body: dict[str, Any] | None = None, *, what: str) -> Reply:
        """One call, named ``what`` in messages ("The binding of backups"). Raises ApiRefusedError for 4xx."""
        raw = None if body is None else json.dumps(body).encode()
        reply = self._send(method, f"{self._api}{path}", raw, what)
        if reply.status >= 400:
            raise _refusal(reply, what)
        return reply

    def get(self, path: str, *, what: str) -> dict[str, Any]:
        """The document at ``path``."""
        return self.request("GET", path, what=what).body

    def resources(self, path: str, *, what: str, **query: str) -> Iterator[dict[str, Any]]:
        """All resources of a list, page after page. ``query`` values are taken literally."""
        pairs = {**query, "per_page": "200"}
        address = f"{path}?{urlencode(pairs, quote_via=quote)}"
        for _ in range(_PAGES):
            page = self.get(address, what=what)
            for resource in page.get("resources") or []:
                if isinstance(resource, dict):
                    yield resource
            following = ((page.get("pagination") or {}).get("next") or {}).get("href")
            if not following:
                return
            parts = urlsplit(str(following))  # only its path and query: the token goes to our own API
            address = f"{parts.path}?{parts.query}"
        raise FailedError(f"{what}: the list does not end after {_PAGES} pages")

    def read_logs(self, app: App, start: int, limit: int = 1000) -> list[dict[str, Any]]:
        """Log messages of an app from ``start`` (nanoseconds since 1970) on, oldest first.

        log-cache answers 404 where a token has expired (it hides what the caller may not see), so a 404 renews the
        token once. Raises UnreachableError; the caller decides whether that matters.
        """
        login = self._connect()
        if not self._log_cache:
            raise UnreachableError("This Cloud Foundry has no log-cache")
        url = f"{self._log_cache}/api/v1/read/{app.guid}?start_time={start}&envelope_types=LOG&limit={limit}"
        for turn in (1, 2):
            reply = self._http.send("GET", url, login.header(), None, what="Reading the task's log", limit=15.0)
            if reply.status == 200:
                batch = (reply.body.get("envelopes") or {}).get("batch") or []
                return [envelope for envelope in batch if isinstance(envelope, dict)]
            if reply.status not in (401, 404) or turn == 2:
                break
            login.renew()
        raise UnreachableError(f"log-cache answers {reply.status}")

    def wait(self, reply: Reply, *, what: str, seconds: float) -> None:
        """Wait for the job that an answer names, if it names one.

        Raises FailedError with the broker's words when it failed, UnreachableError when it is not over in time.
        """
        location = reply.headers.get("Location", "")
        if reply.status != 202 or not location:
            return
        path = urlsplit(location).path
        deadline = self.pace.clock() + seconds
        turn = 0
        while True:
            job = self.get(path, what=f"{what}: looking at its job")
            state = job.get("state")
            if state == "COMPLETE":
                return
            if state == "FAILED":
                raise FailedError(f"{what} failed: {_details(job) or 'no reason was given'}")
            if self.pace.clock() > deadline:
                raise UnreachableError(f"{what} was not over after {seconds:.0f} s")
            self.pace.poll(turn)
            turn += 1

    # finding things

    def space(self, org: str, name: str) -> Space:
        """The space. Raises UsageError that says what was looked for, where, and what there is."""
        found = self._one("organization", org, "the account's organizations", "/v3/organizations", {})
        space = self._one("space", name, f"organization {org}", "/v3/spaces", {"organization_guids": found["guid"]})
        return Space(space["guid"], name, org)

    def app(self, space: Space, name: str) -> App:
        """The app in that space. Raises UsageError like ``space``."""
        found = self._one("app", name, f"space {space.name}", "/v3/apps", {"space_guids": space.guid})
        return App(found["guid"], name, space)

    def instance(self, space: Space, name: str) -> Instance:
        """The service instance that the space owns or has been given by sharing. Raises UsageError like ``space``."""
        where = {"space_guids": space.guid}
        return instance_from(
            self._one("service instance", name, f"space {space.name}", "/v3/service_instances", where), space
        )

    def _one(self, kind: str, name: str, place: str, path: str, query: dict[str, str]) -> dict[str, Any]:
        what = f"Looking for the {kind} {name}"
        found = [r for r in self.resources(path, what=what, names=name, **query) if r.get("name") == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(
                f"There are {len(found)} {kind}s named {name} in {place}",
                next_step="Rename one of them: it would be a guess which one is meant.",
            )
        names = sorted(str(r.get("name")) for r in self.resources(path, what=what, **query))
        shown = ", ".join(one_line(n, 60) for n in names[:20]) + (" …" if len(names) > 20 else "")
        raise UsageError(
            f"There is no {kind} {name} in {place}; this account sees: {shown or 'none'}",
            next_step="Correct the name in action-matrix.yml, or give the account a role there (docs/cloud-gov.md).",
        )


def instance_from(resource: dict[str, Any], space: Space) -> Instance:
    """An instance as the API describes it, seen from ``space``."""
    owner = (((resource.get("relationships") or {}).get("space") or {}).get("data") or {}).get("guid") or space.guid
    labels = (resource.get("metadata") or {}).get("labels") or {}
    managed = resource.get("type") == "managed"
    return Instance(str(resource["guid"]), str(resource.get("name")), space, str(owner), managed, labels)


def _details(body: dict[str, Any]) -> str:
    errors = [e for e in body.get("errors") or [] if isinstance(e, dict)]
    return one_line("; ".join(str(e.get("detail") or e.get("title") or "") for e in errors), 400)


def _refusal(reply: Reply, what: str) -> ApiRefusedError:
    detail = _details(reply.body)
    if reply.status == 403:
        step = "The account needs the role Space Developer in that space (docs/cloud-gov.md, Accounts)."
    elif reply.status == 401:
        step = "The token is refused even after a new login: look whether the account still exists."
    else:
        step = ""
    said = f": {detail}" if detail else ""
    return ApiRefusedError(
        f"{what} was refused ({reply.status}){said}", status=reply.status, detail=detail, next_step=step
    )
