"""The daily cycle from examples/workflows/daily.yml under act, and a member who finishes a night that failed."""

from __future__ import annotations

import re
from threading import Lock

import pytest
import yaml

from tests.e2e.spaces import Space
from tests.support.act import ROOT, Act, Ran
from tests.support.faults import S3Front
from tests.support.github_api import World

SECRETS = ("DATABASE_URL", "BUCKET", "BUCKET_CREDENTIALS", "DOCUMENTS", "DOCUMENTS_CREDENTIALS")


def example() -> str:
    """The example. act has no environments: what a job's environment would hold is given by name instead."""
    lines = []
    for line in (ROOT / "examples/workflows/daily.yml").read_text().splitlines():
        if match := re.match(r"  (backup|restore|purge)-(\w+):$", line):
            guarded, space = match[1] != "backup", match[2]
        if line.strip().startswith("secrets: inherit"):
            names = {name: f"{space.upper()}_{name}" for name in SECRETS} | {"MEMBERS_APP_KEY": "MEMBERS_APP_KEY"}
            if not guarded:
                del names["MEMBERS_APP_KEY"]
            line = "    secrets:\n" + "\n".join(
                f"      {name}: ${{{{ secrets.{given} }}}}" for name, given in names.items()
            )
        lines.append(line)
    return "\n".join(lines) + "\n"


def rerun_of(job: str, backup_id: str) -> str:
    """What "Re-run failed jobs" runs: one job of the example, with the outputs that the others had."""
    head, jobs = example().split("jobs:\n", 1)
    found = re.search(rf"^  {job}:\n(?:    .*\n)+", jobs, re.MULTILINE)
    assert found is not None
    block = re.sub(r"^    needs: .*\n", "", found[0], flags=re.MULTILINE)
    return f"{head}jobs:\n" + re.sub(r"\$\{\{ needs\.\S+ \}\}", backup_id, block)


SHARDS = """\
name: In shards
on: {schedule: [{cron: "17 4 * * *"}]}
permissions: {}
jobs:
  backup-production:
    permissions: {actions: read, contents: read}
    uses: fac/backup-actions/.github/workflows/backup.yml@v1
    with: {space: production, kind: daily, shards: 4}
    secrets:
  restore-staging:
    needs: backup-production
    permissions: {actions: read, contents: read}
    uses: fac/backup-actions/.github/workflows/restore.yml@v1
    with:
      source: production
      target: staging
      backup-id: ${{ needs.backup-production.outputs.backup-id }}
      shards: 4
      members-client-id: Iv23liYOURAPPSID
    secrets:
"""


def in_shards() -> str:
    """``SHARDS`` with each space's secrets."""
    parts = SHARDS.split("    secrets:\n")
    for at, space in enumerate(("PRODUCTION", "STAGING")):
        parts[at] += "    secrets:\n" + "".join(
            f"      {name}: ${{{{ secrets.{space}_{name} }}}}\n" for name in SECRETS
        )
    return "".join(parts)


def all_secrets(spaces: dict[str, Space]) -> dict[str, str]:
    return {key: value for space in spaces.values() for key, value in space.secrets(f"{space.name.upper()}_").items()}


def test_the_example_gives_no_secret_to_a_space_that_is_not_its_own() -> None:
    for name, job in yaml.safe_load(example())["jobs"].items():
        space = name.split("-")[1].upper()
        given = set(job["secrets"].values()) - {"${{ secrets.MEMBERS_APP_KEY }}"}
        assert given == {f"${{{{ secrets.{space}_{secret} }}}}" for secret in SECRETS}


def results(ran: Ran) -> dict[str, str]:
    """The jobs that work, and how they ended."""
    return {name.rsplit("/", 1)[1].strip(): result for name, result in ran.jobs().items() if "May this run" not in name}


