"""Linear students on random features: closed forms, other programs, and students that are drawn and trained."""

import time
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import scaling_laws as known
from scipy.integrate import quad

import covsde as cs
from covsde.architectures.random_features.learning_rates import optimal_rates
from covsde.architectures.random_features.network import flow
from covsde.architectures.random_features.pool import pool_flow, pool_losses
from covsde.spectra.projection import Pool
from covsde.spectra.resolvent import Sizes, edge

scaling = cs.scaling
PowerLaw, RandomFeatures, LearnedFeatures = scaling.PowerLaw, scaling.RandomFeatures, scaling.LearnedFeatures
INF = np.inf


def z_scores(law: Any, draws: Any) -> np.ndarray:
    """Of test and train losses (2, times) that have an error."""
    found = []
    for name in ("test", "train"):
        values = getattr(draws, name)
        error = values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])
        found.append((values.mean(axis=1) - getattr(law, name)) / np.where(error > 1e-12, error, 1e-9))
    return np.array(found)


@pytest.mark.parametrize(("samples", "features", "test", "train", "end"), known.WHITE)
def test_white_spectra_have_closed_forms(
    samples: float, features: float, test: float, train: float, end: float
) -> None:
    model = RandomFeatures(known.white(), features, samples)
    law = model.losses([2.0, INF])
    tolerance = 1e-13 if np.isinf(samples) else 1e-8
    assert law.test[0] == pytest.approx(test, abs=tolerance)
    assert law.train[0] == pytest.approx(train, abs=tolerance)
    assert law.test[1] == pytest.approx(end, rel=1e-13)
    assert model.plateau() == (law.test[1], law.train[1])


def test_one_bottleneck_is_an_integral_over_the_marchenko_pastur_law() -> None:
    ratio = 4.0
    low, high = (1 - ratio**0.5) ** 2, (1 + ratio**0.5) ** 2
    middle, half = (low + high) / 2, (high - low) / 2

    def integrand(phi: float) -> float:
        x = middle - half * np.cos(phi)
        return float(np.exp(-2 * x * 3.0) * (half * np.sin(phi)) ** 2 / (2 * np.pi * ratio * x))

    expected = quad(integrand, 0, np.pi, epsabs=1e-14)[0] + 1 - 1 / ratio
    found = RandomFeatures(known.white(), 100).losses([3.0]).test[0]
    assert found == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("t", known.POPULATION)
def test_two_point_functions_agree_with_one_point_functions(t: float) -> None:
    spectrum = PowerLaw(1.5, 1.25, modes=300)
    one, two = (RandomFeatures(spectrum, 80, samples).losses([t]) for samples in (INF, 1e16))
    np.testing.assert_allclose(tuple(one), np.full((2, 1), known.POPULATION[t]), rtol=1e-13)
    np.testing.assert_allclose(tuple(two), np.full((2, 1), known.POPULATION[t]), rtol=1e-12)


@pytest.mark.parametrize("case", known.DRAWN, ids=lambda case: str(case.sizes))
def test_losses_are_those_of_another_program_and_of_its_draws(case: known.Finite) -> None:
    P, N, a, b, noise = case.sizes
    law = RandomFeatures(PowerLaw(a, b, modes=500), N, P, noise).losses(list(map(float, case.theory)))
    np.testing.assert_allclose(np.transpose(tuple(law)), list(case.theory.values()), atol=1e-6)
    for k, (test, test_error, train, train_error) in enumerate(case.drawn.values()):
        assert abs(law.test[k] - test) < 4 * test_error
        assert abs(law.train[k] - train) < 4 * train_error


HOW: dict[str, dict[str, Any]] = {
    "flow": {},
    "heavy flow": {"momentum": 3.0},
    "descent": {"rate": 0.3},
    "heavy ball": {"rate": 0.3, "momentum": 0.6},
}


