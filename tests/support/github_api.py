"""A strict stand-in for GitHub's REST API: documented paths, verbs and headers only, permissions, faults on demand.

What a client does wrong (an unknown path, a missing header) is recorded in ``World.mistakes`` and fails the test at the
end of ``serve``. Shapes after https://docs.github.com/rest (version 2022-11-28).
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

JSON = dict[str, Any]


@dataclass
class Token:
    """What one token may do: names of permissions, ``:write`` behind those that write; ``orgs``: whose members."""

    permissions: set[str] = field(default_factory=lambda: {"metadata", "actions", "contents"})
    orgs: set[str] = field(default_factory=set)
    expired: bool = False


@dataclass
class World:
    """Everything that the API knows; tests change it, also while it is served."""

    repository: str = "octo/app"
    default_branch: str = "main"
    visibility: str = "public"
    tokens: dict[str, Token] = field(default_factory=lambda: {"job-token": Token()})
    heads: dict[str, str] = field(default_factory=lambda: {"main": "a" * 40})
    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """(commit, path) to content."""
    protected: bool = True
    run_id: int = 7001
    attempts: dict[int, JSON] = field(default_factory=dict)
    """Number to record; one without ``run_started_at`` has just begun."""
    approvals: list[JSON] = field(default_factory=list)
    teams: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    """(organization, slug) to login to state."""
    users: set[str] = field(default_factory=lambda: {"alice", "bob", "mallory", "carol"})
    environments: dict[str, JSON] = field(default_factory=dict)
    branch_policies: dict[str, list[JSON]] = field(default_factory=dict)
    environment_secrets: dict[str, list[str]] = field(default_factory=dict)
    repository_secrets: list[str] = field(default_factory=list)
    organization_secrets: list[str] = field(default_factory=list)
    """Those that the repository may read."""
    rulesets: list[JSON] = field(default_factory=list)
    workflows: list[JSON] = field(default_factory=list)
    issues: list[JSON] = field(default_factory=list)
    hidden_rows: int = 0
    """How many rows of a list's first page are left out, though counted."""
    cut_files_to: int | None = None
    """How many bytes of a file are given, though its size is told."""
    faults: list[tuple[str, str, int]] = field(default_factory=list)
    """(pattern of paths, name of the fault, how many times; -1 for ever)."""
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)

    def attempt(self, number: int = 1, **changes: Any) -> None:
        """Record a run attempt; ``actor`` and ``triggering_actor`` may be given as logins."""
        for key in ("actor", "triggering_actor"):
            if isinstance(changes.get(key), str):
                login = changes[key]
                changes[key] = {"login": login, "type": "Bot" if login.endswith("[bot]") else "User", "id": 1}
        self.attempts[number] = {
            "id": self.run_id,
            "run_attempt": number,
            "event": "workflow_dispatch",
            "status": "in_progress",
            "head_branch": self.default_branch,
            "head_sha": self.heads[self.default_branch],
            "path": ".github/workflows/restore.yml",
            "actor": {"login": "alice", "type": "User", "id": 1},
            "triggering_actor": {"login": "alice", "type": "User", "id": 1},
            "repository": {"full_name": self.repository},
            "referenced_workflows": [],
        } | changes

    def matrix(self, text: str, branch: str = "") -> None:
        """Put action-matrix.yml at the head of a branch (the default branch)."""
        self.files[self.heads[branch or self.default_branch], "action-matrix.yml"] = text.encode()

    def environment(self, name: str, *, reviewers: bool = True, branches: list[str] | None = None,
                    prevent_self_review: bool = True, admins_bypass: bool = False) -> None:  # fmt: skip
        """An environment; ``branches`` None: any branch may deploy to it."""
        rules: list[JSON] = []
        if reviewers:
            rules.append({
                "id": 1, "type": "required_reviewers", "prevent_self_review": prevent_self_review,
                "reviewers": [{"type": "Team", "reviewer": {"slug": "fac-admins"}}],
            })  # fmt: skip
        policy = None
        if branches is not None:
            policy = {"protected_branches": False, "custom_branch_policies": True}
            rules.append({"id": 2, "type": "branch_policy"})
            self.branch_policies[name] = [{"id": i, "name": b, "type": "branch"} for i, b in enumerate(branches)]
        self.environments[name] = {
            "id": 1, "name": name, "protection_rules": rules, "deployment_branch_policy": policy,
            "can_admins_bypass": admins_bypass,
        }  # fmt: skip

    def approve(self, environment: str, login: str, state: str = "approved") -> None:
        """Somebody reviewed the run for an environment."""
        self.approvals.append(
            {"state": state, "comment": "", "user": {"login": login, "type": "User"},
             "environments": [{"id": 1, "name": environment}]}
        )  # fmt: skip

    def fault_after(self, skip: int, pattern: str, name: str) -> None:
        """As ``fault``, but the first ``skip`` requests that match are answered rightly."""
        self.faults += [(pattern, "none", skip), (pattern, name, -1)]

    def fault(self, pattern: str, name: str, times: int = -1) -> None:
        """From now on paths that match ``pattern`` get ``name``: 500, 503, drop, slow, garbage, html, list, empty,
        deep, null, text, rate,
        rate-soon, secondary, redirect, forbidden, or a status as digits."""
        self.faults.append((pattern, name, times))


