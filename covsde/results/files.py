"""Writing files so that an interrupted run never leaves half of one behind, and files of one run change together."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def checked_path(name: str, path: Any, example: str) -> Path:
    """`path` as a Path.

    Args:
        name: the argument.
        path: what was passed for it.
        example: of a good one.

    Raises:
        ValueError: for what names no file.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str) or text == "" or "\0" in text:
        raise ValueError(f"{name} must be the name of a file, such as {example!r}, got {path!r}.")
    longest = max((part for part in Path(text).parts), key=lambda part: len(os.fsencode(part)), default="")
    if len(os.fsencode(longest)) > 255:
        raise ValueError(f"{name} has a part of {len(os.fsencode(longest))} bytes, {longest[:20]}…: use at most 255.")
    return Path(text)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, moved onto `path` on success and removed on failure.

    Args:
        path: The file to write; an existing file is replaced only once the new one is complete.

    Yields:
        A path in the same directory (so the move is atomic) with the same suffix (so writers that choose
        their format by suffix still do).

    Raises:
        ValueError: If `path` names no file.
        FileNotFoundError: If the directory does not exist.
        IsADirectoryError: If `path` is a directory.
        PermissionError: If the directory is not writable.
    """
    target = checked_path("path", path, "run.npz")
    directory = target.parent
    if not directory.is_dir():
        raise FileNotFoundError(f"path: the directory {str(directory)!r} does not exist; create it first.")
    if target.is_dir():
        raise IsADirectoryError(f"path: {str(target)!r} is a directory; give the name of a file in it.")
    if not os.access(directory, os.W_OK):
        raise PermissionError(f"path: the directory {str(directory)!r} is not writable; choose another one.")
    # Named here rather than by `tempfile`, which would leave the result readable by its owner only.
    stem = target.stem if len(os.fsencode(target.name)) <= 200 else "covsde"  # a name has 255 bytes
    temporary = directory / f".{stem}.{os.getpid()}-{secrets.token_hex(4)}{target.suffix}"
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def together(directory: Path) -> Iterator[Path]:
    """Yield a folder for new files, which then replace those of the same names in `directory`: all of them or none.

    Whatever fails while they are written, or while they are moved, the files in `directory` are those of before.

    Args:
        directory: where they go.

    Yields:
        An empty folder in it.
    """
    staging = directory / f".covsde-{os.getpid()}-{secrets.token_hex(4)}"
    old = staging / "old"
    old.mkdir(parents=True)
    try:
        yield staging
        names = sorted(path.name for path in staging.iterdir() if path != old)
        moved: list[str] = []
        try:
            for name in names:
                if (directory / name).exists():
                    os.replace(directory / name, old / name)
                moved.append(name)
                os.replace(staging / name, directory / name)
        except BaseException:
            for name in moved:
                with suppress(FileNotFoundError):
                    (directory / name).unlink()
                if (old / name).exists():
                    os.replace(old / name, directory / name)
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
