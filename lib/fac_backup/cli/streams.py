"""Standard output and standard error: either may be closed or full by the time a command ends (``| head``, ``>file``).

What an operation has done is done then: nothing that cannot be printed may change how it ends.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

import click


def say(text: str, *, err: bool = False) -> OSError | None:
    """Print a line; why that was not possible, if it was not. Then whatever else is printed there is dropped."""
    try:
        click.echo(text, err=err)
    except OSError as error:
        _drop(sys.stderr if err else sys.stdout)
        return error
    return None


def flush() -> None:
    """Write out what is buffered, or drop it: else the interpreter tries at its exit, complains, and ends with 120."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:  # closed before the program began
            continue
        try:
            stream.flush()
        except OSError:
            _drop(stream)
        except ValueError:
            pass  # closed


def _drop(stream: TextIO) -> None:
    """Let it lead nowhere, as Python's documentation of SIGPIPE advises."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
