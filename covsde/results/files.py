"""Writing files so that an interrupted run never leaves half of one behind."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, moved onto `path` on success and removed on failure.

    Args:
        path: The file to write; an existing file is replaced only once the new one is complete.

    Yields:
        A path in the same directory (so the move is atomic) with the same suffix (so writers that choose
        their format by suffix still do).

    Raises:
        FileNotFoundError: If the directory does not exist.
        IsADirectoryError: If `path` is a directory.
        PermissionError: If the directory is not writable.
    """
    target = Path(path)
    directory = target.parent
    if not directory.is_dir():
        raise FileNotFoundError(f"path: the directory {str(directory)!r} does not exist; create it first.")
    if target.is_dir():
        raise IsADirectoryError(f"path: {str(target)!r} is a directory; give the name of a file in it.")
    if not os.access(directory, os.W_OK):
        raise PermissionError(f"path: the directory {str(directory)!r} is not writable; choose another one.")
    # Named here rather than by `tempfile`, which would leave the result readable by its owner only.
    temporary = directory / f".{target.stem}.{os.getpid()}-{secrets.token_hex(4)}{target.suffix}"
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