@pytest.mark.parametrize("how", HOW)
def test_students_that_are_drawn_and_trained_have_the_losses_of_the_theory(how: str) -> None:
    model = RandomFeatures(PowerLaw(1.5, 1.25, modes=200), features=60, samples=90, noise=0.05)
    law = model.losses([2.0, 30.0], **HOW[how])
    draws = scaling.train_networks(model, [2.0, 30.0], draws=200, key=1, **HOW[how])
    assert np.max(np.abs(z_scores(law, draws))) < 4
    # The spread of 200 draws tells 5% of the loss.
    assert draws.test[-1].std(ddof=1) / np.sqrt(200) < 0.05 * law.test[-1]
    table = cs.compare(law, draws)
    assert [row.statistic.split()[1] for row in table.rows] == ["test", "train"]


@pytest.mark.parametrize(("features", "samples"), [(60, INF), (INF, 60), (90, 90), (INF, INF)])
def test_the_end_of_training_is_the_plateau(features: float, samples: float) -> None:
    model = RandomFeatures(PowerLaw(1.5, 1.25, modes=200), features, samples, noise=0.1 if samples == 60 else 0.0)
    t = [10.0] if features == samples == 90 else [10.0, INF]
    law, draws = model.losses(t), scaling.train_networks(model, t, draws=100, key=2)
    assert np.max(np.abs(z_scores(law, draws))) < 4


def test_the_bias_of_finite_width_falls_like_one_over_features() -> None:
    gaps = []
    for size in (20, 40):
        # Every mode `size`/20 times, which is the same theory.
        modes, copies = PowerLaw(1.5, 1.25, modes=100), size // 20
        lam, w = modes.drawable
        spectrum = scaling.Spectrum(np.repeat(lam, copies), np.repeat(w, copies) / np.sqrt(copies))
        model = RandomFeatures(spectrum, features=size // 2)
        draws = scaling.train_networks(model, [3.0], draws=8000, key=size)
        law = model.losses([3.0]).test[0]
        error = draws.test.std(ddof=1) / np.sqrt(draws.paths) / law
        gaps.append((size * (draws.test.mean() / law - 1), size * error))
    (first, first_error), (second, second_error) = gaps
    assert first > 4 * first_error
    assert abs(first - second) < 4 * np.hypot(first_error, second_error)


@pytest.mark.parametrize("over", known.ENSEMBLES)
def test_ensembling_removes_what_its_members_do_not_share(over: str) -> None:
    model = RandomFeatures(PowerLaw(1.5, 1.25, modes=500), features=100, samples=150)
    alone, whole = model.losses([30.0]).test, model.ensemble([30.0], over)
    assert whole[0] == pytest.approx(known.ENSEMBLES[over], abs=1e-6)
    np.testing.assert_allclose(model.ensemble([30.0], over, members=4), whole + (alone - whole) / 4)


def test_samples_that_are_shared_share_their_noise() -> None:
    # Averaging over features alone leaves the noise of the labels: at P = ∞ of features nothing else is left.
    spectrum = PowerLaw(1.5, 1.25, modes=200)
    noisy = RandomFeatures(spectrum, features=1e7, samples=80, noise=0.5)
    apart = RandomFeatures(spectrum, samples=80, noise=0.5)
    np.testing.assert_allclose(noisy.ensemble([20.0], "features"), apart.losses([20.0]).test, rtol=1e-5)
    without = RandomFeatures(spectrum, samples=80)
    np.testing.assert_allclose(apart.ensemble([20.0], "samples"), without.ensemble([20.0], "samples"), rtol=1e-12)


@pytest.mark.parametrize("updates", [1, 7, 24, 25, 400])
def test_contours_of_few_and_of_many_updates_agree(updates: int) -> None:
    model = RandomFeatures(PowerLaw(1.5, 1.25, modes=200), features=60, samples=90, noise=0.05)
    one, other = (model.losses([updates], rate=0.2, momentum=m) for m in (0.0, 1e-14))
    np.testing.assert_allclose(tuple(one), tuple(other), rtol=1e-9)


def test_losses_have_gradients_in_spectrum_and_sizes() -> None:
    k = np.arange(1.0, 61.0)

    def loss(b: Any, features: Any, samples: Any, noise: Any) -> Any:
        test, train = scaling.losses(k**-b, k**-1.5, [2.0, 10.0], features=features, samples=samples, noise=noise)
        return test[1] + 0.5 * train[0]

    def same(b: float, *sizes: float) -> float:
        spectrum = scaling.Spectrum(k**-b, k ** ((b - 1.5) / 2))
        test, train = RandomFeatures(spectrum, *sizes).losses([2.0, 10.0])
        return float(test[1] + 0.5 * train[0])

    at = (1.25, 20.0, 30.0, 0.05)
    value, slopes = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3)))(*at)
    assert float(value) == pytest.approx(same(*at), rel=1e-11)
    for i, slope in enumerate(slopes):
        step = 1e-5 * at[i]
        high, low = (same(*(x + sign * step * (i == j) for j, x in enumerate(at))) for sign in (1, -1))
        assert float(slope) == pytest.approx((high - low) / (2 * step), rel=1e-6)
    assert float(loss(1.25, INF, 30.0, 0.0)) == pytest.approx(same(1.25, INF, 30.0, 0.0), rel=1e-11)


