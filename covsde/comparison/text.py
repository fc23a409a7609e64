"""Sizes and failures in words, for tables and figures."""

from typing import Any


def size_text(e: Any) -> str:
    """Return how many paths there are, in words.

    Args:
        e: An ensemble, or another result.

    Returns:
        For example "1000 paths", or "deterministic" if one path is the whole law.
    """
    return "deterministic" if e.deterministic else f"{e.paths} paths"


def failure_text(e: Any) -> str:
    """Return how many paths failed and how, in words.

    Args:
        e: An ensemble, or another result.

    Returns:
        For example "3 failed (2 exploded, 1 lost PSD)".
    """
    failures = e.failures
    total = failures.pop("total")
    if total == 0:
        return "0 failed"
    details = ", ".join(f"{n} {name.lower().replace('_', ' ').replace('psd', 'PSD')}" for name, n in failures.items())
    return f"{total} failed ({details})"
