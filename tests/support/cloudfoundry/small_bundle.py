"""A bundle of a few lines for tests: the real entry of the package, and an operation that does as it is told."""

from __future__ import annotations

import sys
import sysconfig
import zipfile
from pathlib import Path

_MAIN = """\
import json, os, sys, time
sys.path[:0] = {paths!r}
from fac_backup.hosting.cloudfoundry.entry import run_order

def operation(arguments):
    name, *rest = arguments
    print("working on", name, file=sys.stderr)
    if "--lines" in rest:
        for number in range(int(rest[rest.index("--lines") + 1])):
            print(f"line {{number}}", file=sys.stderr)
    if "--sleep" in rest:
        time.sleep(float(rest[rest.index("--sleep") + 1]))
    if "--crash" in rest:
        os._exit(139)
    if "--command" in rest:
        print("::error::forged ##[error]forged", file=sys.stderr)
    if "--read" in rest:
        from fac_backup.hosting.cloudfoundry.handover import opened
        from fac_backup.hosting.vcap import Services
        bucket = Services.from_env(os.environ).bucket("backups")
        source = opened(bucket, os.environ["FAC_BACKUP_SOURCE_INDEX"])
        got = {{found.key: source.get(found.key).decode() for found in source.list()}}
    else:
        got = {{}}
    services = json.loads(os.environ.get("VCAP_SERVICES") or open(os.environ["VCAP_SERVICES_FILE_PATH"]).read())
    print(json.dumps({{
        "operation": name, "got": got, "files": sorted(os.listdir(".")), "isolated": sys.flags.isolated,
        "bound": sorted(entry["name"] for group in services.values() for entry in group),
        "said": os.environ.get("FAC_BACKUP_NOTE"),
    }}))
    return int(rest[rest.index("--exit") + 1]) if "--exit" in rest else 0

assert sys.argv[1] == "task"
sys.exit(run_order(sys.argv[2], operation, os.environ))
"""


_CLI = """\
import os, sys
sys.path[:0] = {paths!r}
from fac_backup.cli.main import cli
from fac_backup.hosting.cloudfoundry.entry import run_order

def run(arguments):
    try:
        cli.main(args=arguments, prog_name="fac-backup", standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0

sys.exit(run_order(sys.argv[2], run, os.environ))
"""


def write(folder: Path, *, real: bool = False) -> Path:
    """The bundle, for the Python that runs the tests; ``real``: with the program's own commands."""
    lib = Path(__file__).resolve().parents[3] / "lib"
    path = folder / f"fac-backup-0-cp{sys.version_info[0]}{sys.version_info[1]}.pyz"
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr(
            "__main__.py", (_CLI if real else _MAIN).format(paths=[str(lib), sysconfig.get_path("purelib")])
        )
    return path
