"""Tokens from UAA: the password grant, renewed in time, and again from the start when renewing does not help."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlencode

from fac_backup.hosting.cloudfoundry.errors import ApiRefusedError
from fac_backup.hosting.cloudfoundry.http import Http
from fac_backup.plain.errors import UsageError

_HEADERS = {
    "Authorization": "Basic Y2Y6",  # the public client `cf` with its empty secret, as the cf command line
    "Content-Type": "application/x-www-form-urlencoded",
}
_EARLY = 60.0
"""Seconds before its end at which a token is renewed."""


@dataclass(frozen=True)
class Account:
    """A service account (cloud.gov: `cf create-service cloud-gov-service-account space-deployer …`)."""

    username: str
    password: str = field(repr=False)
    inputs: str = "cf-username and cf-password"
    """The inputs that it came from, for messages."""


class Login:
    """The token of one account at one UAA."""

    def __init__(self, http: Http, uaa: str, account: Account) -> None:
        self._http, self._url, self._account = http, f"{uaa}/oauth/token", account
        self._token = self._refresh = ""
        self._until = 0.0

    def header(self) -> dict[str, str]:
        """The Authorization header, its token good for a minute at least. Raises UsageError, UnreachableError."""
        if not self._token or self._http.pace.clock() > self._until:
            self.renew()
        return {"Authorization": f"bearer {self._token}"}

    def renew(self) -> None:
        """A new token: by the refresh token, else by the password."""
        if self._refresh and self._grant({"grant_type": "refresh_token", "refresh_token": self._refresh}):
            return
        if not self._account.username or not self._account.password:
            raise UsageError(
                f"No account for Cloud Foundry: {self._account.inputs} must be given",
                next_step="They come from a service account's key (docs/cloud-gov.md); a secret that arrives empty "
                "usually belongs to another environment or repository.",
            )
        self._grant(
            {"grant_type": "password", "username": self._account.username, "password": self._account.password},
            must=True,
        )

    def _grant(self, form: dict[str, str], *, must: bool = False) -> bool:
        body = urlencode(form).encode()
        reply = self._http.send("POST", self._url, _HEADERS, body, what="The login to Cloud Foundry")
        if reply.status == 200 and isinstance(reply.body.get("access_token"), str):
            self._token = reply.body["access_token"]
            self._refresh = str(reply.body.get("refresh_token") or "")
            seconds = float(reply.body.get("expires_in") or 0)
            self._until = self._http.pace.clock() + max(seconds - _EARLY, seconds / 2)
            return True
        self._token = self._refresh = ""
        if not must:
            return False
        inputs = self._account.inputs
        if reply.body.get("error") == "access_denied" or reply.status == 403:
            raise UsageError(
                f"Cloud Foundry refuses the account of {inputs}: its password has expired",
                next_step="cloud.gov's service accounts last 90 days: make a new key (docs/cloud-gov.md, Accounts), "
                "put it into the environment's secrets, and run this again.",
            )
        if reply.status in (400, 401):
            raise UsageError(
                f"Cloud Foundry does not accept user name and password ({inputs})",
                next_step="Compare the secrets with `cf service-key ACCOUNT KEY`, in the space that the account is of.",
            )
        raise ApiRefusedError(f"The login to Cloud Foundry was answered with {reply.status}", status=reply.status)
