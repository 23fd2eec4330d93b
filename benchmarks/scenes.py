"""The scenes: what is built, who runs beside whom in it, and the rows of the table that come of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from . import data
from .measure import Run, together
from .ours import Ours
from .peers import Peers
from .world import World

OURS = "fac-backup"
Contender = Callable[[], Run]


@dataclass(frozen=True)
class Row:
    """One line of the table: a series of ours beside a series of a peer, both from one scene."""

    measure: str
    scene: str
    peer: str
    bar: float | None = None
    of: str = "seconds"
    """``seconds``, ``bytes`` (uploaded: ours by that of the series ``peer``)."""
    ours: str = OURS


ROWS = (
    Row("first database backup", "first", "pg_dump -Fc into rclone rcat", 0.30),
    Row("first database backup", "first", "pg_dump -Fc -Z0 to /dev/null (reading alone)", 1.8),
    Row("first database backup", "first", "pg_dump -Fp into restic", 0.50),
    Row("first database backup", "first", "table after table into rclone rcat"),
    Row("first database backup", "first", "pg_dump -Fd -j2, then rclone copy"),
    Row("first database backup", "first", "django-dbbackup dbbackup"),
    Row("database backup, nothing changed", "unchanged", "pg_dump -Fc -Z0 to /dev/null (reading alone)", 1.1),
    Row("database backup, nothing changed", "unchanged", "pg_dump -Fp into restic", 0.60),
    Row("database backup, nothing changed, bytes uploaded", "unchanged", "its first backup", 0.01, of="bytes"),
    Row("database backup after 2 % of new rows, bytes uploaded", "two percent", "its first backup", 0.15, of="bytes"),
    Row("database backup after 2 % of new rows", "two percent", "pg_dump -Fp into restic"),
    Row("database restore", "restore", "rclone copy, then pg_restore -j2", 0.80),
    Row("database restore", "restore", "rclone cat into pg_restore --single-transaction", 0.90),
    Row("database restore", "restore", "django-dbbackup dbrestore", 0.60),
    Row("first snapshot of 20,000 documents", "documents", "s5cmd sync", 1.0),
    Row("first snapshot of 20,000 documents", "documents", "rclone sync"),
    Row("first snapshot of 2,000 documents", "few documents", "django-dbbackup mediabackup"),
    Row("snapshot of 20,000 documents, nothing changed", "documents again", "rclone sync"),
    Row("snapshot of 100,000 documents, nothing changed", "many documents", "s5cmd sync", 0.7),
    Row("seven daily backups, 1 % appended a day, stored bytes", "seven days", "one full backup", 1.25, of="bytes"),
)
"""The peaks of all series of ours make one more row (``table.rows``)."""


@dataclass
class Scene:
    """Contenders that run one after the other in each round. ``before`` is run once, ``each`` before every round."""

    name: str
    contenders: dict[str, Contender]
    before: Callable[[], object] = lambda: None
    each: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None
    rounds: int | None = None


@dataclass
class Stage:
    """Builds what scenes need, each thing once, when it is first needed."""

    world: World
    scale: float
    say: Callable[[str], None]
    stores: dict[str, str] = field(default_factory=dict)
    last: dict[str, Run] = field(default_factory=dict)
    database_bytes: int = 0
    _database: str = ""
    _growth: data.Growth | None = None

    def __post_init__(self) -> None:
        self.ours = Ours(self.world)
        self.peers = Peers(self.world)

    # things --------------------------------------------------------------------------------------------------------

    def count(self, at_one: int) -> int:
        """A number at this scale."""
        return max(10, round(at_one * self.scale))

    @property
    def database(self) -> str:
        """The database that is backed up."""
        if not self._database:
            self._database = self.world.postgres.create_database("bench")
            submissions = self.count(data.SUBMISSIONS)
            size = self.database_bytes = data.build_database(self._database, submissions)
            self._growth = data.Growth(self._database, submissions)
            self.say(f"database of {submissions:,} submissions: {size / 1e6:,.0f} MB")
        return self._database

    @property
    def growth(self) -> data.Growth:
        """What makes it grow."""
        assert self.database
        assert self._growth
        return self._growth

    def empty_database(self, name: str) -> str:
        """A new empty database, without its predecessor."""
        return self.world.postgres.create_database(name)

    def drop_database(self, name: str) -> None:
        """And its files."""
        self.world.postgres.execute("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def settle(self) -> None:
        """Let what was written before go to the disk, on nobody's account."""
        self.world.postgres.execute("postgres", "CHECKPOINT")
        os.sync()

    @property
    def tiny_database(self) -> str:
        """What is backed up beside documents: one table with one row."""
        url = self.world.postgres.create_database("tiny")
        self.world.postgres.execute("tiny", "CREATE TABLE one AS SELECT 1 AS n", "ALTER TABLE one OWNER TO tiny_owner")
        return url

    def documents(self, at_one: int, copies: int = 0) -> list[str]:
        """A bucket of documents, and as many copies of it."""
        count = self.count(at_one)
        buckets = [self.world.bucket(f"documents-{count}") for _ in range(copies + 1)]
        size = data.put_documents(self.world.s3, buckets, count)
        self.say(f"{count:,} documents, {size / 1e6:,.0f} MB, in {len(buckets)} buckets")
        return buckets

    def fresh(self, name: str) -> str:
        """An empty bucket in the place of the last one of this name."""
        if name in self.stores:
            self.world.drop(self.stores[name])
        self.stores[name] = self.world.bucket(re.sub("[^a-z0-9]+", "-", name))
        return self.stores[name]

    def keep(self, name: str, run: Run) -> Run:
        """Remember the last run of a contender."""
        self.last[name] = run
        return run

    # contenders that several scenes need ---------------------------------------------------------------------------

    def first(self) -> Run:
        """Ours into an empty store."""
        return self.keep("first", self.ours.backup(self.fresh("ours"), self.database))

    def first_restic(self) -> Run:
        """Restic into an empty repository."""
        self.peers.restic_init(self.fresh("restic"))
        return self.keep("first restic", self.peers.restic(self.database, self.stores["restic"]))

    def have(self, name: str, make: Callable[[], Run]) -> Run:
        """The last run of that name, made now if there was none."""
        return self.last[name] if name in self.last else make()

    def rcat(self) -> Run:
        """The archive as one object."""
        return self.keep("rcat", self.peers.rcat(self.database, self.fresh("rcat")))

    def dbbackup(self) -> Run:
        """The archive of django-dbbackup."""
        return self.keep("dbbackup", self.peers.dbbackup(self.database, self.fresh("dbbackup")))

    # scenes --------------------------------------------------------------------------------------------------------

    def scenes(self) -> list[Scene]:
        """All scenes in the order in which they build on each other."""
        return [
            self._first(), self._unchanged(), self._restore(), self._two_percent(), self._seven_days(),
            *self._documents_scenes(),
        ]  # fmt: skip

    def _first(self) -> Scene:
        contenders: dict[str, Contender] = {
            OURS: self.first,
            "pg_dump -Fc into rclone rcat": self.rcat,
            "pg_dump -Fc -Z0 to /dev/null (reading alone)": lambda: self.peers.reading(self.database),
            "pg_dump -Fp into restic": self.first_restic,
            "table after table into rclone rcat": lambda: self.peers.table_after_table(
                self.database, self.fresh("tables")
            ),
            "pg_dump -Fd -j2, then rclone copy": lambda: self.peers.directory(self.database, self.fresh("directory")),
            "django-dbbackup dbbackup": self.dbbackup,
        }
        return Scene("first", contenders, before=self._warm)

    def _warm(self) -> None:
        """Read everything once, so that nobody pays for the first reading."""
        self.peers.reading(self.database)

    def _unchanged(self) -> Scene:
        def before() -> None:
            self.have("first", self.first)

        def restic() -> Run:
            self.have("first restic", self.first_restic)
            return self.peers.restic(self.database, self.stores["restic"])

        return Scene(
            "unchanged",
            {
                OURS: lambda: self.ours.backup(self.stores["ours"], self.database),
                "pg_dump -Fc -Z0 to /dev/null (reading alone)": lambda: self.peers.reading(self.database),
                "pg_dump -Fp into restic": restic,
                "its first backup": lambda: self.last["first"],
            },
            before=before,
        )

    def _two_percent(self) -> Scene:
        def before() -> None:
            # What the scenes before left behind may be of another state: begin with one backup of this one.
            self.keep("grown first", self.first())

        def restic() -> Run:
            self.have("first restic", self.first_restic)
            return self.peers.restic(self.database, self.stores["restic"])

        return Scene(
            "two percent",
            {
                OURS: lambda: self.ours.backup(self.stores["ours"], self.database),
                "pg_dump -Fp into restic": restic,
                "its first backup": lambda: self.last["grown first"],
            },
            before=before,
            each=lambda: self.growth.append(0.02),
        )

    def _seven_days(self) -> Scene:
        days: list[Run] = []

        def one() -> Run:
            return days[0]

        def seven() -> Run:
            bucket = self.fresh("seven days")
            days.append(self.ours.backup(bucket, self.database))
            for _ in range(6):
                self.growth.append(0.01)
                days.append(self.ours.backup(bucket, self.database))
            stored = sum(size for size, _ in self.world.contents(bucket).values())
            return replace(together(days), bytes_uploaded=stored)

        return Scene("seven days", {OURS: seven, "one full backup": one}, rounds=1)

    def _restore(self) -> Scene:
        state: dict[str, str] = {}

        def before() -> None:
            run = self.have("first", self.first)
            state["id"] = self.ours.result(run)["backup_id"]
            state["source"] = str(data.fingerprint(self.database))
            state["target"] = self.empty_database("target_ours")
            self.ours.adopt(self.stores["ours"], state["target"])
            ours()  # not measured: from now on it replaces a database of this size, as every day

        def checked(url: str, run: Run) -> Run:
            if str(data.fingerprint(url)) != state["source"]:
                raise AssertionError("what was restored is not what was backed up")
            return run

        def ours() -> Run:
            self.settle()
            return checked(state["target"], self.ours.restore(self.stores["ours"], state["target"], state["id"]))

        def into_new(name: str, restore: Callable[[str], Run]) -> Run:
            """Into an empty database, which goes again: ours drops the one that it replaces too, so that each contender
            finds the same room on the disk."""
            url = self.empty_database(name)
            self.settle()
            try:
                return checked(url, restore(url))
            finally:
                self.drop_database(name)

        def copy() -> Run:
            self.have("rcat", self.rcat)
            return into_new("target_copy", lambda url: self.peers.copy_restore(url, self.stores["rcat"]))

        def cat() -> Run:
            self.have("rcat", self.rcat)
            return into_new("target_cat", lambda url: self.peers.cat_restore(url, self.stores["rcat"]))

        def dbrestore() -> Run:
            self.have("dbbackup", self.dbbackup)
            return into_new("target_dbrestore", lambda url: self.peers.dbrestore(url, self.stores["dbbackup"]))

        return Scene(
            "restore",
            {
                OURS: ours,
                "rclone copy, then pg_restore -j2": copy,
                "rclone cat into pg_restore --single-transaction": cat,
                "django-dbbackup dbrestore": dbrestore,
            },
            before=before,
            after=lambda: self.drop_database("target_ours"),
        )

    def _documents_scenes(self) -> list[Scene]:
        held: dict[str, str] = {}

        def twenty() -> str:
            if "20" not in held:
                held["20"] = self.documents(20_000)[0]
            held.setdefault("tiny", self.tiny_database)
            return held["20"]

        def snapshot() -> Run:
            bucket = self.fresh("documents-ours")
            return self.keep("documents ours", self.ours.backup(bucket, held["tiny"], twenty()))

        def rclone() -> Run:
            return self.keep("documents rclone", self.peers.rclone_sync(twenty(), self.fresh("documents-rclone")))

        def again() -> Run:
            self.have("documents ours", snapshot)
            return self.ours.backup(self.stores["documents-ours"], held["tiny"], twenty())

        def rclone_again() -> Run:
            self.have("documents rclone", rclone)
            return self.peers.rclone_sync(twenty(), self.stores["documents-rclone"])

        def few() -> None:
            held["2"] = self.documents(2_000)[0]
            held.setdefault("tiny", self.tiny_database)

        def many() -> None:
            held["100"], held["100 copy"] = self.documents(100_000, copies=1)
            held.setdefault("tiny", self.tiny_database)
            first = self.ours.backup(self.fresh("many-ours"), held["tiny"], held["100"])
            self.say(f"first snapshot of all of them: {first.seconds:.1f} s")

        return [
            Scene(
                "documents",
                {
                    OURS: snapshot,
                    "s5cmd sync": lambda: self.peers.s5cmd_sync(twenty(), self.fresh("documents-s5cmd")),
                    "rclone sync": rclone,
                },
                before=twenty,
            ),
            Scene(
                "documents again",
                {OURS: again, "rclone sync": rclone_again},
                before=twenty,
            ),
            Scene(
                "few documents",
                {
                    OURS: lambda: self.ours.backup(self.fresh("few-ours"), held["tiny"], held["2"]),
                    "django-dbbackup mediabackup": lambda: self.peers.mediabackup(
                        held["tiny"], held["2"], self.fresh("few-media")
                    ),
                },
                before=few,
            ),
            Scene(
                "many documents",
                {
                    OURS: lambda: self.ours.backup(self.stores["many-ours"], held["tiny"], held["100"]),
                    "s5cmd sync": lambda: self.peers.s5cmd_sync(held["100"], held["100 copy"]),
                },
                before=many,
            ),
        ]
