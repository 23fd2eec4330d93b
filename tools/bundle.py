"""Build the program with its locked dependencies as one file for one Python version: what a task in a container runs.

    python tools/bundle.py --python 3.12 --output dist          (makes dist/fac-backup-1.0.0-cp312.pyz and its .sha256)
    python -ISB dist/fac-backup-1.0.0-cp312.pyz backup --help

Linux x86-64, glibc 2.28 or newer (cflinuxfs4 has 2.35). Wheels come from ``requirements.lock``, by hash; compiled
ones are chosen by their tags, whichever Python builds. The same inputs give the same bytes: entries are sorted, times
are fixed. Compiled modules cannot be imported from inside a zip file, so the bundle unpacks itself once into a folder
of its own and runs from there. Run it with
``-I -S``: then neither PYTHONPATH nor the application's packages are seen.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "any")
SERVICES = ("s3", "sts", "sso", "sso-oidc", "signin")
"""What boto3 needs here; the descriptions of AWS's other services are nine tenths of botocore."""
_UNUSED = re.compile(
    r"(^|/)(tests?|__pycache__)/|\.(pyi|pyx|pxd|c|h|md|rst|pyc)$|\.dist-info/(RECORD|INSTALLER|REQUESTED)$"
)

MAIN = '''\
"""Unpack the bundle once, into a folder that only we can write, and run fac-backup from there."""
import os, stat, sys, tempfile, zipfile
from pathlib import Path

DIGEST = "@DIGEST@"
PYTHON = (@PYTHON@)


def unpacked():
    folder = Path(tempfile.gettempdir(), f"fac-backup-{os.geteuid()}-{DIGEST[:24]}")
    if folder.is_symlink() or not folder.is_dir():
        fresh = Path(tempfile.mkdtemp(prefix="fac-backup-", dir=folder.parent))
        with zipfile.ZipFile(sys.argv[0]) as bundle:
            for name in bundle.namelist():
                if name.startswith("site/"):
                    bundle.extract(name, fresh)
        try:
            fresh.rename(folder)
        except OSError:  # another process was faster, or something of that name is there
            if folder.is_symlink() or not folder.is_dir():
                return fresh
    about = folder.stat()
    if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o022:
        sys.exit(f"{folder} is not ours alone: remove it, or set TMPDIR to a private folder")
    return folder


def main():
    if sys.version_info[:2] != PYTHON:
        sys.exit("This bundle is for Python %d.%d; this is %d.%d" % (*PYTHON, *sys.version_info[:2]))
    sys.path.insert(0, str(unpacked() / "site"))
    from fac_backup.cli.main import cli

    def run(arguments):
        try:
            cli.main(args=arguments, prog_name="fac-backup", standalone_mode=True)
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        return 0

    if sys.argv[1:2] == ["task"]:
        from fac_backup.hosting.cloudfoundry.entry import run_order

        sys.exit(run_order(sys.argv[2], run, os.environ))
    sys.exit(run(sys.argv[1:]))


main()
'''


def wheels(python: str, lock: Path, folder: Path) -> list[Path]:
    """Download the locked wheels for ``python`` into ``folder``, checked by their hashes."""
    tag = "cp" + python.replace(".", "")
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
         "--require-hashes", "--only-binary=:all:", "--requirement", lock, "--dest", folder, "--python-version", python,
         "--implementation", "cp", "--abi", tag, "--abi", "abi3", "--abi", "none", *platforms],
        check=True,
    )  # fmt: skip
    return sorted(folder.glob("*.whl"))


def entries(found: list[Path], package: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of everything below ``site/``: the wheels' contents, and our own package."""
    for wheel in found:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if not name.endswith("/") and _wanted(name):
                    yield re.sub(r"^[^/]+\.data/(purelib|platlib)/", "", name), archive.read(name)
    for path in package.rglob("*"):
        name = path.relative_to(package.parent).as_posix()
        if path.is_file() and _wanted(name):
            yield name, path.read_bytes()


def _wanted(name: str) -> bool:
    if name.startswith("botocore/data/") and name.count("/") > 2:
        return name.split("/")[2] in SERVICES
    return not _UNUSED.search(name) and not re.match(r"[^/]+\.data/(scripts|headers|data)/", name)


def write(contents: dict[str, bytes], python: str, target: Path) -> str:
    """Write the bundle; its SHA-256."""
    digest = hashlib.sha256()
    for name in sorted(contents):
        digest.update(name.encode() + b"\0" + hashlib.sha256(contents[name]).digest())
    main = MAIN.replace("@DIGEST@", digest.hexdigest()).replace("@PYTHON@", python.replace(".", ", "))
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as bundle:
        for name, data in [("__main__.py", main.encode()), *((f"site/{n}", contents[n]) for n in sorted(contents))]:
            about = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            about.external_attr = 0o644 << 16
            about.compress_type = zipfile.ZIP_DEFLATED
            about.create_system = 3
            bundle.writestr(about, data)
    return hashlib.sha256(target.read_bytes()).hexdigest()


def build(python: str, output: Path, lock: Path = ROOT / "requirements.lock") -> Path:
    """Build the bundle of one Python version into ``output``; its path. The SHA-256 lies beside it."""
    version = re.search(r'__version__ = "([^"]+)"', (ROOT / "lib/fac_backup/__init__.py").read_text())
    if version is None:
        raise SystemExit("lib/fac_backup/__init__.py names no version")
    target = output / f"fac-backup-{version[1]}-cp{python.replace('.', '')}.pyz"
    with tempfile.TemporaryDirectory() as folder:
        contents = dict(entries(wheels(python, lock, Path(folder)), ROOT / "lib/fac_backup"))
    digest = write(contents, python, target)
    target.with_suffix(".pyz.sha256").write_text(f"{digest}  {target.name}\n")
    return target


def main() -> None:
    """Build what was asked for, and say what was made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", choices=PYTHONS, help="may be repeated; default: all")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    chosen = parser.parse_args()
    for python in chosen.python or PYTHONS:
        path = build(python, chosen.output)
        digest = path.with_suffix(".pyz.sha256").read_text().split()[0]
        print(json.dumps({"bundle": str(path), "sha256": digest, "bytes": path.stat().st_size}))


if __name__ == "__main__":
    main()
