"""A terminal of so many columns: runs a program on a pseudo-terminal, and knows what a person sees at its end.

It knows what progress bars use (carriage return, cursor up, erase line, colours, hidden cursor) and fails at the rest.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROWS = 40
_CONTROL = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])|([\r\n])|\x1b")


@dataclass(frozen=True)
class Seen:
    """What a program showed."""

    code: int
    columns: int
    raw: str
    """Everything it wrote."""

    @property
    def words(self) -> str:
        """Everything without control sequences, also what was erased later."""
        return _CONTROL.sub(lambda found: found[4] or "", self.raw)

    def screen(self) -> list[str]:
        """What stands on the terminal at the end, without blanks on the right. Fails if the cursor stays hidden."""
        rows, row, column, hidden, end = [""], 0, 0, False, 0
        for found in _CONTROL.finditer(self.raw + "\r"):
            for char in self.raw[end : found.start()]:
                if column == self.columns:
                    row, column = row + 1, 0
                    rows += [""] * (row + 1 - len(rows))
                rows[row] = rows[row][:column].ljust(column) + char + rows[row][column + 1 :]
                column += 1
            end = found.end()
            private, number, letter, plain = found.groups()
            if plain == "\r":
                column = 0
            elif plain == "\n":
                row += 1
                rows += [""] * (row + 1 - len(rows))
            elif private and number == "25" and letter in "hl":
                hidden = letter == "l"
            elif letter == "A":
                row = max(0, row - int(number or 1))
            elif letter == "K" and number == "2":
                rows[row] = ""
            else:
                assert letter == "m", f"an unknown control sequence: {found[0]!r}"
        assert not hidden, "the cursor stays hidden"
        return [text.rstrip() for text in rows]


def seen(command: Sequence[str], env: Mapping[str, str], *, columns: int = 80, cwd: Path | None = None) -> Seen:
    """Run a program on a terminal of its own, and wait for its end."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    env = {"TERM": "xterm-256color", **env}
    with subprocess.Popen(
        command, env=env, cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        parts = []
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux says so when the last program of the terminal has ended
                break
            if not part:
                break
            parts.append(part)
        os.close(ours)
        code = process.wait()
    return Seen(code, columns, b"".join(parts).decode(errors="replace"))
