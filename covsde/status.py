"""What can become of a simulated path, and the warning raised when not all paths are fine."""

import enum


class PathStatus(enum.IntEnum):
    """Status of one path; every status but `FINE` comes with the layer time up to which the path is valid."""

    FINE = 0
    EXPLODED = 1
    LOST_PSD = 2
    NOT_FINITE = 3
    DEAD = 4  # a layer without an active neuron: its output is 0 from there on
    PARALLEL = 5  # the two inputs became exactly parallel


class FailedPathsWarning(UserWarning):
    """A statistic leaves out paths that stopped before the layer time it describes."""
