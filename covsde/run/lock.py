"""A folder for one process at a time."""

import importlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Not on Windows, where a folder is not held.
_fcntl = importlib.import_module("fcntl") if importlib.util.find_spec("fcntl") else None

NAME = ".covsde-lock"


@contextmanager
def locked(folder: Path, refusal: str) -> Iterator[None]:
    """Hold a folder until the block or the process ends, however it ends.

    Args:
        folder: one that exists.
        refusal: what to say if another process holds it.

    Raises:
        ValueError: if one does.
    """
    if _fcntl is None:
        yield
        return
    path = folder / NAME
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            _fcntl.flock(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise ValueError(refusal) from error
        except OSError:  # a file system without locks
            break
        # The holder before may have removed the file between the two lines.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                break
        os.close(handle)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)
