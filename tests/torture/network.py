"""Random faults between a command and its servers: a bad day at S3, and connections that break anywhere.

Each attempt runs one command with one kind of fault: answers of S3 that are wrong (500, 503 SlowDown, half a body, an
answer that never comes, a stale list) once, three times on end, now and then, or from some moment on for good; or a TCP
connection, to S3 or to PostgreSQL, that is reset, closed, cut in the middle or stalled after so many bytes. Then:

- a success is right: the target is the backup, the backup restores, the purge took what the rules say;
- a failure is one line with its exit code, no traceback, and the target is as before; exit code 7 is for faults that do
  not end only;
- the next run, with nothing in its way, succeeds and leaves nothing behind.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.faults import S3_FAULTS, S3Front, TcpProxy, once_after
from tests.support.space import Done, Space

from .kills import RESUME, mend
from .table import Row, require
from .world import World

OPERATIONS = ("backup", "restore beside", "restore in place", "purge", "verify")
TURNS = (
    "backup", "restore beside", "purge", "restore in place", "verify",
    "backup", "restore in place", "purge", "restore beside", "verify",
)  # fmt: skip
"""Every second restore goes from ``a`` back to ``b``, so that the next attempt finds the target as it needs it."""
BREAKS = ("reset", "close", "truncate", "stall")


@dataclass
class Size:
    """What one run of an operation does without any fault: requests to S3, bytes to and from each server."""

    requests: int = 0
    s3: int = 0
    postgres: int = 0


@dataclass
class Weather:
    """The faults of one attempt."""

    words: str
    forever: bool = False
    """Whether they go on until the command has given up."""
    env: dict[str, str] = field(default_factory=dict)
    struck: Callable[[], int] = lambda: 0


def arguments_of(world: World, operation: str, new: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """The command of an operation, and what it needs in its environment besides."""
    if operation == "backup":
        return ("backup", "--space", "dev", "--kind", "daily", "--json"), {}
    if operation == "purge":
        return ("purge", "--space", "dev", "--json"), {}
    if operation == "verify":
        return ("verify", "--space", "dev", "--backup-id", world.ids[new], "--level", "restore", "--json"), {}
    env = {} if operation == "restore beside" else {"FAC_BACKUP_MATRIX": str(in_place_matrix(world))}
    return ("restore", "--source", "dev", "--target", "dev", "--backup-id", world.ids[new], "--confirm", "dev",
            "--json"), env  # fmt: skip


def in_place_matrix(world: World) -> Path:
    """The world's matrix, but for how databases are replaced."""
    path = world.matrix.with_suffix(".in-place.yml")
    path.write_text(world.matrix.read_text().replace("  dev: {", "  dev: {replace: in-place, "))
    return path


def through(world: Space, port: int) -> str:
    """The database's address by way of another port."""
    parts = urlsplit(world.url)
    return world.url.replace(f":{parts.port}/", f":{port}/")


