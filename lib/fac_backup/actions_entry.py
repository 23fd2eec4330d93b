"""The actions' entry point: always "inside Actions", whatever ``GITHUB_ACTIONS`` says, and secrets are masked first."""

from __future__ import annotations

import os

from fac_backup.hosting.github import commands


def main() -> None:
    """Mask what must not show, put the database's URL where the rest looks for it, run what ``sys.argv[1]`` names."""
    commands.mask(commands.secrets_in(os.environ))
    url = os.environ.pop("FAC_BACKUP_DATABASE_URL", "")
    if url:
        os.environ["DATABASE_URL"] = url
    from fac_backup.cli.main import main as command_line

    command_line(inside_actions=True)


if __name__ == "__main__":
    main()
