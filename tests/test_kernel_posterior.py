"""The posterior of mean-field networks: closed forms, other programs, sampled networks of finite width."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import gamma as gamma_law

import covsde as cs
from covsde.architectures.mean_field.posterior import Problem, nodes_for, saddle

K3 = [[1.0, 0.4, 0.6], [0.4, 1.0, -0.2], [0.6, -0.2, 1.0]]
NONE = float("nan")
Y = [1.0, -0.7, NONE]
PAIR = [[1.0, 0.3], [0.3, 1.5]]

# K = 1.2, y = 0.9, γ₀ = 1.5, T = 1/3: Φ^1 … Φ^L and f, by depth.
LINEAR = {
    1: ((2.002632972876,), 0.771573490079),
    2: ((1.826978887611, 2.781543213145), 0.803687996772),
    3: ((1.718172388857, 2.460096964859, 3.522392232444), 0.822193632591),
}
# E f of networks of width 32, 64, 128, and N times the gap to the limit as N → ∞.
FINITE = {
    1: ((0.7678935, 0.7697455, 0.7706625), -0.1163),
    2: ((0.7982934, 0.8010130, 0.8023560), -0.1699),
    3: ((0.8158833, 0.8190684, 0.8206385), -0.1982),
}
# tanh on `K3`: depth, γ₀, T, targets; f of the limit by another program; f extrapolated from Hamiltonian Monte Carlo
# on raw weights at widths from 32 on, with its standard errors.
TANH = {
    "P1": ((1, 1.5, 0.25, Y), (0.71204, -0.51196, 0.70905), ((0.71204, 15), (-0.51175, 15), (0.70915, 37))),
    "P2": ((2, 1.5, 0.25, Y), (0.698065, -0.540305, 0.675539), ((0.6977, 80), (-0.5416, 90), (0.6773, 160))),
    "P3": ((3, 1.2, 0.2, Y), (0.70579, -0.55755, 0.67548), ((0.7063, 100), (-0.5559, 100), (0.6758, 180))),
}
TWO = [[1.0, 0.4], [-0.7, 0.6], [NONE, NONE]]
TWO_OUTPUTS = [[0.65628, 0.21265], [-0.47110, 0.33257], [0.64310, 0.02168]]


@pytest.mark.parametrize("depth", LINEAR)
def test_linear_networks_have_a_closed_form(depth: int) -> None:
    Phi, f = LINEAR[depth]
    found = cs.kernel_posterior(
        cs.MeanFieldMLP("linear", depth), [[1.2]], targets=[0.9], temperature=1 / 3, richness=1.5
    )
    np.testing.assert_allclose(found.Phi[:, 0, 0], Phi, rtol=1e-11)
    assert found.outputs[0] == pytest.approx(f, rel=1e-11)


def expected_output(depth: int, width: int) -> float:
    """E f of linear networks of one input, exact at every width: q = k Π χ²_N/N under its posterior, by quadrature."""
    k, y, richness, T = 1.2, 0.9, 1.5, 1 / 3
    x, w = np.polynomial.legendre.leggauss(120)
    low, high = 0.02, 4.5
    at = (low + high) / 2 + (high - low) / 2 * x
    log_w = np.log(w) + gamma_law.logpdf(at, width / 2, scale=2 / width)
    q, log_p = np.array([k]), np.array([0.0])
    for _ in range(depth):
        q, log_p = (q[:, None] * at[None]).ravel(), (log_p[:, None] + log_w[None]).ravel()
    log_p = log_p - 0.5 * np.log(q + T) - width * richness**2 * y**2 / (2 * (q + T))
    p = np.exp(log_p - log_p.max())
    return float(np.sum(p * q * y / (q + T)) / p.sum())


@pytest.mark.parametrize("depth", FINITE)
def test_networks_of_finite_width_approach_it_like_one_over_width(depth: int) -> None:
    values, slope = FINITE[depth]
    limit = cs.kernel_posterior(
        cs.MeanFieldMLP("linear", depth), [[1.2]], targets=[0.9], temperature=1 / 3, richness=1.5
    ).outputs[0]
    exact = [expected_output(depth, width) for width in (32, 64, 128)]
    np.testing.assert_allclose(exact, values, atol=2e-6)
    gaps = np.array([32, 64, 128]) * (np.array(exact) - limit)
    assert 2 * gaps[2] - gaps[1] == pytest.approx(slope, abs=2e-3)


def test_without_noise_linear_networks_interpolate_and_still_learn_kernels() -> None:
    mlp = cs.MeanFieldMLP("linear", 2)
    found = cs.kernel_posterior(mlp, PAIR, targets=[0.9, -0.4], temperature=0, richness=1.0)
    expected = [[1.8992466, -0.09966516], [-0.09966516, 1.67762896]]
    np.testing.assert_allclose(found.Phi[-1], expected, atol=1e-7)
    np.testing.assert_allclose(found.outputs, [0.9, -0.4], rtol=1e-12)
    near = cs.kernel_posterior(mlp, PAIR, targets=[0.9, -0.4], temperature=1e-7, richness=1.0)
    np.testing.assert_allclose(near.Phi, found.Phi, atol=1e-6)


@pytest.mark.parametrize("slope", [1.0, 0.7])
def test_the_closed_form_is_the_saddle_of_the_general_equations(slope: float) -> None:
    def fn(x: Any) -> Any:
        return slope * x

    V, y = np.array(K3), np.array([[1.0, 0.4], [-0.7, 0.6]])
    targets = np.vstack([y, [[NONE, NONE]]])
    closed = cs.kernel_posterior(cs.MeanFieldMLP(fn, 2), V, targets=targets, temperature=0.3, richness=0.6)
    problem = Problem(fn, 2, jnp.asarray(V[:2, :2]), jnp.asarray(y), jnp.asarray(0.3))
    general = saddle(problem, jnp.asarray(V[2:, :2]), jnp.asarray(V[2:, 2:]), 0.6, nodes_for(2, None))
    np.testing.assert_allclose(general.Phi, closed.Phi, atol=1e-8)
    np.testing.assert_allclose(general.outputs, closed.outputs, atol=1e-8)
    np.testing.assert_allclose(general.tilt, closed.tilt, atol=1e-7)
    assert float(general.log_evidence) == pytest.approx(float(closed.log_evidence), abs=1e-8)


def test_relu_of_one_input_has_a_closed_form() -> None:
    found = cs.kernel_posterior(cs.MeanFieldMLP("relu", 1), [[1.2]], targets=[0.9], temperature=0.2, richness=1.0)
    # v = (1/k - γ²α²)⁻¹, Z = √(v/k), Φ = Z v/(1 + Z).
    assert found.Phi[0, 0, 0] == pytest.approx(1.2634552025, abs=1e-6)
    assert found.outputs[0] == pytest.approx(0.7770034097, abs=1e-6)
    v = 1 / (1 / 1.2 - found.alpha[0] ** 2)
    assert found.Phi[0, 0, 0] == pytest.approx(np.sqrt(v / 1.2) * v / (1 + np.sqrt(v / 1.2)), rel=1e-6)


@pytest.mark.parametrize("name", TANH)
def test_tanh_is_that_of_another_program_and_of_sampled_networks(name: str) -> None:
    (depth, richness, temperature, y), theirs, sampled = TANH[name]
    found = cs.kernel_posterior(
        cs.MeanFieldMLP("tanh", depth), K3, targets=y, temperature=temperature, richness=richness
    )
    np.testing.assert_allclose(found.outputs, theirs, atol=3e-5)
    for f, (value, error) in zip(found.outputs, sampled, strict=True):
        assert abs(f - value) < 4e-5 * error
    # On inputs with targets f = y - T α.
    np.testing.assert_allclose(found.outputs[:2], np.array(y[:2]) - temperature * found.alpha, rtol=1e-9)


def test_several_outputs_share_kernels() -> None:
    found = cs.kernel_posterior(cs.MeanFieldMLP("tanh", 2), K3, targets=TWO, temperature=0.25, richness=1.3)
    np.testing.assert_allclose(found.outputs, TWO_OUTPUTS, atol=1e-5)


def test_at_richness_0_it_is_regression_with_the_gaussian_process() -> None:
    mlp = cs.MeanFieldMLP("erf", 2)
    found = cs.kernel_posterior(mlp, K3, targets=Y, temperature=0.3, richness=0.0)
    nngp = np.asarray(cs.kernels(mlp, K3).nngp)
    np.testing.assert_allclose(found.Phi[-1], nngp, atol=1e-8)
    expected = nngp[:, :2] @ np.linalg.solve(nngp[:2, :2] + 0.3 * np.eye(2), Y[:2])
    np.testing.assert_allclose(found.outputs, expected, atol=1e-8)
    np.testing.assert_allclose(found.nngp_outputs, found.outputs)
    assert np.all(found.tilt == 0)
    small = cs.kernel_posterior(mlp, K3, targets=Y, temperature=0.3, richness=0.05)
    assert np.max(np.abs(small.outputs - found.outputs)) < 0.003


def test_the_evidence_changes_with_richness_by_the_fit() -> None:
    def at(richness: float) -> Any:
        return cs.kernel_posterior(cs.MeanFieldMLP("tanh", 2), K3, targets=Y, temperature=0.25, richness=richness)

    low, middle, high = (at(g) for g in (1.19, 1.2, 1.21))
    slope = (high.log_evidence - low.log_evidence) / (1.21**2 - 1.19**2)
    assert slope == pytest.approx(-0.5 * np.array(Y[:2]) @ middle.alpha, rel=1e-4)


def test_order_and_number_of_inputs_do_not_matter(tmp_path: Any) -> None:
    mlp = cs.MeanFieldMLP("tanh", 2)
    found = cs.kernel_posterior(mlp, K3, targets=Y, temperature=0.25)
    order = [2, 0, 1]
    moved = cs.kernel_posterior(mlp, np.array(K3)[np.ix_(order, order)], targets=np.array(Y)[order], temperature=0.25)
    np.testing.assert_allclose(moved.outputs, found.outputs[order], atol=1e-9)
    np.testing.assert_allclose(moved.Phi, found.Phi[:, order][:, :, order], atol=1e-9)
    found.save(tmp_path / "found.npz")
    np.testing.assert_array_equal(cs.KernelPosterior.load(tmp_path / "found.npz").Phi, found.Phi)


def test_sampled_nodes_agree_with_quadrature() -> None:
    """Four inputs with targets, the fourth all but independent of the others and of target 0."""
    V = np.eye(4)
    V[:3, :3] = K3
    y = [1.0, -0.7, 0.4]
    three = cs.kernel_posterior(cs.MeanFieldMLP("tanh", 1), K3, targets=y, temperature=0.5)
    four = cs.kernel_posterior(cs.MeanFieldMLP("tanh", 1), V, targets=[*y, 0.0], temperature=0.5, key=1)
    error = four.standard_error["outputs"]
    assert np.all(error < 0.01)
    # An odd function of an independent input averages to 0, and a target of 0 does not tilt it.
    assert np.all(np.abs(four.outputs[:3] - three.outputs) < 5 * error[:3] + 1e-3)
    assert abs(four.outputs[3]) < 5 * error[3] + 1e-3


@pytest.mark.parametrize(
    ("part", "given"),
    [
        ("temperature", {"temperature": 0.0}),
        ("temperature", {"temperature": -1.0}),
        ("richness", {"richness": -0.5}),
        ("targets", {"targets": [NONE, NONE, NONE]}),
        ("targets", {"targets": [[1.0, NONE], [0.5, 0.2], [NONE, NONE]]}),
        ("V0", {"V0": np.ones((3, 3))}),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(part: str, given: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"V0": K3, "targets": Y, "temperature": 0.25} | given
    V0 = arguments.pop("V0")
    with pytest.raises(ValueError, match=part) as refusal:
        cs.kernel_posterior(cs.MeanFieldMLP("tanh", 1), V0, **arguments)
    assert "\n" not in str(refusal.value)


def test_what_averages_cannot_reach_is_refused_with_the_richness() -> None:
    with pytest.raises(ValueError, match="richness"):
        cs.kernel_posterior(cs.MeanFieldMLP("relu", 1), K3, targets=[9.0, 9.0, -9.0], temperature=0.01, richness=9.0)
    with pytest.raises(ValueError, match="activation grows faster than linearly"):
        cs.kernel_posterior(cs.MeanFieldMLP(lambda x: x + 0.3 * x**3, 1), [[1.0]], targets=[1.0], temperature=0.1)
