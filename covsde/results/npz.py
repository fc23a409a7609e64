"""Results as `.npz` files: arrays, a format number and JSON metadata, no pickles."""

import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covsde.results.files import atomic_write


def save_npz(path: str | os.PathLike[str], arrays: Mapping[str, Any], metadata: dict[str, Any], version: int) -> None:
    """Write arrays and metadata; an existing file is replaced once the new one is complete."""
    if Path(path).suffix != ".npz":
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
    name = os.fspath(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f"path: there is no file {name!r}; give a file written by {writer}.")
    try:
        # Opened here because np.load leaves a damaged file open.
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            content = {key: file[key] for key in file.files}
    except (
        OSError,
        ValueError,
        EOFError,
        AttributeError,
        TypeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as e:
        raise ValueError(f"path: {name!r} is damaged or not a .npz file; give a file written by {writer}.") from e
    missing = {"format", "metadata", *names} - set(content)
    if missing:
        raise ValueError(
            f"path: {name!r} is not {what} (it lacks {', '.join(sorted(missing))}); give a file written by {writer}."
        )
    if int(content["format"]) > version:
        raise ValueError(
            f"path: {name!r} has format {int(content['format'])}, this version reads up to {version}; upgrade covsde."
        )
    found = [*names, *(key for key in optional if key in content)]
    return {key: content[key] for key in found}, json.loads(str(content["metadata"]))


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