def test_descent_of_small_steps_is_gradient_flow_and_long_times_cost_nothing() -> None:
    model = RandomFeatures(PowerLaw(1.5, 1.25, modes=200), features=60, samples=90)
    np.testing.assert_allclose(model.losses([10**6], rate=1e-5).test, model.losses([10.0]).test, rtol=1e-4)
    np.testing.assert_allclose(model.losses([1e9]).test[0], model.plateau()[0], rtol=1e-9)


def test_gradients_of_a_network_with_real_weights_are_what_is_trained() -> None:
    model = LearnedFeatures(PowerLaw(1.5, 1.25, modes=30), features=8, samples=12, rate=1.0)
    draw = scaling.network(model, key=3)
    frozen = eqx.tree_at(lambda s: s.B, draw.student, None)
    step, updates = 0.01, 300

    def loss(student: Any) -> Any:
        return jnp.mean((jax.vmap(student)(draw.inputs) - draw.labels) ** 2)

    @eqx.filter_jit
    def trained(student: Any) -> Any:
        def one(s: Any, _: None) -> tuple[Any, None]:
            g = eqx.filter_grad(loss)(s)
            return eqx.apply_updates(s, jax.tree.map(lambda x: -step / 2 * x, g)), None

        return jax.lax.scan(one, student, None, length=updates)[0]

    A, psi, y = (np.asarray(x) for x in (draw.student.A, draw.inputs, draw.labels))
    lam, w = model.spectrum.drawable
    _, train = flow.losses(flow.Problem(lam, w, A, psi, y), flow.descent(np.array([float(updates)]), step, 0.0))
    assert float(loss(trained(frozen))) == pytest.approx(float(train[0]), rel=1e-10)
    arguments = (jnp.asarray(x) for x in (lam, w, A, psi, y, np.array([step * updates]), 1.0))
    _, learned, _ = flow.learned(*arguments)
    # Euler steps of gradient flow.
    assert float(loss(trained(draw.student))) == pytest.approx(float(learned[0]), rel=0.02)


@pytest.mark.parametrize("sizes", known.LEARNED)
def test_learned_features_are_those_of_another_program(sizes: tuple[float, float, float]) -> None:
    N, P, gamma = sizes
    table = known.LEARNED[sizes]
    law = LearnedFeatures(PowerLaw(1.5, 1.25, modes=300), N, P, rate=gamma).losses(list(map(float, table)))
    assert law.weight_norm is not None
    np.testing.assert_allclose(np.transpose([law.test, law.train, law.weight_norm]), list(table.values()), atol=5.1e-5)


def test_students_that_learn_features_have_the_losses_of_the_theory() -> None:
    model = LearnedFeatures(PowerLaw(1.5, 1.25, modes=200), features=60, samples=100, noise=0.05, rate=0.5)
    law, draws = model.losses([1.0, 10.0]), scaling.train_networks(model, [1.0, 10.0], draws=80, key=5)
    assert np.max(np.abs(z_scores(law, draws))) < 4
    assert law.weight_norm is not None
    assert draws.weight_norm is not None
    error = draws.weight_norm.std(axis=1, ddof=1) / np.sqrt(80)
    assert np.max(np.abs(draws.weight_norm.mean(axis=1) - law.weight_norm) / error) < 4


