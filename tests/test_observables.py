"""What trainings tell beside outputs and losses: ensembles of networks, centred losses, movement of gradients."""

import numpy as np
import pytest

import covsde as cs

V0 = np.array([[1.0, 0.3, 0.5], [0.3, 1.0, 0.1], [0.5, 0.1, 1.0]])
LINEAR = cs.MLP(cs.Identity(), 0.4)


@pytest.fixture(scope="module")
def run() -> cs.Training:
    """Two trained inputs and a test, one output."""
    return cs.train(
        LINEAR, V0, targets=[1.0, -1.0, 0.5], batches=[0, 1], updates=2, paths=200, steps=20, progress=False
    )


@pytest.fixture(scope="module")
def classes() -> cs.Training:
    """Three classes, with the gradients of each output."""
    y, settings = [0, 1, 2], {"loss": "cross_entropy", "kernels": "outputs", "method": "weights", "step_error": False}
    return cs.train(LINEAR, V0, targets=y, updates=2, paths=40, steps=8, progress=False, **settings)


@pytest.mark.parametrize("trained", [True, False])
def test_the_mean_of_losses_is_that_of_an_ensemble_and_half_the_variance(run: cs.Training, trained: bool) -> None:
    inputs = [0, 1] if trained else [2]
    outputs, losses = run.outputs[:, :, inputs], run.losses if trained else run.test_losses
    spread = 0.5 * outputs.var(axis=1, ddof=1).sum(axis=-1)
    ensemble, error = run.ensembled(trained)
    np.testing.assert_allclose(losses.mean(axis=1), ensemble + spread, rtol=1e-10)
    # To leading order the loss of a mean is as uncertain as its linearisation.
    slope = outputs.mean(axis=1) - run.targets[inputs]
    linear = np.einsum("kri,ki->kr", outputs, slope).std(axis=1, ddof=1) / np.sqrt(run.paths)
    np.testing.assert_allclose(error, linear, rtol=0.1)


def test_an_ensemble_classifies_by_its_mean_output(classes: cs.Training) -> None:
    value, error = classes.ensembled(accuracy=True)
    mean = classes.outputs.mean(axis=1)
    np.testing.assert_array_equal(value, (mean.argmax(axis=-1) == np.arange(3)).mean(axis=-1))
    assert error.shape == (3,)
    # Cross-entropy is convex.
    assert np.all(classes.ensembled().value < classes.losses.mean(axis=1))


def test_a_resnet_s_networks_have_means_over_their_inputs() -> None:
    networks = cs.train_networks(
        cs.ResNet("tanh"), V0, targets=[1.0, -1.0, 0.5], updates=1, width=24, draws=30, progress=False
    )
    spread = 0.5 * networks.outputs.var(axis=1, ddof=1).mean(axis=-1)
    np.testing.assert_allclose(networks.losses.mean(axis=1), networks.ensembled().value + spread, rtol=1e-10)


@pytest.mark.parametrize("method", ["law", "weights"])
def test_losses_of_centred_training_are_of_what_is_trained(method: str) -> None:
    y = np.array([1.0, -1.0, 0.5])
    run = cs.train_networks(
        LINEAR,
        V0,
        targets=y,
        batches=[0, 1],
        centred=True,
        updates=2,
        width=24,
        draws=20,
        method=method,
        progress=False,
    )
    assert run.test_losses is not None
    np.testing.assert_allclose(run.losses[0], 1.0)
    np.testing.assert_allclose(run.test_losses[0], 0.125)
    f = run.outputs - run.outputs[:1]
    np.testing.assert_allclose(run.losses, 0.5 * np.sum((f - y)[:, :, :2] ** 2, axis=2), rtol=1e-10)
    assert np.median(run.losses[2]) < 1.0
    np.testing.assert_array_equal(run.accuracy()[1], (np.sign(f[1, :, :2]) == np.sign(y[:2])).mean(axis=1))


def test_gradients_move_by_the_covariance_of_their_changes(run: cs.Training, classes: cs.Training) -> None:
    a, b = run.label(2, 1), run.label(0, 1)
    moved = run.gradient_movement(2, 1)
    np.testing.assert_allclose(moved, run.G[..., a, a] + run.G[..., b, b] - 2 * run.G[..., a, b])
    assert np.all(moved > -1e-12)
    np.testing.assert_allclose(run.gradient_movement(0), 0, atol=1e-12)
    G = classes.G_outputs
    assert G is not None
    a, b = classes.label(1, 2), classes.label(0, 2)
    of_each = [G[..., a, c, a, c] + G[..., b, c, b, c] - G[..., a, c, b, c] - G[..., b, c, a, c] for c in range(3)]
    np.testing.assert_allclose(classes.gradient_movement(1, 2), sum(of_each), rtol=1e-9, atol=1e-14)
    with pytest.raises(ValueError, match="train with kernels='outputs'"):
        cs.train(
            LINEAR, V0, targets=[0, 1, 2], loss="cross_entropy", updates=1, paths=4, steps=20, progress=False
        ).gradient_movement()
