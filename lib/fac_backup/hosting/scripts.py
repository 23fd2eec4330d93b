"""SQL files that lie beside the matrix on a disk: outside Actions, and with the library's own matrix."""

from __future__ import annotations

from pathlib import Path

from fac_backup.plain.errors import UsageError


def no_scripts(name: str) -> str:
    """Where no matrix is, no file lies beside it."""
    raise UsageError(f"There is no matrix, so {name} lies beside none")


def missing_script(name: str, where: str) -> UsageError:
    """That the matrix names a file which is not there."""
    return UsageError(
        f"The matrix names {name}, which is not in {where}",
        next_step="Put the file there, or take it out of the matrix.",
    )


def script_beside(folder: Path, where: str, name: str) -> str:
    """An SQL file of the folder that the matrix was read from. Raises UsageError."""
    try:
        return (folder / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise missing_script(name, where) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{name} cannot be read ({type(error).__name__})", next_step="It must be UTF-8 text."
        ) from None
