"""Folders of finished chunks, which only a run of the same settings can continue."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covsde.results.files import atomic_write

Arrays = dict[str, NDArray[Any]]


def _as_text(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, default=str)


def identity_of(settings: dict[str, Any]) -> str:
    """A digest of the settings of a run."""
    return hashlib.sha256(_as_text(settings).encode()).hexdigest()


def chunk_file(folder: Path, c: int) -> Path:
    """Where chunk c is kept."""
    return folder / f"chunk-{c:06d}.npz"


def stored_chunks(folder: Path, chunks: int, chunk: int, axes: Mapping[str, int]) -> dict[int, Arrays]:
    """The finished chunks of an interrupted run; a damaged one is computed again."""
    found = {}
    for c in range(chunks):
        try:
            # Opened here because np.load leaves a damaged file open.
            with chunk_file(folder, c).open("rb") as raw, np.load(raw, allow_pickle=False) as stored:
                part = {name: stored[name] for name in axes}
        except Exception:  # a damaged archive can fail in any way
            continue
        if all(x.ndim and x.shape[axes[name] % x.ndim] == chunk for name, x in part.items()):
            found[c] = part
    return found


def checkpoint_folder(folder: Path, fingerprint: dict[str, Any]) -> Path:
    """Make the folder, or refuse one that belongs to a run with other settings.

    Raises:
        ValueError: if it does, or cannot be a folder.
    """
    text, identity = _as_text(fingerprint), identity_of(fingerprint)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"checkpoint={str(folder)!r} cannot be made a folder: choose another path.") from error
    marker = folder / "run.json"
    if not marker.exists() and any(folder.glob("chunk-*.npz")):
        raise ValueError(
            f"checkpoint={str(folder)!r} holds parts of a run but not its settings, run.json: use a new folder."
        )
    if marker.exists():
        try:
            found = json.loads(marker.read_text()).get("identity")
        except (OSError, ValueError, AttributeError):
            found = None
        if found != identity:
            raise ValueError(
                f"checkpoint={str(folder)!r} belongs to a run with other settings: use a new folder or delete it."
            )
    else:
        with atomic_write(marker) as temporary:
            Path(temporary).write_text(json.dumps({"identity": identity, "settings": json.loads(text)}, indent=1))
    return folder
