"""What solvers and networks return of training: outputs over updates, kernels over layer time."""

from typing import Any, NamedTuple

from jaxtyping import Array, Float


class KernelTrajectory(NamedTuple):
    """What a solver of a deterministic limit returns, from one system of particles; labels as in `Trajectory`.

    Attributes:
        outputs: (updates + 1, M, C).
        H: (times, N, N).
        Phi: (times, N, N).
        G: (times, N, N).
        A: (times, N, N).
        ntk: (passes, P, P).
        moved: movement of the stream, (updates + 1, times, M); None where every update is on all inputs: H has it.
    """

    outputs: Array
    H: Array
    Phi: Array
    G: Array
    A: Array
    ntk: Array
    moved: Array | None = None


class KernelGrid(NamedTuple):
    """How the solver of a deterministic limit is run by default.

    Attributes:
        depth: the number of blocks, if depth is finite: then the number of steps is given.
        sampled: whether anything is random.
        solver: what steps through layer time at infinite depth.
        order: the power of 1/steps in its error.
    """

    depth: int | None
    sampled: bool
    solver: str
    order: int


class Trajectory(NamedTuple):
    """Training on every path; labels are the (gradient step, input) pairs that `Task.labels` lists.

    Attributes:
        outputs: f before each update and after the last, (updates + 1, M, C, paths).
        Phi: h·h/n at the saved layers, (times, paths, labels, labels).
        G: ∂f/∂h·∂f/∂h; for several outputs of Σ_c Δ_c f_c in place of f; likewise.
        A: h(a)·∂f(b)/∂h, likewise.
        ntk: tangent kernel of the hidden weights per layer on the batch of each pass, (passes, paths, P, P).
        moved: |h(k) - h(0)|²/n, (updates + 1, times, M, paths); None where Phi has it of all inputs.
        G_outputs: ∂f_c/∂h·∂f_c'/∂h of every output, (times, paths, labels, C, labels, C), or None.
        ntk_outputs: their tangent kernel, (passes, paths, P, C, P, C), or None.
        snapshot: all that is needed to go on, if it was asked for.
    """

    outputs: Float[Array, "updates M C paths"]
    Phi: Float[Array, "times paths labels labels"]
    G: Float[Array, "times paths labels labels"]
    A: Float[Array, "times paths labels labels"]
    ntk: Float[Array, "passes paths P P"]
    moved: Float[Array, "updates times M paths"] | None = None
    G_outputs: Float[Array, "times paths labels C labels C"] | None = None
    ntk_outputs: Float[Array, "passes paths P C P C"] | None = None
    snapshot: Any = None