def night(world: World) -> None:
    world.attempt(1, event="schedule", actor="bob", triggering_actor="bob", path=".github/workflows/daily.yml")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_night_staging_becomes_production_and_dev_itself_and_old_backups_go(
    act: Act, world: World, api: str, spaces: dict[str, Space]
) -> None:
    night(world)
    before = {name: space.fingerprint() for name, space in spaces.items()}
    act.workflow("daily.yml", example())
    ran = act.run("daily.yml", event="schedule", api=api, secrets=all_secrets(spaces), actor="bob")
    assert ran.passed, ran.log()
    assert results(ran) == dict.fromkeys(
        ("Back up production", "Back up dev", "Restore staging", "Restore dev", "Purge production", "Purge dev"),
        "success",
    )
    after = {name: space.fingerprint() for name, space in spaces.items()}
    assert after == before | {"staging": before["production"]}
    assert not [path for _, path, _ in world.requests if "memberships" in path], "no person is checked at night"
    spaces["staging"].fill("staging")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_night_in_which_staging_fails_leaves_dev_done_and_a_member_finishes_it(
    act: Act, world: World, api: str, spaces: dict[str, Space]
) -> None:
    world.run_id = 7002  # a night of its own
    night(world)
    production, staging, dev = spaces["production"], spaces["staging"], spaces["dev"]
    before = {name: space.fingerprint() for name, space in spaces.items()}
    known = set(production.stored())
    act.workflow("daily.yml", example())
    # Somebody has put preview's database into staging's environment.
    secrets = all_secrets(spaces) | {"STAGING_DATABASE_URL": spaces["preview"].url}
    ran = act.run("daily.yml", event="schedule", api=api, secrets=secrets, actor="bob", run_id=7002)

    assert not ran.passed, "one failing space makes the run red"
    # act stops after a failed stage; on GitHub the purges follow, since their `if` asks for the backup alone.
    assert results(ran) == {
        "Back up production": "success",
        "Back up dev": "success",
        "Restore staging": "failure",
        "Restore dev": "success",
    }
    assert {name: space.fingerprint() for name, space in spaces.items()} == before
    new = {key.split("/")[-1].removesuffix(".json") for key in set(production.stored()) - known if "/catalog/" in key}
    assert sorted(name.split("_")[0] for name in new) == ["dev", "production"]
    for secret in secrets.values():
        assert secret not in ran.log()

    # The next morning: mallory may not, carol (a member) finishes it with the same backup.
    made = next(name for name in new if name.startswith("production"))
    act.workflow("daily.yml", rerun_of("restore-staging", made))
    again = all_secrets(spaces) | {"MEMBERS_APP_KEY": "members"}
    for login, expected in (("mallory", before["staging"]), ("carol", production.fingerprint())):
        world.attempt(2, event="schedule", actor="bob", triggering_actor=login)
        ran = act.run(
            "daily.yml", event="schedule", api=api, secrets=again, actor="bob", triggering_actor=login, attempt=2,
            run_id=7002,
        )  # fmt: skip
        assert ran.passed is (login == "carol"), ran.log()
        assert staging.fingerprint() == expected
    assert dev.fingerprint() == before["dev"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_four_shards_copy_four_add_and_the_last_job_of_each_finishes(
    act: Act, world: World, api: str, spaces: dict[str, Space]
) -> None:
    world.run_id = 7003
    night(world)
    production, staging = spaces["production"], spaces["staging"]
    staging.fill("staging")
    act.workflow("shards.yml", in_shards())
    ran = act.run("shards.yml", event="schedule", api=api, secrets=all_secrets(spaces), actor="bob", run_id=7003)
    assert ran.passed, ran.log()
    # act ends the name of a matrix's job with its number.
    shards = [
        f"Documents of {space}, shard {number}-{number}"
        for space in ("production", "staging")
        for number in range(1, 5)
    ]
    planned = ["Dump the database of production", "Check and plan the restore of staging"]
    assert results(ran) == dict.fromkeys([*planned, *shards, "Back up production", "Restore staging"], "success")
    assert staging.fingerprint() == production.fingerprint()
    assert "is complete" in ran.summary("Back up production")
    assert "added</th><td>0<" in ran.summary("Restore staging"), "the shards had added all"
    for secret in all_secrets(spaces).values():
        assert secret not in ran.log()


def rerun_of_shards(act: Act, failed: str, backup_id: str) -> None:
    """What "Re-run failed jobs" runs of backup.yml: the failed shard and the last job, with what the plan had said."""
    path = act.library / ".github/workflows/backup.yml"
    text = re.sub(r"^  plan:\n(?:    .*\n)+", "", path.read_text(), flags=re.MULTILINE)
    text = text.replace("needs: [authorize, plan", "needs: [authorize")
    text = text.replace("needs.plan.outputs.shard-list", f"'[{failed}]'")
    path.write_text(text.replace("needs.plan.outputs.backup-id", f"'{backup_id}'"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_shard_that_failed_is_run_again_alone_and_no_document_is_copied_twice(
    act: Act, world: World, api: str, spaces: dict[str, Space]
) -> None:
    world.run_id = 7005
    night(world)
    production = spaces["production"]
    production.fill("shards")
    for number in range(5, 12):
        production.s3.client().put_object(Bucket=production.documents, Key=f"b/{number}.txt", Body=b"%d" % number)
    copied: list[str] = []
    denied: list[str] = []
    one_by_one = Lock()

    def fault(method: str, path: str) -> str:
        """In attempt 1 the last document may not be copied, whichever shard has it; the shard's others are by then."""
        if method != "PUT" or not path.startswith(f"/{production.backups}/all/production/documents/"):
            return ""
        with one_by_one:
            if len(copied) == 11 and not denied:
                denied.append(path)
            if denied[-1:] == [path]:
                return "403"
            copied.append(path)
        return ""

    act.workflow("shards.yml", in_shards().partition("  restore-staging:")[0])
    with S3Front(production.s3.port, fault) as front:
        given = {
            name: value.replace(production.s3.endpoint, front.endpoint)
            for name, value in production.secrets("PRODUCTION_").items()
        }
        first = act.run("shards.yml", event="schedule", api=api, secrets=given, actor="bob", run_id=7005)
        assert not first.passed, first.log()
        # act calls every shard failed that ends after one that did: the summaries tell which it was.
        done = {number for number in "1234" if f"Shard {number} of 4 is copied" in first.summary("Documents of")}
        (failed,) = set("1234") - done
        assert "Back up production" not in results(first), "no last job, no backup"
        made = first.outputs("Dump and plan")["backup-id"]
        assert f"all/production/catalog/{made}.json" not in production.stored()

        assert len(set(copied)) == 11
        denied.append("nothing more")
        rerun_of_shards(act, failed, made)
        world.attempt(2, event="schedule", actor="bob", triggering_actor="carol")
        again = act.run(
            "shards.yml", event="schedule", api=api, secrets=given, actor="bob", triggering_actor="carol", run_id=7005,
            attempt=2,
        )  # fmt: skip
    assert again.passed, again.log()
    assert len(results(again)) == 2, "the shard that failed and the last job"
    assert again.outputs("work")["backup-id"] == made
    assert f"all/production/catalog/{made}.json" in production.stored()
    assert copied[11:] == denied[:1], "attempt 2 copies the one document that was lacking"
    production.fill("production")


NO_SHARDS = """\
name: In no shards
on: {schedule: [{cron: "17 4 * * *"}]}
permissions: {}
jobs:
  backup-production:
    permissions: {actions: read, contents: read}
    uses: fac/backup-actions/.github/workflows/backup.yml@v1
    with: {space: production, kind: daily, shards: 0}
    secrets: inherit
  restore-staging:
    permissions: {actions: read, contents: read}
    uses: fac/backup-actions/.github/workflows/restore.yml@v1
    with: {source: production, target: staging, backup-id: production_20261122T201653Z_daily, shards: 0}
    secrets: inherit
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_shards_at_all_are_refused_and_not_a_green_run_in_which_nothing_was_done(
    act: Act, world: World, api: str, spaces: dict[str, Space]
) -> None:
    world.run_id = 7004
    night(world)
    before = spaces["production"].stored()
    act.workflow("none.yml", NO_SHARDS)
    secrets = spaces["production"].secrets()
    ran = act.run("none.yml", event="schedule", api=api, secrets=secrets, actor="bob", run_id=7004)
    assert not ran.passed, ran.log()
    for job in ("Back up production", "Restore staging"):
        assert results(ran)[job] == "failure"
        assert "exit-code-2" in ran.summary(job)
        assert "0 is not in the range x>=1" in ran.log(job)
    assert spaces["production"].stored() == before
