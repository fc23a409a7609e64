"""The command `covsde` while it is imported: Ctrl-C ends it with a sentence and exit code 130, as it does later."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def is_command(arguments: Sequence[str]) -> bool:
    """Whether a process with these arguments, the interpreter first, is the command."""
    given = list(arguments[1:])
    while given and given[0].startswith("-") and given[0] != "-m":
        # Options of the interpreter, two of which may have their value apart.
        given = given[2:] if given[0] in ("-W", "-X") else given[1:]
    if given[:1] == ["-m"]:
        return given[1:2] == ["covsde"]
    return bool(given) and Path(given[0]).stem == "covsde"


def _end(*_: Any) -> None:
    # Written and ended here: an exception could be lost in whatever is being imported.
    os.write(2, b"\ncovsde: interrupted: run the same command again.\n")
    os._exit(130)


if is_command(sys.orig_argv) and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, _end)
