"""A changed constant, and where it should be noticed."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """A textual change of one constant.

    Attributes:
        name: what the constant is.
        file: in covsde/.
        old: text that occurs there exactly once.
        new: what takes its place.
        tests: files of tests without "test_", and after a colon what `pytest -k` takes.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
