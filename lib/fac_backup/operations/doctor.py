"""Doctor: are the settings in place that guard the backups, is a backup gone that nobody purged, and does one age away?

Reads, never changes; each row links to where it is set.
"""

from __future__ import annotations

from collections.abc import Iterator

from fac_backup.hosting.github.api import GitHub, in_repository
from fac_backup.hosting.github.settings_check import Finding, Settings, examine
from fac_backup.operations import expiry, opening
from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.errors import FacBackupError, FailedError, UsageError
from fac_backup.plain.text import plural, verb
from fac_backup.policy.lint import lint
from fac_backup.report.views import CheckRow, Fact, Failure, Outcome
from fac_backup.store import trail
from fac_backup.store.store import Store


def run(around: Surroundings, repository: str = "") -> Result:
    """Look at the settings of ``repository`` (default: the run's own). Exit code 1 if one that matters is missing.

    Outside Actions the token is GITHUB_TOKEN or GH_TOKEN, as GitHub's own command line reads it. Raises UsageError
    without a repository or a token, FailedError where GitHub does not say which branch is the default.
    """
    env = around.env
    repository = repository or env.get("GITHUB_REPOSITORY", "")
    if repository.count("/") != 1:
        raise UsageError("No repository is named", next_step="Give --repository owner/name, or GITHUB_REPOSITORY.")
    token = next((env[name] for name in ("FAC_BACKUP_GITHUB_TOKEN", "GITHUB_TOKEN", "GH_TOKEN") if env.get(name)), "")
    if not token:
        raise UsageError(
            "No token to ask GitHub with", next_step="Set GITHUB_TOKEN; `gh auth token` prints one that reads settings."
        )
    api = env.get("GITHUB_API_URL") or "https://api.github.com"
    github = GitHub(api, token)
    answer = github.get(in_repository(repository))
    branch = answer.mapping().get("default_branch")
    if not isinstance(branch, str):
        raise FailedError(f"The repository {repository} could not be read: {answer.reason or 'an odd answer'}")
    settings = Settings(
        repository=repository,
        branch=branch,
        matrix=around.matrix,
        github=github,
        members=GitHub(api, env.get("FAC_BACKUP_MEMBERS_TOKEN") or token),
        server=(env.get("GITHUB_SERVER_URL") or "https://github.com").rstrip("/"),
    )
    page = f"{settings.server}/{repository}/blob/{branch}/action-matrix.yml"
    mistakes = tuple(
        Finding(f"matrix: {'.'.join(str(part) for part in one.at)}", False, one.sentence, page, one.severity == "error")
        for one in lint(around.matrix)
    )
    return result_of(mistakes + examine(settings) + _stores(around, page), around.matrix_from)


def _stores(around: Surroundings, page: str) -> tuple[Finding, ...]:
    """For each space whose backups bucket is given here: what its store tells."""
    found: list[Finding] = []
    for space in around.matrix.spaces:
        try:
            address = around.places(space).bucket
            if address is None:
                continue
            store = opening.store_of(around, space, address)
            gaps = trail.gaps(store, store.catalog.summaries())
        except FacBackupError as error:
            found.append(Finding(f"catalog of {space}", None, f"It cannot be read: {error.what}.", page, matters=False))
            continue
        sentence = " ".join(gap.sentence for gap in gaps) or "Every backup that another names is there, or was purged."
        found.append(Finding(f"catalog of {space}", not gaps, sentence, page, matters=False))
        found += _expiry(store, page)
    return tuple(found)


def _expiry(store: Store, page: str) -> Iterator[Finding]:
    """Whether the bucket will delete what a backup needs that counts; nothing where it deletes nothing by age."""
    if store.ageing is None:
        return
    name = f"expiry in {store.space}"
    sound = (
        entry.manifest
        for entry in store.catalog.each()
        if entry.manifest is not None and not entry.future and store.catalog.counts(entry)
    )
    try:
        left = expiry.seconds_left(store, store.ageing, sound)
    except FacBackupError as error:
        yield Finding(name, None, f"What will expire cannot be told: {error.what}.", page, matters=False)
        return
    yield Finding(name, left is None or left >= expiry.SOON, expiry.sentence(left), page, matters=False)


def result_of(findings: tuple[Finding, ...], matrix_from: str) -> Result:
    """Findings as a result: what matters and is missing or unreadable makes it fail."""
    serious = [one for one in findings if one.matters and not one.passed]
    lesser = [one for one in findings if not one.matters and not one.passed]
    failure = None
    if serious:
        failure = Failure(
            f"{plural(len(serious), 'setting')} that {verb(len(serious), 'matters', 'matter')} "
            f"{verb(len(serious), 'is', 'are')} missing or cannot be read",
            "Nothing was changed.",
            f"{serious[0].sentence} ({serious[0].url}); then the others of the list.",
        )
    outcome = Outcome(
        "doctor",
        "The settings guard the backups" if not serious else "Settings that guard the backups are missing",
        facts=(Fact("matrix", matrix_from),),
        checks=tuple(CheckRow(one.name, one.passed, one.sentence, one.url) for one in findings),
        warnings=tuple(one.sentence for one in lesser),
        failure=failure,
    )
    data = {
        "findings": [
            {"name": one.name, "passed": one.passed, "sentence": one.sentence, "url": one.url, "matters": one.matters}
            for one in findings
        ]
    }
    return Result(outcome, data, exit_code=1 if serious else 0)