@pytest.mark.parametrize(("features", "samples"), [(60, INF), (60, 100), (INF, INF)])
def test_features_that_do_not_learn_are_frozen(features: float, samples: float) -> None:
    spectrum = PowerLaw(1.5, 1.25, modes=200)
    frozen = RandomFeatures(spectrum, features, samples, 0.1).losses([1.0, 20.0])
    still = LearnedFeatures(spectrum, features, samples, 0.1, rate=0.0).losses([1.0, 20.0])
    np.testing.assert_allclose(tuple(still), tuple(frozen), rtol=1e-11)
    np.testing.assert_allclose(still.effective_time, [1.0, 20.0], rtol=1e-12)


def test_what_learns_features_ends_where_frozen_features_do() -> None:
    model = LearnedFeatures(PowerLaw(1.5, 1.25, modes=200), features=60, samples=100, rate=1.0)
    assert model.losses([2000.0]).test[0] == pytest.approx(model.plateau()[0], rel=0.01)


@pytest.mark.parametrize("beta", known.LEARNED_SLOPES)
def test_feature_learning_changes_the_exponent_of_hard_tasks(beta: float) -> None:
    spectrum, t = PowerLaw(1 + 1.5 * beta, 1.5), np.geomspace(10, 3000, 6)

    def slopes(loss: np.ndarray) -> np.ndarray:
        return np.diff(np.log(loss)) / np.diff(np.log(t))

    lazy = slopes(RandomFeatures(spectrum).losses(t).test)
    np.testing.assert_allclose(lazy, -beta, atol=0.006)
    # The last interval of the other program feels that its modes end at 20 000.
    rich = slopes(LearnedFeatures(spectrum, rate=1.0).losses(t).test)
    np.testing.assert_allclose(rich[:4], known.LEARNED_SLOPES[beta][:4], atol=0.003)
    limit = 2 * beta / (1 + beta) if beta < 1 else beta
    assert abs(rich[-1] + limit) < 0.025


def test_online_sgd_has_the_mean_loss_of_other_programs_and_of_runs() -> None:
    model = RandomFeatures(PowerLaw(1.5, 1.25, modes=300), features=80)
    loss = scaling.online(model, np.full(200, 0.3), batch=8)
    for step, (theory, runs, error) in known.ONLINE.items():
        assert loss[step] == pytest.approx(theory, abs=1e-6)
        assert abs(loss[step] - runs) < 4 * error
    noisy = RandomFeatures(PowerLaw(1.5, 1.25, modes=100), noise=0.2)
    law, draws = scaling.online_law(noisy, [0.5, 0.3, 0.1, 0.1], 3), None
    draws = scaling.train_networks_online(noisy, [0.5, 0.3, 0.1, 0.1], 3, draws=2000, key=1)
    # Nothing but the mean over batches is taken: exact without large sizes.
    assert np.max(np.abs(z_scores(law, draws)[:, 1:])) < 4


def test_the_largest_rate_makes_noise_reproduce_itself() -> None:
    modes, B, N = 120, 1, 60
    spectrum, lam = PowerLaw(1.5, 0.6, modes=modes), np.arange(1.0, modes + 1) ** -0.6

    def gain(eta: float, x: np.ndarray) -> float:
        return float(eta / B * np.sum(x / (2 - eta * x * (1 + 1 / B))))

    assert gain(scaling.largest_rate(RandomFeatures(spectrum), B), lam) == pytest.approx(1, rel=1e-9)
    # Of eigenvalues that are drawn.
    eta, rng = scaling.largest_rate(RandomFeatures(spectrum, features=N), B), np.random.default_rng(0)
    drawn = [np.linalg.svd(rng.standard_normal((N, modes)) * np.sqrt(lam / N), compute_uv=False) for _ in range(20)]
    gains = np.array([gain(eta, s**2) for s in drawn])
    assert gains.mean() == pytest.approx(1, abs=0.02)
    assert gains.std(ddof=1) / np.sqrt(20) < 0.01


