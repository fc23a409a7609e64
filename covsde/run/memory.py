"""From bytes to the number of paths computed at a time."""


def even_chunk(total: int, largest: int) -> int:
    """Paths per chunk when none should be larger: equal chunks, so that few paths are computed to be cut.

    Of many paths a multiple of 16, for which vector units have no remainder.
    """
    even = -(-total // -(-total // largest))
    return even if even < 32 else min(total, -(-even // 16) * 16)
