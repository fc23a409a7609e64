"""Parameterisations: tables against the requirements they come from, measured on networks."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covsde as cs
from covsde.transfer.network import ScaledNetwork, linearisation_gap, scaled_rates, train_scaled
from covsde.transfer.tables import Factors, factors, table

BASE: dict[str, Any] = {"base_width": 8, "base_depth": 2}
X = jnp.asarray(np.random.default_rng(0).standard_normal((3, 5)))
Y = jnp.asarray([0.5, -0.2, 0.3])


def loss(f: jax.Array, y: jax.Array) -> jax.Array:
    return 0.5 * jnp.mean((f[:, 0] - y) ** 2)


def network(f: Factors, width: int, depth: int, seed: int = 0, matrices: int = 1) -> ScaledNetwork:
    shape: dict[str, Any] = {"inputs": 5, "width": width, "depth": depth, "classes": 1, "matrices": matrices}
    return ScaledNetwork(jnp.tanh, f, jax.random.key(seed), **shape, **BASE, dtype=jnp.dtype(float))


def trained(net: ScaledNetwork, f: Factors, rate: float, optimiser: str, steps: int = 1) -> ScaledNetwork:
    rates = scaled_rates(net, f, jnp.asarray(rate))
    settings: dict[str, Any] = {"loss": loss, "steps": steps, "batch": 3, "optimiser": optimiser}
    return train_scaled(net, rates, X, Y, jax.random.key(1), **settings)[0]


def test_all_parameterisations_with_skips_coincide_at_the_base_shape() -> None:
    plain = Factors((1.0,) * 3, (1.0,) * 3, (1.0,) * 3, 1.0, 1.0, 1.0)
    for name in cs.PARAMETERISATIONS:
        found = factors(name, 8, 2, **BASE)
        assert found._replace(skip=1.0) == plain
        assert found.skip == (name != "proportional")


def test_the_network_is_what_it_says_and_sgd_is_gradient_descent() -> None:
    f = factors("√depth-μP", 12, 3, **BASE)
    net = network(f, 12, 3)
    first, (hidden,), last = (
        np.asarray(W) if not isinstance(W, tuple) else tuple(map(np.asarray, W)) for W in net.weights
    )
    h = np.asarray(X) @ first.T / np.sqrt(5)
    for W in hidden:
        # Width 12, depth 3: h + L^{-1/2} n^{-1/2} W φ(h), whatever the base shape.
        h = h + 3**-0.5 * 12**-0.5 * np.tanh(h) @ W.T
    np.testing.assert_allclose(net(X), h @ last.T / np.sqrt(8) * (8 / 12), rtol=1e-10)
    after = trained(net, f, 0.1, "sgd")
    slopes = jax.grad(lambda W: loss(_with(net, W)(X), Y))(net.weights)
    rates = (0.1 * 1.5, (0.1 * 1.5,), 0.1 * 1.5)
    expected = jax.tree.map(lambda W, g, r: W - r * g, net.weights, slopes, rates)
    for a, b in zip(jax.tree.leaves(after.weights), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def _with(net: ScaledNetwork, weights: Any) -> ScaledNetwork:
    return eqx.tree_at(lambda n: n.weights, net, weights)


@pytest.mark.parametrize("name", ["μP", "√depth-μP", "CompleteP"])
def test_features_and_outputs_move_by_order_one_at_any_width_and_depth(name: str) -> None:
    p = cs.PARAMETERISATIONS[name]

    def total(width_or_depth: int, *parts: Any) -> float:
        return sum(part[width_or_depth] for part in parts)

    # Adam moves every entry by its rate, coherently over n neurons and L blocks; under SGD gradients carry the factors
    # between them and the output.
    assert total(0, p.hidden.multiplier, p.hidden.adam) == -1
    assert total(0, p.output.multiplier, p.output.adam) == -1
    assert total(0, p.input.multiplier, p.input.adam) == 0
    assert total(0, p.hidden.multiplier, p.hidden.multiplier, p.hidden.sgd, p.output.multiplier) == -1
    assert total(0, p.output.multiplier, p.output.multiplier, p.output.sgd) == -1
    assert total(0, p.input.multiplier, p.input.multiplier, p.input.sgd, p.output.multiplier) == 0
    if name != "μP":
        assert total(1, p.branch, p.hidden.adam) == -1
        assert total(1, p.branch, p.branch, p.hidden.sgd) == -1
        assert total(1, p.branch) <= -0.5  # stable before training


def test_the_gap_to_the_linearisation_is_the_product_of_both_changes() -> None:
    f = factors("CompleteP", 8, 2, **BASE)
    one, two = (network(f, 8, 2, matrices=k) for k in (1, 2))
    h = jnp.asarray(np.random.default_rng(1).standard_normal((3, 8)))

    def moved(net: ScaledNetwork) -> ScaledNetwork:
        first, hidden, last = net.weights
        return _with(net, (first, tuple(W + 0.1 * jnp.flip(W) for W in hidden), last))

    # One matrix: the block is linear in it.
    assert float(linearisation_gap(one, moved(one), h, 1)) == pytest.approx(0, abs=1e-12)
    linear = eqx.tree_at(lambda n: n.shaping, two, jnp.asarray(1e4))  # s tanh(x/s) = x
    W1, W2 = (np.asarray(W[1]) for W in linear.weights[1])
    D1, D2 = (0.1 * np.asarray(jnp.flip(W)[1]) for W in linear.weights[1])
    exact = np.linalg.norm(h @ (D2 @ D1).T) / np.linalg.norm(h @ (D2 @ W1 + W2 @ D1).T)
    assert float(linearisation_gap(linear, moved(linear), h, 1)) == pytest.approx(exact, rel=1e-6)


def test_tables_and_errors() -> None:
    rows = table("adam").splitlines()
    assert len(rows) == 2 + len(cs.PARAMETERISATIONS)
    assert "| L^{-0.5} |" in next(row for row in rows if "√depth-μP" in row)
    own = cs.Parameterisation("own", cs.Scaling(), cs.Scaling(sgd=(1, -1)), cs.Scaling())
    assert factors(own, 16, 8, **BASE).rate == (1.0, 0.5, 1.0)
    with pytest.raises(ValueError, match="parameterisation must be one of SP, NTK"):
        factors("mup", 8, 2, **BASE)
    with pytest.raises(ValueError, match="optimiser must be 'sgd' or 'adam'"):
        factors("SP", 8, 2, optimiser="lion", **BASE)
