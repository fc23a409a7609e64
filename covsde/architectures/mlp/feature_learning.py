"""Feature learning in the proportional limit: the forward–backward equations, and the layer that a step of them is.

A label a = (x, k) is an input at a training step. With h the features of width n, v = ∂f/∂h the gradients (of the
output over s), T = depth/n and clock time t = ℓ/n, three covariances of order one:

    Φ(a, b) = h(a)·h(b)/n,    G(a, b) = v(a)·v(b),    A(a, b) = h(a)·v(b)

New labels see earlier ones as given. With p the earlier forward labels, Y the backward ones, α = Φ_pp⁻¹Φ_pa,
S = Φ_aa - Φ_apα, A_⊥ = A(a, Y) - Σ_p α_p A(p, Y), LLᵀ = Φ_pp, and b the drift of the activation (covariance/drifts.py):

    dΦ_pa = dΦ_pp α + A_pY G_YY⁻¹ A_⊥ dt + √S L dξ + (b_pa - b_pp α) dt
    dΦ_aa = αᵀdΦ_pp α + 2αᵀ(dΦ_pa - dΦ_pp α) + (A_⊥ᵀG_YY⁻¹A_⊥ - rank(G_YY) S) dt + √2 S dξ' + (b_aa - …) dt

upwards; G downwards as the mirror image, from G = 1 at the top, with the rates of mlp/gradients.py; and, with k_a the
training step of a, Δ = -∂loss/∂f and learning rate η₀/n on the hidden matrices,

    dA(a, b)/dt = η₀ s [Σ_{k_c < k_a} - Σ_{k_c < k_b}] Δ_c Φ(a, c) G(c, b) + (activation),
    A_0(a, b) = A_0((x_a, k_b), b) if k_a > k_b,  else  A_T(a, b) = f(a)/s,        f(a) = s A_T(a, b).

S vanishes at the bottom and its mirror image at the top, where these drifts are of bridge type, so no Euler step of
them survives a few updates. A step of h = 1/n is instead one layer of a network of width n, exactly in law: `Layer` is
the activation of that network, and solvers/ reveals its weights where the vectors of training meet them.

Source: Li, Noci, Hanin, feature learning in the proportional limit (announced; M. Li's lecture notes STAT 946,
Waterloo, 2025, have network, training rule and tangent kernel; the full system has no public text).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.activations import AbstractActivation, Identity
from covsde.architectures.mlp.gradients import backward_of
from covsde.architectures.mlp.network.neurons import Neurons
from covsde.covariance.expansion import Expansion
from covsde.descent.drawn import Stacks, floats, train_drawn
from covsde.descent.householder import AbstractVectors, Lengths, Room, pad
from covsde.descent.rules import Moving, of_limit
from covsde.descent.task import Ends, Sizes, Task
from covsde.descent.trajectory import Trajectory
from covsde.numerics.gamma import chi
from covsde.numerics.linalg import rows_with_gram
from covsde.run.memory import TRAINING, fitting

Vector = Float[Array, "size paths"]

# How many neurons of a layer carry the even part of its activation.
NEURONS = 8


class Layer(eqx.Module):
    """An activation whose limit is that of all with the same expansion, and which acts on a few coordinates only.

    The cubic part is radial, and the even part acts on M neurons, √(n/M) times as strong, each of which feeds the next:

        h = √c (λ z + Σ_{j ≤ M} ψ(√n z_j)/√(M n) e_{j+1}),    1/c = 1 + E ψ(g)²/n,
        λ = (ε + (1 - ε) |z|²)^{-1/2},                        ε = e^{κ₃/n}

    for vectors divided by √n. λ is the flow of dq/dt = κ₃ q (q - 1), q = |z|², for a time 1/n: features of any size
    come back without overshooting if κ₃ < 0, and explode where the flow does if κ₃ > 0. Covariances, gradients and
    overlaps have the drift and noise of a network all of whose n neurons have φ_s, up to 1/n. Feeding the next neuron,
    and not itself, keeps ψ(z) out of the way of z, which is a larger error of order 1/n in real networks.

    Attributes:
        width: n = 1/h.
        expansion: what is left of the activation.
    """

    width: Float[Array, ""]
    expansion: Expansion

    @property
    def neurons(self) -> int:
        """M: the first coordinates of a vector are its values on these neurons, the rest any orthonormal ones."""
        return 0 if self.expansion.even is None else NEURONS

    def features(self, z: Vector) -> Vector:
        """h(z)."""
        h, even, M = self._radial(z) * z, self.expansion.even, self.neurons
        if even is None:
            return h
        fed = jnp.roll(even.value(jnp.sqrt(self.width) * z[:M]), 1, axis=0) / jnp.sqrt(M * self.width)
        return self._c_root() * jnp.concatenate([h[:M] + fed, h[M:]])

    def gradients(self, z: Vector, r: Vector) -> Vector:
        """(∂h/∂z)ᵀ r = √c (λ r - (1 - ε) λ³ (z·r) z + the even part's)."""
        scale = self._radial(z)
        overlap = jnp.sum(z * r, axis=0, keepdims=True)
        g = scale * (r + self._growth() * scale * scale * overlap * z)
        even, M = self.expansion.even, self.neurons
        if even is None:
            return g
        fed = even.slope(jnp.sqrt(self.width) * z[:M]) * jnp.roll(r[:M], -1, axis=0) / M**0.5
        return self._c_root() * jnp.concatenate([g[:M] + fed, g[M:]])

    def _growth(self) -> Float[Array, ""]:
        return jnp.expm1(self.expansion.kappa3 / self.width)

    def _radial(self, z: Vector) -> Float[Array, "1 paths"]:
        """λ; NaN where the flow explodes within the step."""
        square = jnp.sum(z * z, axis=0, keepdims=True)
        return 1 / jnp.sqrt(1 + self._growth() * (1 - square))

    def _c_root(self) -> Float[Array, ""]:
        assert self.expansion.even is not None
        return 1 / jnp.sqrt(1 + self.expansion.even.power() / self.width)


class Coordinates(AbstractVectors):
    """Values on the neurons of the layer's even part, then a direction per forward and one per backward label."""

    layer: Layer
    width: Float[Array, ""]

    def __init__(self, layer: Layer):
        self.layer = layer
        self.width = layer.width

    def size(self, room: Room) -> int:
        """M and the room."""
        return self.layer.neurons + sum(room)

    def grow(self, vectors: Array, room: Room, more: Room) -> Array:
        """Zeros behind the forward and behind the backward directions."""
        M = self.layer.neurons
        neurons, forward, backward = jnp.split(vectors, [M, M + room.forward], axis=-2)
        wider = [neurons, pad(forward, more.forward, -2), pad(backward, more.backward, -2)]
        return jnp.concatenate(wider, axis=-2)

    def directions(self, room: Room) -> int:
        """As many."""
        return self.size(room)

    def revealed(self, room: Room, forward: Array | int, backward: Array | int) -> Float[Array, " size"]:
        """The neurons, and the directions of the labels so far."""
        neurons = jnp.ones(self.layer.neurons, bool)
        known = [jnp.arange(room.forward) < forward, jnp.arange(room.backward) < backward]
        return jnp.concatenate([neurons, *known]).astype(self.width.dtype)

    def lengths(self, key: PRNGKeyArray, used: Float[Array, "layers P"], paths: int) -> Lengths:
        """χ distributed, with as many degrees of freedom as directions are left."""
        return chi(key, jnp.broadcast_to((self.width - used)[..., None], (*used.shape, paths)))

    def fresh(
        self, normals: Vector, length: Float[Array, " paths"], revealed: Float[Array, " size"], slot: Array
    ) -> Vector:
        """Normals on the basis so far, and the length of everything beyond it on the new direction."""
        new = (jnp.arange(normals.shape[0]) == self.layer.neurons + slot)[:, None]
        return jnp.where(new, length[None, :], normals * revealed[:, None]) / jnp.sqrt(self.width)

    def activate(self, z: Vector) -> Vector:
        """The activation of the layer."""
        return self.layer.features(z)

    def pull_back(self, z: Vector, r: Vector) -> Vector:
        """Its transposed Jacobian."""
        return self.layer.gradients(z, r)


def limit_vectors(activation: AbstractActivation, width: float, dtype: jnp.dtype) -> AbstractVectors:
    """Layers of this width whose limit is that of an activation.

    Raises:
        TypeError: for an activation without a limit.
    """
    expansion = jax.tree.map(lambda x: jnp.asarray(x, dtype), backward_of(activation).expansion())
    return Coordinates(Layer(jnp.asarray(width, dtype), expansion))


def network_vectors(activation: AbstractActivation, width: int, dtype: jnp.dtype) -> AbstractVectors:
    """Layers of a finite network, exactly in law: in a few coordinates if it is linear, else neuron by neuron."""
    if isinstance(activation, Identity):
        return Coordinates(Layer(jnp.asarray(width, dtype), Expansion(None, jnp.zeros((), dtype))))
    return Neurons(activation, width, dtype)


@eqx.filter_jit
def train_drawn_limit(
    activation: AbstractActivation,
    depth_to_width: float,
    task: Task,
    sizes: Sizes,
    key: PRNGKeyArray,
    ends: Ends,
    begun: Any = None,
) -> Trajectory:
    """The limit in steps of 1/n, each a layer of width n whose weights are drawn: for any number of labels.

    Covariances are those of the revealed layers at the same step, whatever is trained for how long; n = steps/T is
    rounded to a whole number.
    """
    depth, width, dtype = sizes.depth, round(sizes.depth / depth_to_width), task.dtype
    expansion = jax.tree.map(lambda x: jnp.asarray(x, dtype), backward_of(activation).expansion())
    layer, root = Layer(jnp.asarray(width, dtype), expansion), width**0.5
    rows = rows_with_gram(task.V0, task.data.rank) * root
    x = jnp.pad(rows, ((0, 0), (0, width - rows.shape[1])))

    def draw(k: PRNGKeyArray) -> Moving:
        matrix_key, readout_key = jax.random.split(k)
        matrices = jax.random.normal(matrix_key, (depth, width, width), dtype)
        return Moving(matrices, jax.random.normal(readout_key, (task.outputs, width), dtype), x)

    def act(z: Float[Array, "P width"]) -> Float[Array, "P width"]:
        return layer.features(z.T / root).T * root

    sizes = sizes._replace(width=width)
    keys, rule = jax.random.split(key, sizes.draws), of_limit(task, width, ends)
    at_once = fitting(floats(task, sizes) * dtype.itemsize, TRAINING, least=1, most=sizes.draws)
    return train_drawn(draw, act, task, sizes, Stacks(keys, at_once, begun), ends, rule)
