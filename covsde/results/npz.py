"""Results as `.npz` files: arrays, a format number and JSON metadata, no pickles."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covsde.results.files import atomic_write, checked_path


def save_npz(path: str | os.PathLike[str], arrays: Mapping[str, Any], metadata: dict[str, Any], version: int) -> None:
    """Write arrays and metadata; an existing file is replaced once the new one is complete."""
    if checked_path("path", path, "run.npz").suffix != ".npz":
        raise ValueError(f"path must end in '.npz', got {os.fspath(path)!r}.")
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, format=np.array(version), metadata=np.array(json.dumps(metadata)), **arrays)


def load_npz(
    path: str | os.PathLike[str],
    names: Sequence[str],
    version: int,
    writer: str,
    what: str,
    optional: Sequence[str] = (),
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read what `save_npz` wrote: the named arrays, the optional ones that are there, and the metadata."""
    name, remedy = os.fspath(checked_path("path", path, "run.npz")), f"give a file written by {writer}."
    if not Path(path).is_file():
        raise FileNotFoundError(f"path: there is no file {name!r}; {remedy}")
    try:
        # Opened here because np.load leaves a damaged file open.
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            content = {key: file[key] for key in file.files}
    except PermissionError:
        raise
    except Exception as e:  # a damaged archive can fail in any way, out of memory among them
        raise ValueError(f"path: {name!r} is damaged or not a .npz file; {remedy}") from e
    missing = {"format", "metadata", *names} - set(content)
    if missing:
        raise ValueError(f"path: {name!r} is not {what} (it lacks {', '.join(sorted(missing))}); {remedy}")
    _check_format(name, content["format"], version, remedy)
    found = [*names, *(key for key in optional if key in content)]
    return {key: content[key] for key in found}, _metadata(name, content["metadata"], remedy)


def _check_format(name: str, found: NDArray[Any], version: int, remedy: str) -> None:
    """Refuse a format that is none, or that is newer than this version."""
    if found.shape != () or found.dtype.kind not in "iu" or found < 1:
        raise ValueError(f"path: {name!r} has the format {found.tolist()!r}, which is none; {remedy}")
    if found > version:
        raise ValueError(f"path: {name!r} has format {found}, this version reads up to {version}; upgrade covsde.")


def _metadata(name: str, found: NDArray[Any], remedy: str) -> dict[str, Any]:
    """The metadata of a file, if they are a JSON object."""
    try:
        metadata = json.loads(str(found)) if found.shape == () and found.dtype.kind == "U" else None
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise ValueError(f"path: {name!r} is damaged: its metadata is no JSON object; {remedy}")
    return metadata


def as_json(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata as it will read back from a file, so that saving cannot fail after a long run."""

    def convert(x: Any) -> Any:
        if isinstance(x, np.generic | np.ndarray):
            return x.tolist()
        raise TypeError(f"{type(x).__name__}")

    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a dictionary such as {{'label': 'mine'}}, got {metadata!r}.")
    try:
        result: dict[str, Any] = json.loads(json.dumps(metadata, default=convert))
    except (TypeError, ValueError) as e:
        raise TypeError(f"metadata must be expressible as JSON ({e}); use str() on the offending value.") from e
    return result
