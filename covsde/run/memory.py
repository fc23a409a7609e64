"""From bytes to the number of paths computed at a time."""

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
