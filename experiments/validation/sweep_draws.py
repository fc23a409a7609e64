"""What the property sweep draws: extreme starts, and architectures with extreme parameters that a solver allows."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import covsde as cs
from covsde.solvers.noise import LONGEST

STEPS = 8
SMALL_T = 0.01
"""Clock time up to which no scheme of first order loses a path, and errors of second order are beyond notice."""


class Case(NamedTuple):
    """One configuration.

    Attributes:
        name: of the activation or block, for the table.
        start: the kind of start.
        architecture: what is simulated.
        V0: where it starts.
    """

    name: str
    start: str
    architecture: Any
    V0: np.ndarray

    @property
    def T(self) -> float:
        """Clock time."""
        return float(self.architecture.depth_to_width)

    @property
    def nonzero(self) -> bool:
        """Whether every input has a direction."""
        return bool(np.all(np.diagonal(self.V0) > 0))


def _inputs(kind: str, m: int, rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal((m, m + 2))
    match kind:
        case "repeated":
            x = x[np.arange(m) // 2]
        case "correlations ±1":
            x = x[:1] * rng.choice([-1.0, 1.0], m)[:, None]
        case "nearly ±1":
            near = 10.0 ** rng.uniform(-12, -2)
            x = x[:1] * rng.choice([-1.0, 1.0], m)[:, None] + near * x
        case "unequal scales":
            x *= 10.0 ** rng.uniform(-8, 8, m)[:, None]
        case "tiny or huge":
            x *= rng.choice([1e-8, 1e8])
        case "a zero input":
            x[rng.integers(m)] = 0
        case "orthogonal":
            x = np.eye(m) * math.sqrt(m)
    return x


STARTS = (
    "generic",
    "repeated",
    "correlations ±1",
    "nearly ±1",
    "unequal scales",
    "tiny or huge",
    "a zero input",
    "orthogonal",
)


def start(kind: str, m: int, rng: np.random.Generator) -> np.ndarray:
    """The Gram matrix of m inputs of one of the kinds of `STARTS`."""
    return cs.gram(_inputs(kind, m, rng))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Between two numbers, one in eight times at either of them."""
    return float(rng.choice([low, high])) if rng.random() < 0.25 else float(np.exp(rng.uniform(*np.log([low, high]))))


def _relu(rng: np.random.Generator, T: float, most: float) -> cs.ShapedReLU:
    kappa = _log_uniform(rng, 1e-8, min(1e6, most / T))
    share = rng.uniform(-1, 1)
    return cs.ShapedReLU(math.sqrt(kappa) * (1 + share) / 2, -math.sqrt(kappa) * (1 - share) / 2)


_ODD, _EVEN_TOO = ("tanh", "sin", "erf", "sinh", "arctan"), ("softplus", "silu", "gelu", "expm1")
_SMOOTH = {(name, a): cs.ShapedSmooth(name, a) for name in (*_ODD, *_EVEN_TOO) for a in (0.05, 0.5, 1.0, 30.0)}


def _smooth(names: tuple[str, ...]) -> Callable[..., cs.ShapedSmooth]:
    def draw(rng: np.random.Generator, T: float, most: float) -> cs.ShapedSmooth:
        return _SMOOTH[str(rng.choice(names)), float(rng.choice([0.05, 0.5, 1.0, 30.0]))]

    return draw


PIECEWISE: dict[str, Callable[..., Any]] = {"shaped ReLU": _relu, "identity": lambda rng, T, most: cs.Identity()}
SMOOTH: dict[str, Callable[..., Any]] = {
    "smooth, odd": _smooth(_ODD),
    "smooth with even part": _smooth(_EVEN_TOO),
}


def mlps(
    solver: Any,
    kinds: dict[str, Callable[..., Any]],
    m: int,
    count: int,
    rng: np.random.Generator,
    affine: bool = False,
) -> list[Case]:
    """MLPs that a solver takes with `STEPS` steps."""
    wishart = isinstance(solver, cs.WishartStep)
    # In the cone: Strang takes half-steps of the drift, a Wishart step needs a layer wider than m - 1.
    longest, most = (0.99 * STEPS / max(1, m - 1), 4 * STEPS) if wishart else (0.999 * STEPS * LONGEST, 8 * STEPS)
    two = isinstance(solver, cs.LampertiEuler | cs.AngleEuler | cs.CorrelationEuler)
    starts = [k for k in STARTS if not (two and k == "a zero input")]
    found = []
    for (name, draw), kind in itertools.islice(_turns(kinds, starts, rng), count):
        T = SMALL_T if rng.random() < 0.25 else _log_uniform(rng, 1e-6, longest)
        more = {"bias": _log_uniform(rng, 1e-6, 1e3), "gain": float(rng.uniform(-3, 3))} if affine else {}
        architecture = cs.MLP(draw(rng, T, 0.999 * most), T, **more)
        found.append(Case(f"{name}, biases and gain" if affine else name, kind, architecture, start(kind, m, rng)))
    return found


def _turns(kinds: dict[str, Any], starts: list[str], rng: np.random.Generator) -> Any:
    """Every kind with every start, then again in another order."""
    every = list(itertools.product(kinds.items(), starts))
    while True:
        rng.shuffle(every)  # type: ignore[arg-type]
        yield from every


def transformers(mask: str | None, m: int, count: int, rng: np.random.Generator) -> list[Case]:
    """Transformers that their solver takes with `STEPS` steps; a third of them without attention."""
    found = []
    attention = {"attention off": [math.inf], "attention": [1e-3, 0.1, 1.0, 30.0]}
    for (name, tau0), kind in itertools.islice(_turns(attention, list(STARTS), rng), count):
        T, gamma = _log_uniform(rng, 1e-6, 5.0), float(rng.choice([0.0, 0.1, 0.5, 1.0]))
        mlp = _relu(rng, T, 0.999 * 8 * STEPS) if rng.random() < 0.5 else None
        heads, tau = rng.choice([1, 2, 32, math.inf]), float(rng.choice(tau0))
        architecture = cs.Transformer(
            gamma,
            tau,
            math.inf if heads == math.inf else int(heads),
            mlp,
            mask,
            T,
            output_matrix=bool(rng.random() < 0.5),
        )
        found.append(Case(name, kind, architecture, start(kind, m, rng)))
    return found
