"""Solved cases of linear students on random features, from closed forms and from another program."""

from typing import Any, NamedTuple

import numpy as np

import covsde as cs

INF = np.inf

# White inputs, |w| = 1, M = 400, no noise: P, N, test and train loss at t = 2, test loss at t = ∞.
WHITE = (
    (INF, 100.0, 0.75016936404971, 0.75016936404971, 0.75),
    (200.0, 100.0, 1.26517186, 0.38675769, (1 - 100 / 400) / (1 - 100 / 200)),
    (100.0, 200.0, 1.26517186, 0.01675403, (1 - 100 / 400) / (1 - 100 / 200)),
)

# a = 1.5, b = 1.25, M = 300, P = ∞, N = 80.
POPULATION = {1.0: 1.27621017171889, 10.0: 0.53164498986405, 100.0: 0.30819627796832}

# a = 1.5, b = 1.25, M = 500, P = 150, N = 100, t = 30: the loss that averaging does not remove.
ENSEMBLES = {"features": 0.363881, "samples": 0.413015, "both": 0.332241}


class Finite(NamedTuple):
    """Losses of students that were drawn and trained by another program: 150 draws, M = 500.

    Attributes:
        sizes: P, N, a, b, σ².
        theory: (test, train) at each time.
        drawn: (test, standard error, train, standard error) at each time.
    """

    sizes: tuple[float, float, float, float, float]
    theory: dict[float, tuple[float, float]]
    drawn: dict[float, tuple[float, float, float, float]]


DRAWN = (
    Finite(
        (200, 120, 1.5, 1.25, 0.0),
        {1: (1.303439, 1.257728), 10: (0.564385, 0.461476), 100: (0.373087, 0.182802), 1000: (0.453590, 0.105566)},
        {
            1: (1.3133, 0.0076, 1.2501, 0.0098),
            10: (0.5687, 0.0039, 0.4619, 0.0042),
            100: (0.3740, 0.0031, 0.1848, 0.0020),
            1000: (0.4590, 0.0046, 0.1064, 0.0013),
        },
    ),
    Finite(
        (120, 300, 1.5, 1.25, 0.05),
        {1: (1.297171, 1.268878), 10: (0.541937, 0.416011), 100: (0.335903, 0.088250), 1000: (0.385091, 0.004119)},
        {
            1: (1.3074, 0.0081, 1.2806, 0.0117),
            10: (0.5453, 0.0036, 0.4177, 0.0044),
            100: (0.3375, 0.0028, 0.0891, 0.0010),
            1000: (0.3915, 0.0037, 0.00424, 0.00011),
        },
    ),
    Finite(
        (150, 150, 2.0, 1.0, 0.0),
        {10: (0.144006, 0.082798), 1000: (0.220775, 0.007024)},
        {10: (0.1450, 0.0018, 0.0821, 0.0010), 1000: (0.2184, 0.0031, 0.00713, 0.00019)},
    ),
)

# N = 80, B = 8, η = 0.3, M = 300, a = 1.5, b = 1.25: the mean test loss after a step, and of 240 runs.
ONLINE = {1: (1.898601, 1.8690, 0.0221), 10: (0.860786, 0.8698, 0.0105), 50: (0.501557, 0.5095, 0.0073)}

# Features that learn, M = 300, a = 1.5, b = 1.25: (N, P, γ) and at each time test, train, |w|².
LEARNED: dict[tuple[float, float, float], dict[float, tuple[float, float, float]]] = {
    (80, INF, 1.0): {1: (1.0940, 1.0940, 0.5813), 3: (0.6204, 0.6204, 1.4104), 30: (0.2989, 0.2989, 3.8307)},
    (80, 150, 1.0): {3: (0.6574, 0.5474, 1.4549), 30: (0.4262, 0.1789, 4.2431)},
    (150, 80, 0.3): {3: (0.7404, 0.5658, 1.7872), 30: (0.4022, 0.0819, 6.2156)},
}

# Local slopes of the loss at α = 1.5 between t = 10 … 3000 in five intervals of log t, by β, for γ = 1.
LEARNED_SLOPES = {
    0.4: (-0.547, -0.553, -0.559, -0.562, -0.560),
    0.7: (-0.835, -0.826, -0.821, -0.819, -0.818),
    1.2: (-1.281, -1.254, -1.238, -1.227, -1.220),
}

# a = 1.8, b = 2: local slopes of plateaus between 10, 30, 100, 300, in N and in P.
PLATEAU_SLOPES = ((-0.762, -0.789, -0.799), (-0.748, -0.785, -0.800))
# a = 5, b = 1.5.
SMOOTH_SLOPES = ((-1.378, -1.488, -1.534), (-2.638, -2.905, -3.025))

# a = 1.8, b = 2 at C = 10³ … 10⁶: N* and L*.
FRONTIER = ((27.1, 59.7, 129.6, 280.8), (0.26204, 0.14320, 0.07779, 0.04218))


class Schedule(NamedTuple):
    """Optimal rates at B = 4, from another program.

    Attributes:
        source: a, with b = 1.5.
        noise: σ².
        modes: M; the target beyond them is a loss that none learns.
        horizons: T -> the last loss, with the best constant rate, Σ η, and η at 0, T/4, T/2, 3T/4.
    """

    source: float
    noise: float
    modes: int
    horizons: dict[int, tuple[float, float, float, tuple[float, ...]]]


SCHEDULES = (
    Schedule(
        3.0,
        0.25,
        120,
        {
            100: (0.012169, 0.017197, 19.12, (0.200, 0.313, 0.185, 0.077)),
            400: (0.004817, 0.007708, 39.43, (0.107, 0.162, 0.088, 0.034)),
            1600: (0.001938, 0.003487, 79.76, (0.056, 0.082, 0.042, 0.015)),
        },
    ),
    Schedule(
        1.25,
        0.25,
        1000,
        {
            100: (1.85015, 2.08908, 66.4, (1.08, 0.92, 0.77, 0.42)),
            400: (1.41815, 1.67908, 297.9, (1.23, 1.00, 0.89, 0.55)),
        },
    ),
)


def white(modes: int = 400) -> Any:
    """λ = 1 and |w| = 1."""
    return cs.scaling.Spectrum(np.ones(modes), np.full(modes, modes**-0.5))


def with_rest(source: float, capacity: float, modes: int) -> Any:
    """A power law cut off at M modes, whose target beyond them lies along no mode."""
    k, rest = np.arange(1.0, modes + 1), (modes + 0.5) ** (1 - source) / (source - 1)
    return cs.scaling.Spectrum(k**-capacity, k ** ((capacity - source) / 2), rest)


def drawn_orthogonal(eigenvalues: Any, target: Any, seen: int, penalty: float, rng: Any) -> tuple[float, float]:
    """Kernel ridge regression on the first inputs of a pool whose eigenvectors are uniformly random."""
    n = len(eigenvalues)
    Q, R = np.linalg.qr(rng.standard_normal((n, n)))
    X = np.sqrt(n) * (Q * np.sign(np.diag(R))) * np.sqrt(eigenvalues)
    y, K = X @ target, X @ X.T
    f = K[:, :seen] @ np.linalg.solve(K[:seen, :seen] + penalty * np.eye(seen), y[:seen])
    errors = (f - y) ** 2
    return float(errors[seen:].mean()), float(errors[:seen].mean())
