"""Sign descent and Adam at depth ~ width, kernels of every output, and sharpness."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

import covsde as cs
from covsde.architectures.mlp.network import training as of_networks
from covsde.architectures.mlp.training import MLPTraining
from covsde.descent import rules
from covsde.descent.task import Sizes, task_from
from covsde.inputs.data import Data

T = 0.5
TANH = cs.MLP(cs.ShapedSmooth(jnp.tanh), T)
V2 = np.array([[1, 0.3], [0.3, 1]])
V3 = np.array([[1, 0.5, -0.2], [0.5, 1, 0.1], [-0.2, 0.1, 1]])


# --- the closed update ------------------------------------------------------------------------------------------------


def test_a_sign_of_one_label_is_gradient_descent_normalised_per_layer() -> None:
    K = rules.sign_coefficients(jnp.array([[2.0]]), jnp.array([[3.0]]))
    np.testing.assert_allclose(K, 2 / np.pi / np.sqrt(6), rtol=1e-12)


def test_the_coefficients_of_a_sign_are_means_over_gaussian_pairs() -> None:
    # K = G̃⁻¹ E[sign(g·h) g hᵀ] Φ⁻¹, within 5 standard errors of the mean over 2·10⁶ pairs, in 20 batches.
    rng = np.random.default_rng(0)
    Phi, G = (A @ A.T for A in rng.standard_normal((2, 3, 3)))
    g, h = (np.linalg.cholesky(S) @ rng.standard_normal((20, 3, 100_000)) for S in (G, Phi))
    psi = np.sign(np.sum(g * h, axis=1, keepdims=True))
    batches = np.linalg.inv(G) @ ((g * psi) @ np.swapaxes(h, 1, 2) / g.shape[2]) @ np.linalg.inv(Phi)
    K = np.asarray(rules.sign_coefficients(jnp.asarray(Phi), jnp.asarray(G)))
    se = batches.std(axis=0, ddof=1) / np.sqrt(20)
    assert np.all(np.abs(batches.mean(axis=0) - K) < 5 * se)
    assert np.any(np.abs(batches.mean(axis=0) - 1.1 * K) > 20 * se)  # 10 % more would be seen


def test_a_sign_of_a_rank_one_gradient_has_rank_one() -> None:
    # All g are multiples of one vector, as in linear networks: sign(U) = sign(g) sign(h)ᵀ with h = Σ u_b h(b).
    rng = np.random.default_rng(1)
    A, u = rng.standard_normal((3, 3)), np.array([1.0, 2.0, -1.0])
    Phi = A @ A.T
    K = np.asarray(rules.sign_coefficients(jnp.asarray(Phi), jnp.asarray(np.outer(u, u))))
    np.testing.assert_allclose(u @ K, 2 / np.pi / np.sqrt(u @ Phi @ u) * u, rtol=1e-6)


def test_of_inputs_that_are_one_the_coefficients_are_those_of_one() -> None:
    one = np.ones((2, 2))
    K = np.asarray(rules.sign_coefficients(jnp.asarray(one), jnp.asarray(one)))
    np.testing.assert_allclose(K.sum(), 2 / np.pi, rtol=1e-6)  # sign(2 g hᵀ) acts as (ΣK) g hᵀ


def test_without_errors_a_sign_moves_nothing() -> None:
    zero = np.asarray(rules.sign_coefficients(jnp.eye(2), jnp.zeros((2, 2))))
    np.testing.assert_array_equal(zero, 0)


@pytest.fixture(scope="module")
def paired() -> dict[int, tuple[NDArray[Any], NDArray[Any]]]:
    """Outputs of the same networks under signs of every entry, and under the update that the limit sees."""
    found = {}
    for n in (12, 36):
        steps: dict[str, Any] = {"loss": "squared", "updates": 2, "substeps": 1, "settings": MLPTraining()}
        task = task_from(Data(V2, np.array([1.0, -1.0])), optimizer=cs.Sign(1.0), **steps).arrays(jnp.float64)
        sizes, both = Sizes(n // 2, (0, n // 2), 150, n, "weights", False), []
        for rule in (rules.entry_rule, rules.sign_rule):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(of_networks, "of_networks", rule)
                ends = task.settings.ends(jnp.float64)
                run = of_networks.train_weights(TANH.activation, task, sizes, jax.random.key(1), ends)
            both.append(np.asarray(run.outputs)[:, :, 0])
        found[n] = both[0], both[1]
    return found


def test_what_the_limit_sees_of_a_sign_differs_from_it_by_one_over_the_width(
    paired: dict[int, tuple[NDArray[Any], NDArray[Any]]],
) -> None:
    # On the same weights; medians over 150 networks of |f_k - f_0| and of the distance between the two.
    moved, apart = (np.array([np.median(np.abs(u).mean(axis=1), axis=-1)[1:] for u in both]) for both in (
        [a - a[:1] for a, _ in paired.values()],
        [a - b for a, b in paired.values()],
    ))  # fmt: skip
    assert np.all(moved > 0.14)  # what moves does not depend on the width: η₀/n² is the scale
    np.testing.assert_allclose(moved[0], moved[1], rtol=0.15)
    ratio = apart[0] / apart[1]  # 3 times the width
    assert np.all((ratio > 2) & (ratio < 4))
    assert np.all(apart[1] < 0.05 * moved[1])


@pytest.mark.thorough
def test_the_limit_of_sign_descent_is_that_of_networks() -> None:
    # Means of f - f(0) along the targets and of movement: limit, networks of 32 and 96; 4 standard errors.
    y = np.array([1.0, -1.0])
    task: dict[str, Any] = {"targets": y, "optimizer": cs.Sign(1.0), "updates": 3, "dtype": "float32"}

    def measured(run: cs.Training) -> NDArray[Any]:
        f = np.clip(run.outputs, -3, 3)
        change = ((f - f[:1]) @ y / 2)[1:]
        return np.concatenate([change, run.movement()[-1:]])

    limit = measured(cs.train(TANH, V2, paths=2000, key=0, **task))
    for n in (32, 96):
        found = measured(cs.train_networks(TANH, V2, width=n, draws=1200, key=n, method="weights", **task))
        spread = [np.var(u, axis=1) / u.shape[1] for u in (limit, found)]
        z = (found.mean(axis=1) - limit.mean(axis=1)) / np.sqrt(sum(spread))
        assert np.all(np.abs(z) < 4)


# --- Adam -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", ["limit", "networks"])
def test_the_first_update_of_adam_is_a_sign_and_so_is_every_one_without_memory(face: str) -> None:
    def outputs(optimizer: Any) -> NDArray[Any]:
        task: dict[str, Any] = {"targets": [1.0, -1.0], "optimizer": optimizer, "updates": 2, "key": 0}
        if face == "limit":
            return cs.train(TANH, V2, steps=16, paths=4, **task).outputs
        return cs.train_networks(TANH, V2, width=32, draws=4, method="weights", **task).outputs

    sign, adam = outputs(cs.Sign(0.5)), outputs(cs.Adam(0.5, beta1=0.5, beta2=0.9))
    # Of the limit Adam takes the entries of its layers, and a sign its mean over all that they could be.
    np.testing.assert_allclose(adam[1], sign[1], rtol=1e-10 if face == "networks" else 0, atol=0.05)
    assert np.all(np.abs(adam[2] - sign[2]).max(axis=1) > 1e-4)
    if face == "networks":
        np.testing.assert_allclose(outputs(cs.Adam(0.5, beta1=0.0, beta2=0.0)), sign, rtol=1e-10)


def test_adam_without_an_epsilon_is_that_of_optax() -> None:
    optax = pytest.importorskip("optax")
    task: dict[str, Any] = {"targets": [1.0, -1.0], "updates": 3, "width": 16, "draws": 3, "method": "weights"}
    ours = cs.train_networks(TANH, V2, optimizer=cs.Adam(1.0, 0.9, 0.95), **task)
    theirs = cs.train_networks(TANH, V2, optimizer=optax.adam(1.0 / 16**2, b1=0.9, b2=0.95, eps=0.0), **task)
    np.testing.assert_allclose(ours.outputs, theirs.outputs, rtol=1e-9)


# --- every output, and sharpness --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classes() -> cs.Training:
    """Three classes, one test input, a rate so small that outputs move by the tangent kernel."""
    settings: dict[str, Any] = {"loss": "cross_entropy", "batches": [0, 1], "updates": 1, "learning_rate": 1e-6}
    return cs.train(TANH, V3, targets=[0, 2, 1], kernels="outputs", method="weights", steps=16, paths=5, **settings)


def errors_of(run: cs.Training) -> NDArray[Any]:
    """Δ of the labels, (N, paths, C)."""
    f = run.outputs[run.labels[:, 0], :, run.labels[:, 1]]
    p = np.exp(f) / np.exp(f).sum(axis=-1, keepdims=True)
    return np.eye(3)[np.array([0, 2, 1])[run.labels[:, 1]]][:, None] - p


def test_kernels_of_outputs_add_up_to_those_of_what_is_pulled_back(classes: cs.Training) -> None:
    errors = errors_of(classes)
    G = np.einsum("apc,tpacbd,bpd->tpab", errors, classes.G_outputs, errors)
    np.testing.assert_allclose(G, classes.G, atol=1e-12)


def test_the_kernel_of_outputs_is_how_they_move(classes: cs.Training) -> None:
    # f_c(x, 1) - f_c(x, 0) = η₀ s²T Σ Θ_{xc, x'c'} Δ_{x'c'} for a small rate.
    errors = errors_of(classes)[:2]
    theta = classes.metadata["tangent_scale"] * classes.ntk_outputs[0]
    moved = (classes.outputs[1] - classes.outputs[0])[:, :2] / 1e-6
    np.testing.assert_allclose(moved, np.einsum("pacbd,bpd->pac", theta, errors), rtol=1e-4, atol=1e-7)


def test_sharpness_of_several_outputs_is_of_the_second_derivative_of_the_loss(classes: cs.Training) -> None:
    # In the norm of Θ: the largest eigenvalue of Θ H is that of H^{1/2} Θ H^{1/2}, H = diag p - p pᵀ per input.
    f = classes.outputs[0][:, :2]
    p = np.exp(f) / np.exp(f).sum(axis=-1, keepdims=True)
    theta = classes.metadata["tangent_scale"] * classes.ntk_outputs[0].reshape(5, 6, 6)
    for path in range(5):
        H = np.zeros((6, 6))
        for a in range(2):
            H[3 * a : 3 * a + 3, 3 * a : 3 * a + 3] = np.diag(p[path, a]) - np.outer(p[path, a], p[path, a])
        largest = np.linalg.eigvals(theta[path] @ H).real.max()
        np.testing.assert_allclose(classes.sharpness()[0, path], largest, rtol=1e-8)


def test_sharpness_of_a_result_is_in_its_file_and_of_its_loss(tmp_path: Any) -> None:
    run = cs.train(TANH, V2, targets=[1, -1], loss="logistic", updates=1, paths=4, steps=50)
    run.save(tmp_path / "run.npz")
    np.testing.assert_array_equal(cs.Training.load(tmp_path / "run.npz").sharpness(), run.sharpness())
    p = 1 / (1 + np.exp(-run.outputs[0]))
    root = np.sqrt(p * (1 - p))
    expected = np.linalg.eigvalsh(root[:, :, None] * 0.5 * run.ntk[0] * root[:, None, :])[:, -1]
    np.testing.assert_allclose(run.sharpness()[0], expected, rtol=1e-8)


# --- refusals ---------------------------------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"optimizer": cs.Sign(1.0), "method": "law"}, r"optimizer must be a cs\.SGD, linear in the gradients"),
    ({"optimizer": cs.Sign([1.0, 0.5])}, "learning_rate must be a number or one for each of the 3 updates, got 2"),
    ({"optimizer": cs.Adam(1.0), "train_readout": True}, r"train_readout=True is for cs\.SGD"),
    ({"optimizer": cs.Sign(1.0), "substeps": 2}, "substeps is for gradient descent without momentum"),
    ({"kernels": "all"}, "kernels must be True, False or 'outputs', got 'all'"),
    ({"targets": np.eye(2), "kernels": "outputs", "method": "law"}, "kernels='outputs' of several outputs needs"),
]


@pytest.mark.parametrize(("given", "sentence"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_what_has_no_limit_is_refused_in_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        cs.train.plan(TANH, V2, **({"targets": [1.0, -1.0]} | given))


@pytest.mark.parametrize("beta", [-0.1, 1.0])
def test_a_mean_that_never_changes_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match=r"beta2 must lie in \[0, 1\)"):
        cs.Adam(1.0, beta2=beta)


def test_sharpness_asks_for_the_kernels_that_it_needs() -> None:
    run = cs.train(TANH, V2, targets=np.eye(2), updates=0, paths=2, steps=50)
    with pytest.raises(ValueError, match="train with kernels='outputs'"):
        run.sharpness()
