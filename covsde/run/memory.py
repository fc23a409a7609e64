"""From bytes to the number of paths computed at a time, and what no machine has room for."""

import os
import re
from collections.abc import Callable
from pathlib import Path

LIMIT = 2**27
"""Bytes that a chunk of paths at initialization may take, 128 MiB."""

TRAINING = 2**28
"""The same for training, 256 MiB."""


def fitting(path_bytes: int, budget: int, *, least: int, most: int) -> int:
    """How many paths of so many bytes fit a budget, between bounds."""
    return max(least, min(most, budget // path_bytes))


def even_chunk(total: int, largest: int) -> int:
    """Paths per chunk when none should be larger: equal chunks, so that few paths are computed to be cut.

    Of many paths a multiple of 16, for which vector units have no remainder.
    """
    even = -(-total // -(-total // largest))
    return even if even < 32 else min(total, -(-even // 16) * 16)


def aligned_chunk(total: int, largest: int) -> int:
    """Paths per chunk, multiples of 64 that divide them evenly: little is in vain, and similar runs share programs."""
    return 64 * -(-total // (64 * -(-total // largest)))


# Of what is free: the computation needs some beside what it keeps.
_USABLE = 0.8


def available() -> int | None:
    """Bytes that this process may still take, as far as the system says."""
    found = []
    try:
        said = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        found += [int(said[1]) * 1024] if said else []
    except OSError:
        pass
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
        found += [int(limit) - int(used)] if limit != "max" else []
    except (OSError, ValueError):
        pass
    if not found and hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(os.sysconf_names):
        found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    return min(found, default=None)


def check_room(name: str, count: int, cost: Callable[[int], int], what: str) -> None:
    """Refuse a count that takes more memory than there is.

    Args:
        name: the argument.
        count: what was passed for it.
        cost: bytes that a count takes, increasing.
        what: takes them.

    Raises:
        ValueError: naming the memory and the largest count that fits.
    """
    free = available()
    if free is None:
        return
    room = int(_USABLE * free)
    if cost(count) <= room:
        return
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= room else (low, middle)
    remedy = f"use {name}={low} or fewer" if low else f"{name} is not all that is too large"
    raise ValueError(
        f"{name}={count} needs {cost(count) / 2**30:.3g} GiB for {what}, and this machine has {free / 2**30:.3g} GiB "
        f"free: {remedy}."
    )
