"""The trained limit of linear networks against a second solver, which knows nothing but Gram matrices."""

import math
from typing import Any

import numpy as np
import pytest
from reference import gram_form
from reference import mlp as problems

import covsde as cs

T = 0.5
Y = np.array([1.0, -1.0])
# Both solvers step by 1/50 in layer time and have an error of first order in it. The Gram form's is largest in the
# mean of A between updates, 0.01 at this step (0.02 at twice the step), less than one combined standard error here.
STEPS, PATHS = 50, 3584


def bounded(x: Any) -> np.ndarray:
    return np.clip(np.asarray(x), -3, 3)


def statistics(f: Any, Phi: Any, G: Any, A: Any, ntk: Any) -> dict[str, np.ndarray]:
    """Samples (paths,): of f (labels, paths), of Φ at the top, G at the bottom, A in the middle, each (paths, ...)."""
    P, N = ntk.shape[1], f.shape[0]
    past = range(N - P)  # gradients of the last step are not needed, and the Gram form has none
    found = {f"f {a}": bounded(f[a]) for a in range(N)}
    found |= {f"Phi {a} {b}": bounded(Phi[:, a, b]) for a in range(N) for b in range(a + 1)}
    found |= {f"G {a} {b}": bounded(G[:, a, b]) for a in past for b in range(a + 1)}
    found |= {f"A {a} {b}": bounded(A[:, a, b]) for a in range(N) for b in past}
    last = N - P
    found["f first and last"] = bounded(f[0] * f[last])
    found["f and Phi"] = bounded(f[last] * np.log(np.maximum(Phi[:, last, last], 1e-3)))
    found["log movement"] = np.log(np.maximum(Phi[:, P, P] + Phi[:, 0, 0] - 2 * Phi[:, P, 0], 1e-6))
    # The first update over what the tangent kernel predicts of it at unit rate: little noise, so it tells rates apart.
    force = Y[:P, None] - f[:P]
    found["gain"] = bounded(np.sum(force * (f[P : 2 * P] - f[:P]), 0) / np.einsum("ar,rab,br->r", force, ntk, force))
    found["movement"] = bounded(Phi[:, last, last] + Phi[:, 0, 0] - 2 * Phi[:, last, 0])
    return found


def gap(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Differences of means and of variances, in combined standard errors."""
    z = []
    for estimate in (problems.estimate, problems.variance_estimate):
        (a, se_a), (b, se_b) = estimate(x), estimate(y)
        z.append((a - b) / max(math.hypot(se_a, se_b), 1e-12))
    return z[0], z[1]


@pytest.mark.thorough
def test_training_in_gram_form_has_the_law_of_the_library() -> None:
    V0 = np.asarray(problems.PAIR)
    P, updates = 2, 2
    run = cs.train(
        cs.MLP(cs.Identity(), T),
        V0,
        targets=Y,
        updates=updates,
        steps=STEPS,
        paths=4 * PATHS,
        chunk=512,
        key=3,
        save_at=[0, 0.5, 1],
    )
    other = gram_form.train(V0, Y, T=T, rate=1.0, updates=updates, steps=STEPS, paths=PATHS, seed=2)
    assert np.all(np.isfinite(other.f))
    outputs = np.moveaxis(run.outputs, 1, 2).reshape(-1, run.paths)
    ours = statistics(outputs, run.Phi[-1], run.G[0], run.A[1], T * run.ntk[0])
    kernel = T * np.trapezoid(other.Phi[:, :, :P, :P] * other.G[:, :, :P, :P], dx=1 / STEPS, axis=0)
    theirs = statistics(other.f, other.Phi[-1], other.G[0], other.A[STEPS // 2], kernel)
    for name in ours:
        assert max(map(abs, gap(ours[name], theirs[name]))) < 4, name


def test_the_gram_form_keeps_the_identities_that_drive_it() -> None:
    # A_T(a, b) = f(a) for every gradient b that a met: only the drifts of bridge type enforce it.
    run = gram_form.train(np.eye(1), Y[:1], T=T, rate=1.0, updates=3, steps=STEPS, paths=1024, seed=3)
    assert np.all(np.isfinite(run.f))
    top, bottom = run.A[-1], run.A[0]
    for a in (2, 3):
        mismatch, moved = np.abs(top[:, a, a - 1] - run.f[a]), np.abs(bottom[:, a, a - 1] - run.f[a])
        assert np.median(mismatch) < np.median(moved) / 4
    # A linear network is its own overlap at equal step.
    for a in range(3):
        np.testing.assert_allclose(run.A[:, :, a, a], np.broadcast_to(run.f[a], run.A.shape[:2]), atol=1e-12)
