"""Many inputs: the dense layout against exact laws, networks and the layout of few inputs; compilation and refusals."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import mlp as problems
from scipy import stats

import covsde as cs
from covsde.covariance.drifts import drift_of
from covsde.covariance.sde import NeuralCovarianceSDE
from covsde.numerics import linalg
from covsde.run.memory import LIMIT
from covsde.solvers import Strang, solve
from covsde.solvers.chunk import as_arrays
from covsde.solvers.layout import DenseLayout

M = 30


def mean_and_error(x: np.ndarray) -> tuple[float, float]:
    """Of one number per path."""
    return float(np.mean(x)), float(np.std(x, ddof=1) / math.sqrt(x.size))


@pytest.fixture(scope="module")
def linear() -> cs.Ensemble:
    """A linear network of T = 0.2 on 30 orthonormal inputs."""
    return cs.simulate(cs.MLP(cs.Identity(), 0.2), np.eye(M), paths=4096, key=5, save_at=[0, 1])


def test_every_variance_of_a_linear_network_is_lognormal(linear: cs.Ensemble) -> None:
    log_V = np.log(np.diagonal(linear.V[-1], axis1=1, axis2=2)) + 0.2
    assert stats.kstest(log_V[:, 0] / math.sqrt(0.4), "norm").pvalue > 1e-3
    assert stats.kstest(log_V[:, -1] / math.sqrt(0.4), "norm").pvalue > 1e-3
    # Each input alone, and the most indirect of them, with m h = 0.6: 4 standard errors and 0.4 % of the step.
    for inputs in (slice(None), slice(-5, None)):
        mean, se = mean_and_error(log_V[:, inputs].mean(axis=1))
        assert abs(mean) < 4 * se
        variance, se = mean_and_error((log_V[:, inputs] ** 2).mean(axis=1))
        assert se < 0.005
        assert abs(variance - 0.4) < 4 * se + 0.002


def test_covariances_of_a_linear_network_have_their_exact_moments(linear: cs.Ensemble) -> None:
    V, (i, j), t = linear.V[-1], np.tril_indices(M, -1), 0.2
    # With a = E V_ij² and b = E V_ii V_jj, from 0 and 1: a' = a + b, b' = 2a.
    v = np.diagonal(V, axis1=1, axis2=2)
    for value, exact in (
        (V[:, i, j].mean(axis=1), 0.0),
        (v.mean(axis=1), 1.0),
        ((V[:, i, j] ** 2).mean(axis=1), (math.exp(2 * t) - math.exp(-t)) / 3),
        ((v[:, i] * v[:, j]).mean(axis=1), (math.exp(2 * t) + 2 * math.exp(-t)) / 3),
        (V[:, -1, :-1] ** 2 @ np.ones(M - 1) / (M - 1), (math.exp(2 * t) - math.exp(-t)) / 3),
    ):
        mean, se = mean_and_error(value)
        assert se < 0.02
        assert abs(mean - exact) < 4 * se


def test_the_determinant_of_a_linear_network_has_its_exact_law(linear: cs.Ensemble) -> None:
    exact = problems.log_determinant_moments_of_the_limit(0.2, tuple(map(tuple, np.eye(M).tolist())))
    z = (np.linalg.slogdet(linear.V[-1])[1] - exact["logdet"]) / math.sqrt(exact["var logdet"])
    assert stats.kstest(z, "norm").pvalue > 1e-3


def test_every_pair_of_many_has_the_law_of_two_inputs() -> None:
    problem = problems.SHAPED_RELU_CORRELATION[4, 1.0]
    rho_0 = problem.gram[0, 1]
    V0 = np.full((M, M), rho_0) + (1 - rho_0) * np.eye(M)
    e = cs.simulate(problem.architecture, V0, paths=4096, key=1, save_at=[0, 1])
    assert e.failures["total"] == 0
    root = np.sqrt(np.diagonal(e.V[-1], axis1=1, axis2=2))
    i, j = np.tril_indices(M, -1)
    rho = (e.V[-1] / root[:, :, None] / root[:, None, :])[:, i, j]
    for name, value in (("rho", rho), ("rho^2", rho**2), ("angle", np.arccos(rho))):
        for pairs in (slice(None), i >= M - 3):
            mean, se = mean_and_error(value[:, pairs].mean(axis=1))
            assert se < 0.02
            assert abs(mean - problem.exact[name]) < 0.001 + 4 * se


@pytest.mark.parametrize("activation", [cs.ShapedReLU(0.0, -1.0), cs.ShapedSmooth("tanh")], ids=["relu", "tanh"])
def test_networks_of_many_inputs_have_that_limit(activation: cs.AbstractActivation) -> None:
    m, width = 24, 128
    mlp = cs.MLP(activation, 0.5)
    x = np.random.default_rng(0).standard_normal((m, m))
    V0 = cs.gram(x / np.linalg.norm(x, axis=1, keepdims=True) * math.sqrt(m))
    limit = cs.simulate(mlp, V0, paths=1536, key=2, save_at=[0, 1])
    networks = cs.sample_networks(mlp, V0, width=width, draws=768, key=3, save_at=[0, 1])
    i, j = np.tril_indices(m, -1)

    def statistics(e: cs.Ensemble) -> list[np.ndarray]:
        V = e.V[-1]
        v = np.diagonal(V, axis1=1, axis2=2)
        rho = V[:, i, j] / np.sqrt(v[:, i] * v[:, j])
        return [rho.mean(axis=1), (rho**2).mean(axis=1), (rho[:, i == m - 1] ** 2).mean(axis=1), np.log(v).mean(axis=1)]

    for ours, theirs in zip(statistics(limit), statistics(networks), strict=True):
        (a, se_a), (b, se_b) = mean_and_error(ours), mean_and_error(theirs)
        # Networks are off by a number of order one over their width.
        assert abs(a - b) < 4 * math.hypot(se_a, se_b) + 1 / width


def test_inputs_of_a_low_rank_keep_it() -> None:
    m, d = 50, 10
    x = np.random.default_rng(1).standard_normal((m, d))
    x[-1] = x[0]
    V0 = cs.gram(x)
    e = cs.simulate(cs.MLP(cs.Identity(), 0.3), V0, paths=256, key=4, save_at=[0, 1])
    assert e.failures["total"] == 0
    V = e.V[-1]
    assert np.max(np.linalg.eigvalsh(V)[:, : m - d]) < 1e-9 * np.max(V)
    np.testing.assert_allclose(V[:, 0], V[:, -1], atol=1e-6 * np.max(np.abs(V)))
    # The last inputs depend on the others and are as random as these.
    z = (np.log(np.diagonal(V, axis1=1, axis2=2) / np.diag(V0)) + 0.3) / math.sqrt(0.6)
    for number in (0, 9, 10, 30, 48):
        assert stats.kstest(z[:, number], "norm").pvalue > 1e-3


def test_exploded_and_lost_paths_are_known_one_by_one() -> None:
    m, mlp = 12, cs.MLP(cs.ShapedSmooth("silu"), 0.5)
    alone = cs.simulate(mlp, [[3.0]], paths=4096, key=7, steps=40, save_at=[0, 1])
    e = cs.simulate(mlp, np.diag(np.r_[np.full(m - 1, 0.05), 3.0]), paths=1024, key=6, steps=40)
    gone = e.status == cs.PathStatus.EXPLODED
    assert gone.sum() == e.failures["total"]
    p = np.mean(alone.status == cs.PathStatus.EXPLODED)
    assert abs(np.mean(gone) - p) < 4 * math.sqrt(p * (1 - p) * (1 / 1024 + 1 / 4096))
    assert np.all(np.isposinf(e.V[-1][gone][:, -1, -1]))
    assert np.all(np.isfinite(e.V[-1][~gone]))
    assert np.all(e.stop_tau[gone] < 1)
    coarse = cs.simulate(mlp, np.eye(m), paths=256, key=6, steps=5, solver=cs.EulerMaruyama())
    assert coarse.failures["LOST_PSD"] > 0


def test_by_blocks_the_root_of_semidefinite_matrices_is_cholesky_s() -> None:
    rng, m = np.random.default_rng(2), 21
    root = jax.jit(linalg.semidefinite_cholesky)
    with jax.enable_x64(True):
        for rank in (40, 10):
            x = rng.standard_normal((7, m, rank))
            V = jnp.asarray(x @ np.swapaxes(x, 1, 2) / rank)
            L, psd = root(V)
            assert np.all(psd)
            np.testing.assert_allclose(L @ jnp.swapaxes(L, 1, 2), V, atol=1e-10)
            if rank > m:
                np.testing.assert_allclose(L, np.linalg.cholesky(V), rtol=1e-10, atol=1e-12)
            assert np.all(np.sum(np.diagonal(L, axis1=1, axis2=2) > 0, axis=1) == min(rank, m))
        broken = V.at[3, m - 1, m - 1].set(-1.0).at[5, 2, 2].set(jnp.nan)
        np.testing.assert_array_equal(np.flatnonzero(~root(broken)[1]), [3, 5])


def test_the_program_grows_more_slowly_than_the_number_of_inputs() -> None:
    def length(m: int) -> int:
        sde = as_arrays(cs.MLP(cs.ShapedReLU(0.0, -1.0)).limit(), np.dtype(np.float32))
        V0, grid = jnp.eye(m, dtype=np.float32), jnp.linspace(0, 1, 11, dtype=np.float32)
        program = solve.lower(sde, Strang(), V0, jax.random.key(0), grid, paths=64, every=10)
        return len(program.as_text().splitlines())

    assert length(100) < 2 * length(50)


def test_a_chunk_of_a_hundred_inputs_fits_the_memory_of_chunks() -> None:
    plan = cs.simulate.plan(cs.MLP(cs.ShapedReLU(0.0, -1.0)), np.eye(100), paths=10**5)
    assert plan.chunks.size * 8 * 12 * 100**2 < LIMIT
    assert plan.metadata["layout"] == "DenseLayout"
    assert plan.metadata["steps"] == 130
    assert cs.simulate.plan(cs.MLP(cs.ShapedReLU(0.0, -1.0)), np.eye(8)).metadata["layout"] == "UnrolledLayout"


def test_what_depends_on_one_input_only_may_broadcast() -> None:
    # The dense layout hands drifts columns and rows; the upper triangle is not read and may be left behind.
    with jax.enable_x64(True):
        drift, h = jax.tree.map(jnp.asarray, drift_of(cs.ShapedSmooth("silu"))), jnp.asarray(0.05)
        sde = NeuralCovarianceSDE.uniform(drift, 1.0)
        x = np.random.default_rng(3).standard_normal((4, M, 40))
        V = jnp.asarray(x @ np.swapaxes(x, 1, 2) / 40)

        @jax.jit
        def both(V: jax.Array) -> tuple[jax.Array, jax.Array]:
            v = jnp.diagonal(V, axis1=1, axis2=2)
            full = drift.covariance_flow(*jnp.broadcast_arrays(v[:, :, None], v[:, None, :], V), h)
            return Strang()._drift(sde, DenseLayout(M), (V,), h)[0], full

        moved, full = both(V)
        np.testing.assert_allclose(np.tril(moved), np.tril(full), rtol=1e-12)


def test_passes_down_refuse_many_inputs_in_one_sentence() -> None:
    mlp = cs.MLP(cs.Identity())
    with pytest.raises(ValueError, match="simulate_gradients is for at most 20 inputs, got m=21"):
        cs.simulate_gradients.plan(mlp, np.eye(21))
    with pytest.raises(ValueError, match="simulate_velocities is for at most 20 inputs, got m=21"):
        cs.simulate_velocities.plan(mlp, np.eye(21), targets=np.ones(21))