@pytest.mark.parametrize("features", [80.0, INF])
def test_online_sgd_is_unstable_beyond_the_largest_rate(features: float) -> None:
    model = RandomFeatures(PowerLaw(1.5, 1.25, modes=300), features)
    largest = scaling.largest_rate(model, 8)
    below = scaling.online(model, np.full(3000, 0.97 * largest), 8)
    with pytest.warns(scaling.UnstableTrainingWarning, match="grows without bound"):
        above = scaling.online(model, np.full(400, 1.03 * largest), 8)
    assert below[-1] < below[0] < above[-1]


def test_plateaus_of_power_laws_have_the_exponents_of_the_theory() -> None:
    sizes = [10, 30, 100, 300]
    # Of the other program's modes: cut off, with the target beyond them added to the loss.
    for (a, b), slopes, M in (((1.8, 2.0), known.PLATEAU_SLOPES, 30_000), ((5.0, 1.5), known.SMOOTH_SLOPES, 20_000)):
        cut, rest = PowerLaw(a, b, modes=M), (M + 0.5) ** (1 - a) / (a - 1)
        for name, expected in zip(("features", "samples"), slopes, strict=True):
            losses = [RandomFeatures(cut, **{name: size}).plateau()[0] + rest for size in sizes]
            found = np.diff(np.log(losses)) / np.diff(np.log(sizes))
            np.testing.assert_allclose(found, expected, atol=6e-4)
    # L(∞, N) ~ N^{-min(a - 1, b)} and L(∞, P) ~ P^{-min(a - 1, 2b)}, far out.
    for a, b in ((1.8, 2.0), (3.2, 1.5), (5.0, 1.5)):
        for name, exponent in (("features", min(a - 1, b)), ("samples", min(a - 1, 2 * b))):
            near, far = (RandomFeatures(PowerLaw(a, b), **{name: size}).plateau()[0] for size in (3e4, 1e5))
            assert np.log(near / far) / np.log(1e5 / 3e4) == pytest.approx(exponent, abs=0.02)


def test_infinite_power_laws_are_the_limit_of_many_modes() -> None:
    infinite = RandomFeatures(PowerLaw(1.8, 2.0), features=50, samples=70)
    gaps = []
    for modes in (20_000, 200_000):
        cut = RandomFeatures(known.with_rest(1.8, 2.0, modes), features=50, samples=70)
        gaps.append(cut.losses([30.0]).test[0] / infinite.losses([30.0]).test[0] - 1)
    # What is left of the trace falls by a factor of ten.
    assert abs(gaps[1]) < 2e-5
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.1)


def test_the_compute_optimal_frontier_has_the_exponents_of_the_theory() -> None:
    compute = [1e3, 1e4, 1e5, 1e6]
    front = scaling.frontier(RandomFeatures(PowerLaw(1.8, 2.0)), compute)
    # The other program fits a parabola to whole numbers of features of a spectrum that is cut off.
    np.testing.assert_allclose(front.features, known.FRONTIER[0], rtol=0.01)
    np.testing.assert_allclose(front.losses, known.FRONTIER[1], rtol=6e-4)
    slopes = [np.diff(np.log(x)) / np.log(10) for x in (front.features, front.losses)]
    assert slopes[0][-1] == pytest.approx(1 / 3, abs=0.004)
    assert slopes[1][-1] == pytest.approx(-0.8 / 3, abs=0.002)
    np.testing.assert_allclose(front.features * front.times, compute)