def weather_of(rng: random.Random, world: World, size: Size, stack: ExitStack) -> Weather:
    """Choose the faults of one attempt and set up what makes them."""
    where = rng.choice(("s3", "s3", "s3", "tcp s3", "tcp postgres", "tcp postgres"))
    if where == "s3":
        return _bad_answers(rng, world, size, stack)
    if where == "tcp s3":
        proxy = stack.enter_context(TcpProxy(world.s3.port, once_after(rng, max(1, size.s3), BREAKS)))
        env = {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{proxy.port}"}
    else:
        proxy = stack.enter_context(TcpProxy(world.pg.port, once_after(rng, max(1, size.postgres), BREAKS)))
        env = {"DATABASE_URL": through(world, proxy.port)}
    return Weather(where, env=env, struck=lambda: len(proxy.done))


def _bad_answers(rng: random.Random, world: World, size: Size, stack: ExitStack) -> Weather:
    kind = rng.choice(S3_FAULTS)
    how = rng.choice(("once", "once", "three times", "now and then", "now and then", "for good"))
    if how == "for good" and rng.random() < 0.5:
        how = "once"  # the slowest: a command takes its time to give up
    first, count, dice = rng.randrange(max(1, size.requests)), 0, random.Random(rng.random())

    def fault(_method: str, _path: str) -> str:
        nonlocal count
        count += 1
        strikes = {
            "once": count == first + 1,
            "three times": first < count <= first + 3,
            "now and then": dice.random() < 0.04,
            "for good": count > first,
        }[how]
        return kind if strikes else ""

    front = stack.enter_context(S3Front(world.s3.port, fault))
    return Weather(
        f"s3 {kind} {how}", forever=how == "for good", env={"AWS_ENDPOINT_URL_S3": front.endpoint},
        struck=lambda: len(front.done),
    )  # fmt: skip


def measure(world: World, operation: str) -> Size:
    """How much an operation does."""
    size = Size()

    def counted(name: str) -> Callable[[int, int], str]:
        def count(_connection: int, length: int) -> str:
            setattr(size, name, getattr(size, name) + length)
            return ""

        return count

    def see(_method: str, _path: str) -> str:
        size.requests += 1
        return ""

    with (
        world.fresh_store(),
        S3Front(world.s3.port, see) as front,
        TcpProxy(int(front.endpoint.rpartition(":")[2]), counted("s3")) as s3,
        TcpProxy(world.pg.port, counted("postgres")) as postgres,
    ):
        new = "a" if world.now == "b" else "b"
        arguments, env = arguments_of(world, operation, new)
        env |= {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{s3.port}", "DATABASE_URL": through(world, postgres.port)}
        done = world.run(*arguments, env=env)
        require(done.code == 0, f"{operation} fails without any fault: {done.last}")
        if operation.startswith("restore"):
            world.now = new
    return size


def attempt(world: World, row: Row, sizes: Mapping[str, Size], rng: random.Random, number: int) -> None:
    """One command in one weather."""
    operation = TURNS[number % len(TURNS)]
    old, new = ("a", "b") if number % 5 in (2, 3) else ("b", "a")
    with world.fresh_store():
        world.bring_to(old)
        arguments, env = arguments_of(world, operation, new)
        with ExitStack() as stack:
            weather = weather_of(rng, world, sizes[operation], stack)
            if operation.startswith("restore"):
                world.now = ""
            done = world.run(*arguments, env={**env, **weather.env}, timeout=400)
            struck = weather.struck()
        row.counts["that struck"] += bool(struck)
        row.counts["successes all the same"] += bool(struck) and done.code == 0
        row.counts["put to exit code 7"] += done.code == 7
        said = f"{operation}, {weather.words}"
        require(done.code != -99, f"{said}: it hangs")
        require("Traceback" not in done.err and "Unexpected" not in done.err, f"{said}: a traceback ({done.last})")
        require(done.code in ((0, 1, 6, 7) if operation.startswith("restore") else (0, 1, 6)),
                f"{said}: exit code {done.code}: {done.last}")  # fmt: skip
        require(done.code == 0 or done.last.startswith("fac-backup: "), f"{said}: not one line: {done.last}")
        require(bool(struck) or done.code == 0, f"{said}: nothing struck, and it failed: {done.last}")
        if weather.forever or done.code:
            world.break_locks()
        if operation.startswith("restore"):
            _check_restore(world, weather, done, said, old, new, env)
        else:
            _check_other(world, operation, new, done, said)
        world.require_nothing_left()
        world.require_committed_are_whole()


def _check_restore(
    world: World, weather: Weather, done: Done, said: str, old: str, new: str, env: Mapping[str, str]
) -> None:
    here = world.look()
    if done.code == 0:
        require(here == world.states[new], f"{said}: a wrong success")
    elif done.code == 7:
        require(weather.forever, f"{said}: exit code 7 after a fault that ended: {done.last}")
        again = world.run(*RESUME, env=env)
        if again.code == 4:  # it was put back, and only the last answer about that never came
            require(here == world.states[old], f"{said}: there is nothing to resume, and the target is not as before")
        else:
            require(again.code == 0, f"{said}: --resume fails: {again.last}")
            require(world.look() == world.states[new], f"{said}: --resume did not finish it")
    else:
        require(here == world.states[old], f"{said}: it failed, and the target is not as before: {done.last}")
    world.now = old if done.code not in (0, 7) else new
    arguments, _ = arguments_of(world, "restore beside", new)
    following = world.run(*arguments, env=env)
    require(following.code == 0, f"{said}: the next run fails: {following.last}")
    world.now = new
    require(world.look() == world.states[new], f"{said}: the next run is a wrong success")


def _check_other(world: World, operation: str, new: str, done: Done, said: str) -> None:
    if operation == "backup":
        if done.code == 0:
            world.require_right(str(done.json["backup_id"]), said)
        following = world.run("backup", "--space", "dev", "--kind", "daily", "--json")
        require(following.code == 0, f"{said}: the next backup fails: {following.last}")
        world.require_right(str(following.json["backup_id"]), said)
    elif operation == "purge":
        following = world.run("purge", "--space", "dev", "--json")
        require(following.code == 0, f"{said}: the next purge fails: {following.last}")
    elif done.code:
        following = world.run(*arguments_of(world, operation, new)[0])
        require(following.code == 0, f"{said}: the next rehearsal fails: {following.last}")


def run(row: Row, world: World, numbers: list[int]) -> None:
    """Attempts with the operations in turn."""
    world.make_states()
    sizes = {operation: measure(world, operation) for operation in OPERATIONS}
    for number in numbers:
        if not row.attempt(number, lambda rng, n=number: attempt(world, row, sizes, rng, n)):  # type: ignore[misc]
            mend(world)
