"""Students with real weights: f = u·Aψ/√N on frozen features, and f = w·BAψ/√N on features that learn."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class Student(eqx.Module):
    """A linear student, whose training is that of `features` w and B.

    Args:
        A: (N, M) frozen features, standard normal.
        w: (N,) or (N, outputs), readout, 0 before training.
        B: (N, N), 1 before training, or None where features stay.
    """

    A: Float[Array, "N M"]
    w: Float[Array, "N ..."]
    B: Float[Array, "N N"] | None

    def __call__(self, psi: Float[Array, " M"]) -> Array:
        """Output for one input."""
        hidden = jax.lax.stop_gradient(self.A) @ psi / jnp.sqrt(self.A.shape[0])
        return self.w.T @ (hidden if self.B is None else self.B @ hidden)


class Draw(eqx.Module):
    """A student before training, and the samples it is trained on.

    Args:
        student: its weights.
        inputs: Ψ, (P, M).
        labels: (P,) or (P, outputs).
    """

    student: Student
    inputs: Float[Array, "P M"]
    labels: Float[Array, "P ..."]


def draw_features(key: PRNGKeyArray, features: int, modes: int) -> Array:
    """A, (N, M)."""
    return jax.random.normal(key, (features, modes))


def draw_samples(
    key: PRNGKeyArray, samples: int, eigenvalues: Array, target: Array, noise: float
) -> tuple[Array, Array]:
    """Ψ (P, M), and labels (P,) or (P, outputs) with noise."""
    inputs, labels = jax.random.split(key)
    psi = jax.random.normal(inputs, (samples, eigenvalues.shape[0])) * jnp.sqrt(eigenvalues)[None]
    y = psi @ target
    return psi, y + jnp.sqrt(noise) * jax.random.normal(labels, y.shape)
