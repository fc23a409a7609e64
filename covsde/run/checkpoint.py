"""Folders of finished chunks, which only a run of the same settings can continue."""

import hashlib
import json
import os
import secrets
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covsde.results.files import atomic_write

Arrays = dict[str, NDArray[Any]]

_DIGEST = "digest"
_SETTINGS = "run.json"


class DamagedChunkWarning(UserWarning):
    """A finished chunk in a folder of checkpoints is not what the run wrote, and is computed again."""


def _as_text(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, default=str)


def identity_of(settings: dict[str, Any]) -> str:
    """A digest of the settings of a run."""
    return hashlib.sha256(_as_text(settings).encode()).hexdigest()


def chunk_file(folder: Path, c: int) -> Path:
    """Where chunk c is kept."""
    return folder / f"chunk-{c:06d}.npz"


def _digest(identity: str, c: int, part: Arrays) -> str:
    """Of the run, the number of the chunk and everything in it."""
    found = hashlib.sha256(f"{identity} {c}".encode())
    for name in sorted(part):
        array = np.ascontiguousarray(part[name])
        found.update(f"{name} {array.dtype.str} {array.shape}".encode())
        found.update(array.view(np.uint8).data if array.size else b"")
    return found.hexdigest()


def store_chunk(folder: Path, identity: str, c: int, part: Arrays) -> None:
    """Keep a finished chunk, with a digest by which it is known."""
    with atomic_write(chunk_file(folder, c)) as temporary:
        digest = np.array(_digest(identity, c, part))
        np.savez(temporary, allow_pickle=False, **part, **{_DIGEST: digest})


def stored_chunks(folder: Path, identity: str, chunks: int, names: Mapping[str, int]) -> dict[int, Arrays]:
    """The finished chunks of an interrupted run.

    Warns:
        DamagedChunkWarning: for each that is not what the run wrote, which is left out.
    """
    found = {}
    for c in range(chunks):
        path = chunk_file(folder, c)
        if not path.exists():
            continue
        try:
            # Opened here because np.load leaves a damaged file open.
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as stored:
                part = {name: stored[name] for name in names}
                whole = str(stored[_DIGEST]) == _digest(identity, c, part)
        except Exception:  # a damaged archive can fail in any way
            whole = False
        if whole:
            found[c] = part
        else:
            warnings.warn(
                f"checkpoint: {str(path)!r} is not what this run wrote: chunk {c} is computed again.",
                DamagedChunkWarning,
                stacklevel=5,
            )
    return found


def checkpoint_folder(folder: Path, fingerprint: dict[str, Any]) -> Path:
    """Make the folder, or refuse one that belongs to a run with other settings.

    Of several processes that do so at once, one makes it, and the others continue its run or are refused.

    Raises:
        ValueError: if it does, or cannot be a folder.
    """
    text, identity = _as_text(fingerprint), identity_of(fingerprint)
    where = f"checkpoint={_short(folder)!r}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        parts = any(folder.glob("chunk-*.npz"))
        made = _make(folder / _SETTINGS, json.dumps({"identity": identity, "settings": json.loads(text)}, indent=1))
    except OSError as error:
        reason = error.strerror or "not writable"
        raise ValueError(f"{where} cannot be made a folder ({reason}): choose another path.") from error
    if made and parts:
        (folder / _SETTINGS).unlink()
        raise ValueError(f"{where} holds parts of a run but not its settings, {_SETTINGS}: use a new folder.")
    if not made:
        found = run_in(folder)
        if found is None:
            raise ValueError(f"{where} holds a damaged {_SETTINGS}: delete the folder, or use a new one.")
        if found != identity:
            raise ValueError(f"{where} belongs to a run with other settings: use a new folder or delete it.")
    for path in folder.glob("chunk-*.npz"):
        if path.is_dir():
            raise ValueError(f"{where} holds a folder of the name {path.name}: use a new folder, or delete that.")
    return folder


def run_in(folder: Path) -> str | None:
    """The identity of the run whose checkpoints a folder holds; None if it does not say."""
    try:
        found = json.loads((folder / _SETTINGS).read_text()).get("identity")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def remove_checkpoints(folder: Path, identity: str, chunks: int) -> None:
    """Remove what a run has kept in a folder, and the folder if nothing else is in it."""
    if run_in(folder) != identity:
        return
    for c in range(chunks):
        path = chunk_file(folder, c)
        # A killed run may have left half a part, hidden.
        for file in (path, *folder.glob(f".{path.stem}.*-*.npz")):
            file.unlink(missing_ok=True)
    (folder / _SETTINGS).unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _make(path: Path, text: str) -> bool:
    """Make a file that there is not yet, whole from its first moment; whether there was none."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    try:
        temporary.write_text(text)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            try:
                with path.open("x") as file:
                    file.write(text)
            except FileExistsError:
                return False
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 80 else f"{text[:40]}…{text[-20:]}"