class _Refusal(Exception):  # noqa: N818
    def __init__(self, status: int, message: str, headers: JSON | None = None) -> None:
        self.status, self.message, self.headers = status, message, headers or {}


class _Handler(BaseHTTPRequestHandler):
    world: World
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: each answer would wait 40 ms between them

    def log_message(self, *_: Any) -> None:
        """Silence: tests look at ``World.requests``."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        if self._fault(parts.path):
            return
        try:
            status, answer = self._route(parts.path, query, body)
        except _Refusal as refusal:
            self._send(refusal.status, {"message": refusal.message}, refusal.headers)
            return
        self._send(status, answer)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve  # noqa: N815

    def _route(self, path: str, query: dict[str, str], body: JSON) -> tuple[int, Any]:
        token = self._token()
        for verb, pattern, answer in ROUTES:
            if match := re.fullmatch(pattern, path):
                if verb != self.command:
                    continue
                names = [unquote(part) for part in match.groups()]
                return answer(self.world, token, names, query, body)
        self.world.mistakes.append(f"{self.command} {path} is no documented request")
        raise _Refusal(404, "Not Found")

    def _token(self) -> Token:
        world = self.world
        for header, expected in (("Accept", "application/vnd.github+json"), ("X-GitHub-Api-Version", "2022-11-28")):
            if self.headers.get(header) != expected:
                world.mistakes.append(f"{self.command} {self.path}: {header} is not {expected}")
        if not self.headers.get("User-Agent"):
            world.mistakes.append(f"{self.command} {self.path}: no User-Agent")
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        token = world.tokens.get(value) if scheme == "Bearer" else None
        if token is None or token.expired:
            raise _Refusal(401, "Bad credentials")
        return token

    def _fault(self, path: str) -> bool:
        world = self.world
        for index, (pattern, name, times) in enumerate(world.faults):
            if times == 0 or not re.search(pattern, path):
                continue
            world.faults[index] = (pattern, name, times - 1 if times > 0 else times)
            if name == "none":
                return False
            self._misbehave(name)
            return True
        return False

    def _misbehave(self, name: str) -> None:
        if name == "drop":
            self.world.requests.append((self.command, self.path, 0))
            self.close_connection = True
            self.connection.close()
        elif name == "slow":
            self.world.requests.append((self.command, self.path, 0))
            self.close_connection = True
            try:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{")
                for _ in range(100):
                    time.sleep(0.1)
                    self.wfile.write(b" ")
            except OSError:
                pass
        elif name in ("garbage", "html", "list", "empty", "deep", "null", "text"):
            text = {
                "garbage": b'{"state": "act', "html": b"<html>Unicorn!</html>", "list": b"[]", "empty": b"{}",
                "deep": b'{"state": "active", "x": ' + b"[" * 100_000, "null": b"null", "text": b'"active"',
            }[name]  # fmt: skip
            self._send(200, None, raw=text)
        elif name in ("rate", "rate-soon"):
            reset = int(time.time()) + (3600 if name == "rate" else 0)
            headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(reset)}
            self._send(403, {"message": "API rate limit exceeded"}, headers)
        elif name == "secondary":
            self._send(429, {"message": "You have exceeded a secondary rate limit"}, {"retry-after": "1"})
        elif name == "redirect":
            self._send(301, {"message": "Moved Permanently"}, {"location": "http://127.0.0.1:1/stolen"})
        else:
            self._send(403 if name == "forbidden" else int(name), {"message": name})

    def _send(self, status: int, answer: Any, headers: JSON | None = None, raw: bytes | None = None) -> None:
        self.world.requests.append((self.command, self.path, status))
        data = raw if raw is not None else json.dumps(answer).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


Answerer = Callable[[World, Token, list[str], dict[str, str], JSON], tuple[int, Any]]


def _need(token: Token, permission: str) -> None:
    if permission not in token.permissions and f"{permission}:write" not in token.permissions:
        raise _Refusal(403, "Resource not accessible by integration")


def _ours(world: World, names: list[str]) -> None:
    if "/".join(names[:2]).lower() != world.repository.lower():
        raise _Refusal(404, "Not Found")


def _found(value: Any) -> Any:
    if value is None:
        raise _Refusal(404, "Not Found")
    return value


def _repository(world: World, token: Token, names: list[str], *_: Any) -> tuple[int, Any]:
    _ours(world, names)
    return 200, {
        "full_name": world.repository, "default_branch": world.default_branch, "visibility": world.visibility,
        "private": world.visibility != "public", "html_url": f"https://github.com/{world.repository}",
    }  # fmt: skip


def _branch(world: World, token: Token, names: list[str], *_: Any) -> tuple[int, Any]:
    _ours(world, names)
    _need(token, "contents")
    return 200, {
        "name": names[2], "commit": {"sha": _found(world.heads.get(names[2]))},
        "protected": world.protected,
    }  # fmt: skip


def _contents(world: World, token: Token, names: list[str], query: dict[str, str], *_: Any) -> tuple[int, Any]:
    _ours(world, names)
    _need(token, "contents")
    data = _found(world.files.get((query.get("ref", ""), names[2])))
    return 200, {
        "type": "file", "encoding": "base64", "size": len(data), "path": names[2],
        "content": base64.encodebytes(data[: world.cut_files_to]).decode(),
    }  # fmt: skip


def _attempt(world: World, token: Token, names: list[str], *_: Any) -> tuple[int, Any]:
    _ours(world, names)
    _need(token, "actions")
    found = _found(world.attempts.get(int(names[3])) if int(names[2]) == world.run_id else None)
    return 200, {"run_started_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")} | found


def _approvals(world: World, token: Token, names: list[str], *_: Any) -> tuple[int, Any]:
    _ours(world, names)
    _need(token, "actions")
    return 200, world.approvals if int(names[2]) == world.run_id else []


def _member(world: World, token: Token, names: list[str], *_: Any) -> tuple[int, Any]:
    organization, slug, login = names
    if organization not in token.orgs:
        raise _Refusal(404, "Not Found")
    members = {who.lower(): state for who, state in _found(world.teams.get((organization, slug))).items()}
    return 200, {"state": _found(members.get(login.lower())), "role": "member", "url": "…"}


def _team(world: World, token: Token, names: list[str], *_: Any) -> tuple[int, Any]:
    organization, slug = names
    known = organization in token.orgs and (organization, slug) in world.teams
    return 200, _found({"slug": slug, "name": slug} if known else None)


def _user(world: World, token: Token, names: list[str], *_: Any) -> tuple[int, Any]:
    login = names[0].lower()
    if login in {who.lower() for who in world.users}:
        return 200, {"login": names[0], "type": "User"}
    raise _Refusal(404, "Not Found")


def _environment(world: World, token: Token, names: list[str], *_: Any) -> tuple[int, Any]:
    _ours(world, names)
    _need(token, "actions")
    return 200, _found(world.environments.get(names[2]))


def _environments(world: World, token: Token, names: list[str], *_: Any) -> tuple[int, Any]:
    _ours(world, names)
    _need(token, "actions")
    return 200, {"total_count": len(world.environments), "environments": list(world.environments.values())}


def _policies(world: World, token: Token, names: list[str], *_: Any) -> tuple[int, Any]:
    _ours(world, names)
    _need(token, "actions")
    _found(world.environments.get(names[2]))
    policies = world.branch_policies.get(names[2], [])
    return 200, {"total_count": len(policies) + world.hidden_rows, "branch_policies": policies}


def _environment_secrets(world: World, token: Token, names: list[str], *_: Any) -> tuple[int, Any]:
    _ours(world, names)
    _need(token, "environments")
    secrets = world.environment_secrets.get(names[2], [])
    return 200, {"total_count": len(secrets), "secrets": [{"name": name} for name in secrets]}


def _repository_secrets(world: World, token: Token, names: list[str], *_: Any) -> tuple[int, Any]:
    _ours(world, names)
    _need(token, "secrets")
    return 200, {
        "total_count": len(world.repository_secrets),
        "secrets": [{"name": name} for name in world.repository_secrets],
    }


def _organization_secrets(world: World, token: Token, names: list[str], *_: Any) -> tuple[int, Any]:
    _ours(world, names)
    _need(token, "secrets")
    found = world.organization_secrets
    return 200, {"total_count": len(found), "secrets": [{"name": name} for name in found]}


def _rulesets(world: World, token: Token, names: list[str], *_: Any) -> tuple[int, Any]:
    _ours(world, names)
    return 200, world.rulesets


def _branch_rules(world: World, token: Token, names: list[str], *_: Any) -> tuple[int, Any]:
    _ours(world, names)
    return 200, [rule for ruleset in world.rulesets for rule in ruleset.get("rules", [])]


def _workflows(world: World, token: Token, names: list[str], *_: Any) -> tuple[int, Any]:
    _ours(world, names)
    _need(token, "actions")
    return 200, {"total_count": len(world.workflows), "workflows": world.workflows}


def _issues(world: World, token: Token, names: list[str], query: dict[str, str], *_: Any) -> tuple[int, Any]:
    _ours(world, names)
    _need(token, "issues")
    wanted = set(filter(None, query.get("labels", "").split(",")))
    state = query.get("state", "open")
    return 200, [
        issue
        for issue in world.issues
        if state in ("all", issue["state"]) and wanted <= {label["name"] for label in issue["labels"]}
    ]


def _new_issue(world: World, token: Token, names: list[str], query: Any, body: JSON) -> tuple[int, Any]:
    _ours(world, names)
    _need(token, "issues:write")
    issue = {
        "number": len(world.issues) + 1, "state": "open", "title": body["title"], "body": body.get("body", ""),
        "labels": [{"name": name} for name in body.get("labels", [])], "comments_made": [],
        "html_url": f"https://github.com/{world.repository}/issues/{len(world.issues) + 1}",
    }  # fmt: skip
    world.issues.append(issue)
    return 201, issue


def _change_issue(world: World, token: Token, names: list[str], query: Any, body: JSON) -> tuple[int, Any]:
    _ours(world, names)
    _need(token, "issues:write")
    issue = _found(next((one for one in world.issues if one["number"] == int(names[2])), None))
    issue.update(body)
    return 200, issue


def _comment(world: World, token: Token, names: list[str], query: Any, body: JSON) -> tuple[int, Any]:
    _ours(world, names)
    _need(token, "issues:write")
    issue = _found(next((one for one in world.issues if one["number"] == int(names[2])), None))
    issue["comments_made"].append(body["body"])
    return 201, {"id": 1, "body": body["body"]}


_R = r"/repos/([^/]+)/([^/]+)"
ROUTES: list[tuple[str, str, Answerer]] = [
    ("GET", _R, _repository),
    ("GET", _R + r"/branches/([^/]+)", _branch),
    ("GET", _R + r"/contents/(.+)", _contents),
    ("GET", _R + r"/actions/runs/([0-9]+)/attempts/([0-9]+)", _attempt),
    ("GET", _R + r"/actions/runs/([0-9]+)/approvals", _approvals),
    ("GET", _R + r"/actions/workflows", _workflows),
    ("GET", _R + r"/actions/secrets", _repository_secrets),
    ("GET", _R + r"/actions/organization-secrets", _organization_secrets),
    ("GET", _R + r"/environments", _environments),
    ("GET", _R + r"/environments/([^/]+)", _environment),
    ("GET", _R + r"/environments/([^/]+)/deployment-branch-policies", _policies),
    ("GET", _R + r"/environments/([^/]+)/secrets", _environment_secrets),
    ("GET", _R + r"/rulesets", _rulesets),
    ("GET", _R + r"/rules/branches/([^/]+)", _branch_rules),
    ("GET", _R + r"/issues", _issues),
    ("POST", _R + r"/issues", _new_issue),
    ("PATCH", _R + r"/issues/([0-9]+)", _change_issue),
    ("POST", _R + r"/issues/([0-9]+)/comments", _comment),
    ("GET", r"/orgs/([^/]+)/teams/([^/]+)", _team),
    ("GET", r"/users/([^/]+)", _user),
    ("GET", r"/orgs/([^/]+)/teams/([^/]+)/memberships/([^/]+)", _member),
]


@contextmanager
def serve(world: World) -> Iterator[str]:
    """Serve ``world`` on a free loopback port; gives the API's address. Fails at the end if a client broke a rule."""
    handler = type("Handler", (_Handler,), {"world": world})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert not world.mistakes, world.mistakes