@pytest.mark.parametrize("case", known.SCHEDULES, ids=lambda case: f"a = {case.source}")
def test_optimal_rates_are_those_of_another_program(case: known.Schedule) -> None:
    model = RandomFeatures(known.with_rest(case.source, 1.5, case.modes), noise=case.noise)
    for T, (loss, constant, total, rates) in case.horizons.items():
        best = optimal_rates(model, T, 4, tolerance=1e-9)
        assert best.converged
        assert best.losses[-1] == pytest.approx(loss, rel=3e-4)
        assert best.rates.sum() == pytest.approx(total, rel=1e-3)
        np.testing.assert_allclose(best.rates[[0, T // 4, T // 2, 3 * T // 4]], rates, atol=0.006)
        # The other program took the best of 25 rates.
        assert best.constant_loss <= constant * (1 + 1e-5)
        assert best.constant_loss == pytest.approx(constant, rel=0.01)


def test_no_rate_alone_improves_an_optimal_schedule() -> None:
    model = RandomFeatures(PowerLaw(2.0, 1.5, modes=60), features=12, noise=0.1)
    best = optimal_rates(model, 12, 3, tolerance=1e-13, key=4)
    whole = RandomFeatures(PowerLaw(2.0, 1.5, modes=60), noise=0.1)
    free = optimal_rates(whole, 12, 3, tolerance=1e-13)
    assert best.losses[-1] > free.losses[-1]
    for step in (0, 5, 11):
        for factor in (0.9, 1.1):
            rates = free.rates.copy()
            rates[step] *= factor
            assert scaling.online(whole, rates, 3)[-1] > free.losses[-1]
    np.testing.assert_allclose(scaling.online(whole, free.rates, 3), free.losses, rtol=1e-12)


@pytest.mark.parametrize("penalty", [60.0, 2.0, 0.0])
def test_regression_on_a_pool_is_the_projection_of_random_eigenvectors(penalty: float) -> None:
    rng, n = np.random.default_rng(1), 200
    k = np.arange(1.0, n + 1)
    lam, w = k**-1.2, k**-0.2
    modes = scaling.Spectrum(lam, w).modes
    for seen in (40, 140):
        drawn = np.array([known.drawn_orthogonal(lam, w, seen, penalty, rng) for _ in range(60)])
        pool, train = pool_losses(modes, Pool(float(seen), float(n)), penalty / seen)
        test = (pool - seen / n * train) / (1 - seen / n)
        z = (drawn.mean(axis=0) - (test, train)) / (drawn.std(axis=0, ddof=1) / np.sqrt(60) + 1e-12)
        assert np.max(np.abs(z)) < 4.5


def test_a_large_pool_is_a_population() -> None:
    modes = PowerLaw(1.5, 1.25, modes=300)
    model = RandomFeatures(modes, samples=80)
    np.testing.assert_allclose(pool_losses(modes.modes, Pool(80.0, 1e8), 0.05), model.ridge(0.05), rtol=1e-5)
    assert pool_losses(modes.modes, Pool(80.0, 1e8), 0.0)[0] == pytest.approx(model.plateau()[0], rel=1e-10)
    flows = pool_flow(np.array([0.0, 5.0, 300.0]), modes.modes, Pool(80.0, 1e8))
    np.testing.assert_allclose(flows, tuple(model.losses([0.0, 5.0, 300.0])), rtol=1e-5)
    assert model.ridge(1e-12)[0] == pytest.approx(model.plateau()[0], rel=1e-7)


def test_the_spectrum_of_a_kernel_gives_back_kernel_and_targets() -> None:
    x = np.random.default_rng(0).standard_normal((30, 40))
    K, y = cs.gram(x), x[:, :2]
    spectrum = scaling.Spectrum.from_kernel(K, y)
    assert np.sum(spectrum.eigenvalues) == pytest.approx(np.trace(K) / 30)
    assert spectrum.modes.energy == pytest.approx(np.sum(y**2) / 30)
    exact = scaling.exponents(PowerLaw(1.7, 1.3, modes=2000))
    assert exact.source == pytest.approx(1.7, abs=0.02)
    assert exact.capacity == pytest.approx(1.3, abs=0.02)
    assert exact.source_error < 0.01


def assert_predicted(law: Any, draws: Any) -> None:
    """Within 4 standard errors and 4%: inputs that are not Gaussian follow the theory approximately."""
    for name in ("test", "train"):
        values, expected = getattr(draws, name), getattr(law, name)
        error = values.std(axis=1, ddof=1) / np.sqrt(draws.paths)
        assert np.all(np.abs(values.mean(axis=1) - expected) <= 4 * error + 0.04 * expected), (name, expected)


def test_regression_on_real_inputs_is_predicted() -> None:
    x = np.random.default_rng(0).standard_normal((300, 30))
    K, y = cs.gram(x) + cs.gram(x) ** 2, np.stack([x[:, 0], x[:, 1] * x[:, 2]], axis=1)
    regression = scaling.KernelRegression(K, y, penalty=2.0)
    law, draws = regression.predicted([30, 100, 200]), regression.measured([30, 100, 200], draws=40, key=1)
    assert_predicted(law, draws)
    assert cs.compare(law, draws).rows[0].at == 200
    again = regression.measured([30, 100, 200], draws=40, key=1)
    np.testing.assert_array_equal(again.test, draws.test)
    t = [0.5, 5.0, 50.0]
    law, draws = regression.predicted_flow(t, 100), regression.measured_flow(t, 100, draws=40, key=1)
    assert_predicted(law, draws)
    linear = scaling.KernelRegression(cs.gram(x), y, penalty=1.0)
    # The product of two coordinates lies along no mode of a linear kernel.
    assert linear.spectrum.rest == pytest.approx(np.mean(y[:, 1] ** 2), rel=0.2)
    plain = scaling.KernelRegression(cs.gram(x), y)
    for each in (linear, plain):
        law, draws = each.predicted([20, 60, 150]), each.measured([20, 60, 150], draws=40, key=1)
        assert_predicted(law, draws)


def test_long_times_of_many_modes_are_quick() -> None:
    model = RandomFeatures(PowerLaw(1.5, 1.25, modes=2000), features=120, samples=200)
    start = time.perf_counter()
    model.losses(np.geomspace(1, 1e7, 100))
    # Two seconds on an idle core; this is for what would be an order slower.
    assert time.perf_counter() - start < 20


def test_results_are_saved_and_resumed(tmp_path: Any) -> None:
    model = RandomFeatures(PowerLaw(1.5, 1.25, modes=60), features=20, samples=30)
    law = model.losses([1.0, 2.0])
    law.save(tmp_path / "law.npz")
    np.testing.assert_array_equal(scaling.ScalingLaw.load(tmp_path / "law.npz").test, law.test)
    plan = scaling.train_networks.plan(model, [1.0, 2.0], draws=20, key=1, checkpoint=tmp_path / "parts")
    first = plan.run()
    again = scaling.train_networks(model, [1.0, 2.0], draws=20, key=1, checkpoint=tmp_path / "parts")
    np.testing.assert_array_equal(first.test, again.test)
    more = scaling.train_networks(model, [1.0, 2.0], draws=9, key=1)
    np.testing.assert_array_equal(more.test, first.test[:, :9])
    first.save(tmp_path / "draws.npz")
    assert scaling.LossCurves.load(tmp_path / "draws.npz").paths == 20
    assert "2 times" in repr(law)
    assert "test" in law._repr_html_()


def test_draws_that_diverge_are_marked() -> None:
    model = RandomFeatures(PowerLaw(1.5, 1.25, modes=60), features=20, samples=30)
    draws = scaling.train_networks(model, [1.0, 400.0], draws=8, rate=4.0)
    assert draws.failures["EXPLODED"] == 8


REFUSED: dict[str, tuple[Any, str]] = {
    "an infinite target": (lambda: PowerLaw(1.0, 1.25), "source must exceed 1"),
    "an infinite trace": (lambda: PowerLaw(1.5, 0.9), "capacity must exceed 1 for infinitely many modes"),
    "eigenvalues that grow": (lambda: PowerLaw(1.5, -1.0, modes=9), "capacity must be positive"),
    "a negative eigenvalue": (lambda: scaling.Spectrum([1.0, -0.1], [1.0, 1.0]), "eigenvalues must not be negative"),
    "targets that do not fit": (lambda: scaling.Spectrum([1.0, 0.1], [1.0]), "target must hold one finite"),
    "no features": (lambda: RandomFeatures(PowerLaw(1.5, 1.25), features=0), "features must be positive"),
    "no spectrum": (lambda: RandomFeatures(3.0), "spectrum must be a PowerLaw"),
    "negative noise": (lambda: RandomFeatures(PowerLaw(1.5, 1.25), noise=-1.0), "noise must be a variance"),
    "unordered times": (lambda: RandomFeatures(PowerLaw(1.5, 1.25)).losses([2.0, 1.0]), "times must have shape"),
    "half an update": (lambda: RandomFeatures(PowerLaw(1.5, 1.25)).losses([0.5], rate=0.1), "whole numbers"),
    "momentum of one": (lambda: RandomFeatures(PowerLaw(1.5, 1.25)).losses([5], rate=0.1, momentum=1.0), "below 1"),
    "an endless contour": (
        lambda: RandomFeatures(PowerLaw(1.5, 1.25), 50).losses([1e7], momentum=1.0),
        "ask for times up to",
    ),
    "several targets that share features": (
        lambda: LearnedFeatures(scaling.Spectrum([1.0, 0.5], np.ones((2, 2)))),
        "one target where features learn",
    ),
    "another word for features": (lambda: RandomFeatures(PowerLaw(1.5, 1.25)).ensemble([1.0], "seeds"), "over must be"),
    "half a member": (lambda: RandomFeatures(PowerLaw(1.5, 1.25)).ensemble([1.0], members=0.5), "at least 1"),
    "fresh samples of a data set": (
        lambda: scaling.online(RandomFeatures(PowerLaw(1.5, 1.25), samples=10), [0.1], 2),
        "samples=np.inf",
    ),
    "a draw of infinitely many modes": (
        lambda: scaling.train_networks(RandomFeatures(PowerLaw(1.5, 1.25), 10, 10), [1.0]),
        "cut it off with modes=",
    ),
    "half a feature": (
        lambda: scaling.train_networks(RandomFeatures(PowerLaw(1.5, 1.25, modes=9), 2.5, 10), [1.0]),
        "features must be an integer",
    ),
    "a loss before training": (lambda: scaling.losses([1.0], [1.0], [0.0, 1.0]), "times must be positive"),
    "no budget": (lambda: scaling.frontier(RandomFeatures(PowerLaw(1.5, 1.25)), [0.0]), "compute must"),
    "more samples than the pool": (
        lambda: scaling.KernelRegression(np.eye(3), [1.0, 2.0, 3.0]).predicted([3]),
        "samples must be whole",
    ),
    "a pool without targets": (lambda: scaling.KernelRegression(np.eye(3), [1.0, 2.0]), "one finite row per input"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_one_sentence(what: str) -> None:
    call, sentence = REFUSED[what]
    with pytest.raises(ValueError, match=sentence) as caught:
        call()
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_what_has_no_finite_loss_is_warned_of() -> None:
    spectrum = PowerLaw(1.5, 1.25, modes=200)
    with pytest.warns(scaling.UnstableTrainingWarning, match="double descent"):
        assert RandomFeatures(spectrum, 50, 50).plateau()[0] == INF
    with pytest.warns(scaling.TruncatedSpectrumWarning, match="cut the power law off"):
        scaling.frontier(RandomFeatures(spectrum), [1e3])
    with pytest.warns(scaling.UnstableTrainingWarning, match="gradient descent diverges"):
        law = RandomFeatures(spectrum, 50, 80).losses([1, 50], rate=3.0)
    assert law.test[1] > law.test[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RandomFeatures(spectrum, 50, 50).losses([1, 50], rate=0.5)


def test_the_edge_of_a_white_spectrum_is_that_of_marchenko_and_pastur() -> None:
    modes = known.white().modes
    assert edge(modes, Sizes(INF, 100)) == pytest.approx((1 + 400**0.5 / 100**0.5) ** 2, rel=1e-9)
    assert edge(modes, Sizes(INF, INF)) == pytest.approx(1.0, rel=1e-4)
