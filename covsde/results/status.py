"""What can become of a simulated path, and the warning raised when not all paths are fine."""

import enum


class PathStatus(enum.IntEnum):
    """Status of one path; every status but `FINE` comes with the layer time up to which the path is valid.

    Attributes:
        FINE: valid to the end.
        EXPLODED: a variance, or an output in training, went beyond any bound.
        LOST_PSD: the matrix was no longer positive semidefinite.
        NOT_FINITE: a number was NaN or overflowed.
        DEAD: a layer without an active neuron: the output is 0 from there on.
        PARALLEL: the two inputs became exactly parallel.
    """

    FINE = 0
    EXPLODED = 1
    LOST_PSD = 2
    NOT_FINITE = 3
    DEAD = 4
    PARALLEL = 5


class FailedPathsWarning(UserWarning):
    """A statistic leaves out paths that stopped before the layer time it describes."""


class UnresolvedStepWarning(UserWarning):
    """The steps of a solver are too coarse for what they step: on many paths, numbers are not those of the limit."""
