"""``fac-backup``: the group of commands. Each command's module is imported only when it is used."""

from __future__ import annotations

import gc
import sys
from importlib import import_module

import click

from fac_backup import __version__
from fac_backup.plain.words import did_you_mean

COMMANDS: dict[str, tuple[str, str]] = {
    "backup": ("backup", "Back up the database and the documents of a space."),
    "restore": ("restore", "Replace a space's database and documents by a backup."),
    "purge": ("purge", "Remove the backups that the retention rules let go."),
    "list": ("list_", "Show the backups of a space and where they can be restored to."),
    "verify": ("verify", "Prove that a backup is whole, or rehearse its restore."),
    "authorize": ("authorize", "Decide whether this run may do an operation, and show every check."),
    "adopt": ("adopt", "Mark this database and these buckets as a space's."),
    "hold": ("hold", "Keep a backup whatever the retention rules say."),
    "unlock": ("unlock", "Show who holds the locks of a store, and break one."),
    "doctor": ("doctor", "Check the settings that guard the backups, and say what is missing."),
    "sweep": ("sweep", "Remove what a killed run left behind."),
    "import": ("import_", "Take an archive of django-dbbackup into the catalog."),
    "export": ("export", "Write a backup as archives that django-dbbackup can read."),
}


class Group(click.Group):
    """Commands by name, imported when used; an unknown one names the nearest."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - Click's signature
        """In the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command's module and return it."""
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command: click.Command = import_module(f"fac_backup.cli.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Names and sentences, without importing a single command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """An unknown command names the nearest."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"There is no command {args[0][:40]!r}{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


EPILOG = """\b
First steps:
  fac-backup list --space production                (what there is; every command has --help with examples)
  fac-backup restore --source production --target staging --backup-id ID --confirm staging --dry-run
\b
Completion of commands, options, spaces, kinds and backup ids, in ~/.bashrc or ~/.zshrc:
  eval "$(_FAC_BACKUP_COMPLETE=bash_source fac-backup)"       (zsh: zsh_source; fish: fish_source)
"""


@click.group(
    cls=Group, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="fac-backup")
def cli() -> None:
    """Back up, restore and purge a Django application's PostgreSQL database and S3 documents.

    \b
    Exit codes: 0 done · 1 failed, target as before · 2 wrong usage or invalid matrix · 3 refused by policy ·
    4 no such backup · 5 integrity check failed · 6 store is locked · 7 failed after the target was touched: act now
    """


def main(*, inside_actions: bool = False) -> None:
    """Run the command line. ``inside_actions``: the actions' entry point, whatever ``GITHUB_ACTIONS`` says."""
    # 700 new objects between two looks for cycles, as is usual, cost 0.05 s at the start alone, and find next to none.
    gc.set_threshold(50_000)
    arguments = sys.argv[1:]
    try:
        code = cli.main(arguments, "fac-backup", standalone_mode=False, obj={"inside_actions": inside_actions})
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        from fac_backup.cli.common import wrong_usage

        code = wrong_usage(error, arguments, inside_actions=inside_actions)
    except click.Abort:
        code = 1
    from fac_backup.cli.streams import flush

    flush()
    # Nothing is left to do: else the interpreter looks once more for cycles among all that was imported, 0.1 to 0.2 s.
    gc.freeze()
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
