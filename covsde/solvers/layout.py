"""Two memory layouts for an ensemble of m × m covariance matrices, and the algebra the solvers need on them.

Up to m = 8 each entry of the lower triangle is an array of its own, paths last, and products are unrolled: on a CPU
this is several times faster than batched matrices. Beyond that, unrolling costs more to compile than it saves.
"""

import abc
import functools
import operator
from collections.abc import Callable, Iterable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from covsde.numerics.linalg import pivot_tolerance, semidefinite_cholesky

UNROLLED_UP_TO = 8

# A batch of lower triangles or symmetric matrices, in whichever form its layout chose.
State = tuple[Array, ...]
VarianceMap = Callable[[Array], Array]
CovarianceMap = Callable[[Array, Array, Array], Array]


class AbstractLayout(eqx.Module):
    """How matrices of an ensemble lie in memory."""

    m: eqx.AbstractVar[int]

    @abc.abstractmethod
    def constant(self, V0: Float[Array, "m m"], paths: int) -> State:
        """The same matrix on every path."""

    @abc.abstractmethod
    def stack(self, V: State) -> Float[Array, "entries paths"]:
        """Lower-triangle entries, row by row, paths last."""

    @abc.abstractmethod
    def unstack(self, entries: Float[Array, "entries paths"]) -> State:
        """The inverse of `stack`."""

    @abc.abstractmethod
    def from_entries(self, entries: dict[tuple[int, int], Array]) -> State:
        """From arrays (paths,) per lower-triangle entry."""

    @abc.abstractmethod
    def diagonal(self, V: State) -> list[Float[Array, " paths"]]:
        """The m diagonal entries."""

    @abc.abstractmethod
    def map(self, on_diagonal: VarianceMap, off_diagonal: CovarianceMap, V: State) -> State:
        """V^{αα} ↦ on_diagonal(V^{αα}) and V^{αβ} ↦ off_diagonal(V^{αα}, V^{ββ}, V^{αβ}), entry by entry."""

    @abc.abstractmethod
    def with_diagonal(self, V: State, variances: list[Float[Array, " paths"]]) -> State:
        """V with other diagonal entries."""

    @abc.abstractmethod
    def select(self, mask: Bool[Array, " paths"], A: State, B: State) -> State:
        """A where the mask is true, else B."""

    @abc.abstractmethod
    def cholesky(self, V: State) -> tuple[State, Bool[Array, " paths"]]:
        """Lower-triangular root of semidefinite matrices, and where they are PSD."""

    @abc.abstractmethod
    def product(self, L: State, T: State) -> State:
        """The lower-triangular product L T."""

    @abc.abstractmethod
    def gram(self, L: State) -> State:
        """L Lᵀ."""

    @abc.abstractmethod
    def sandwich(self, L: State, S: State) -> State:
        """L S Lᵀ for symmetric S."""

    def tree(self) -> list[tuple[int, int]]:
        """Index pairs (i, j), j ≤ i, in the order of `stack`."""
        return [(i, j) for i in range(self.m) for j in range(i + 1)]


class UnrolledLayout(AbstractLayout):
    """One array (paths,) per entry of the lower triangle."""

    m: int = eqx.field(static=True)

    def _grid(self, V: State) -> dict[tuple[int, int], Array]:
        return dict(zip(self.tree(), V, strict=True))

    def constant(self, V0: Float[Array, "m m"], paths: int) -> State:
        """The same matrix on every path."""
        return tuple(jnp.full((paths,), V0[i, j]) for i, j in self.tree())

    def stack(self, V: State) -> Float[Array, "entries paths"]:
        """Lower-triangle entries, row by row, paths last."""
        return jnp.stack(V)

    def unstack(self, entries: Float[Array, "entries paths"]) -> State:
        """The inverse of `stack`."""
        return tuple(entries[k] for k in range(entries.shape[0]))

    def from_entries(self, entries: dict[tuple[int, int], Array]) -> State:
        """From arrays (paths,) per lower-triangle entry."""
        return tuple(entries[ij] for ij in self.tree())

    def diagonal(self, V: State) -> list[Float[Array, " paths"]]:
        """The m diagonal entries."""
        return [V[i * (i + 1) // 2 + i] for i in range(self.m)]

    def map(self, on_diagonal: VarianceMap, off_diagonal: CovarianceMap, V: State) -> State:
        """The loop over pairs is a `lax.map`: it compiles once, and XLA cannot recompute it in whatever reads it."""
        A = self._grid(V)
        out = {(i, i): on_diagonal(A[i, i]) for i in range(self.m)}
        pairs = [(i, j) for i, j in self.tree() if i != j]
        if pairs:
            first = jnp.stack([A[i, i] for i, _ in pairs])
            second = jnp.stack([A[j, j] for _, j in pairs])
            both = jnp.stack([A[ij] for ij in pairs])
            moved = jax.lax.map(lambda e: off_diagonal(*e), (first, second, both))
            out |= {ij: moved[k] for k, ij in enumerate(pairs)}
        return tuple(out[ij] for ij in self.tree())

    def with_diagonal(self, V: State, variances: list[Float[Array, " paths"]]) -> State:
        """Entry by entry."""
        return tuple(variances[i] if i == j else v for (i, j), v in zip(self.tree(), V, strict=True))

    def select(self, mask: Bool[Array, " paths"], A: State, B: State) -> State:
        """Entry by entry."""
        return tuple(jnp.where(mask, a, b) for a, b in zip(A, B, strict=True))

    def cholesky(self, V: State) -> tuple[State, Bool[Array, " paths"]]:
        """Column by column; a pivot that is zero to rounding gives a zero column."""
        A = self._grid(V)
        L: dict[tuple[int, int], Array] = {}
        tolerance = pivot_tolerance(V[0].dtype, self.m)
        psd = jnp.ones(V[0].shape, bool)
        # Rounding in a pivot is amplified by the smallest relative pivot before it, so only more than that is a loss.
        smallest = jnp.ones_like(V[0])
        for j in range(self.m):
            pivot = A[j, j]
            for k in range(j):
                pivot = pivot - L[j, k] * L[j, k]
            floor = tolerance * A[j, j]
            psd = psd & (pivot * smallest >= -floor)
            positive = pivot > floor
            smallest = jnp.minimum(smallest, jnp.where(positive, pivot / jnp.where(positive, A[j, j], 1), 1))
            root = jnp.sqrt(jnp.where(positive, pivot, 1))
            L[j, j] = jnp.where(positive, root, 0)
            # A division, not a product with the inverse: XLA keeps its result, where it would compute a product anew in
            # everything that reads it (a third of all operations at m = 8).
            divisor = jnp.where(positive, root, jnp.inf)
            for i in range(j + 1, self.m):
                entry = A[i, j]
                for k in range(j):
                    entry = entry - L[i, k] * L[j, k]
                L[i, j] = entry / divisor
        return tuple(L[ij] for ij in self.tree()), psd

    def product(self, L: State, T: State) -> State:
        """Unrolled triangular product."""
        A, B = self._grid(L), self._grid(T)
        return tuple(_sum(A[i, k] * B[k, j] for k in range(j, i + 1)) for i, j in self.tree())

    def gram(self, L: State) -> State:
        """Unrolled L Lᵀ."""
        A = self._grid(L)
        return tuple(_sum(A[i, k] * A[j, k] for k in range(j + 1)) for i, j in self.tree())

    def sandwich(self, L: State, S: State) -> State:
        """Unrolled L S Lᵀ."""
        A, B = self._grid(L), self._grid(S)

        def symmetric(i: int, j: int) -> Array:
            return B[max(i, j), min(i, j)]

        half = {
            (i, k): _sum(A[i, p] * symmetric(p, k) for p in range(i + 1)) for i in range(self.m) for k in range(self.m)
        }
        return tuple(_sum(half[i, k] * A[j, k] for k in range(j + 1)) for i, j in self.tree())


class DenseLayout(AbstractLayout):
    """One array (paths, m, m)."""

    m: int = eqx.field(static=True)

    def constant(self, V0: Float[Array, "m m"], paths: int) -> State:
        """The same matrix on every path."""
        return (jnp.broadcast_to(V0[None], (paths, self.m, self.m)),)

    def stack(self, V: State) -> Float[Array, "entries paths"]:
        """Lower-triangle entries, row by row, paths last."""
        rows, columns = jnp.tril_indices(self.m)
        return V[0][:, rows, columns].T

    def unstack(self, entries: Float[Array, "entries paths"]) -> State:
        """A symmetric matrix per path."""
        rows, columns = jnp.tril_indices(self.m)
        empty = jnp.zeros((entries.shape[1], self.m, self.m), entries.dtype)
        return (empty.at[:, rows, columns].set(entries.T).at[:, columns, rows].set(entries.T),)

    def from_entries(self, entries: dict[tuple[int, int], Array]) -> State:
        """From arrays (paths,) per lower-triangle entry."""
        return self.unstack(jnp.stack([entries[ij] for ij in self.tree()]))

    def diagonal(self, V: State) -> list[Float[Array, " paths"]]:
        """The m diagonal entries."""
        return [V[0][:, i, i] for i in range(self.m)]

    def map(self, on_diagonal: VarianceMap, off_diagonal: CovarianceMap, V: State) -> State:
        """All pairs at once; the diagonal is then overwritten."""
        v = jnp.diagonal(V[0], axis1=1, axis2=2)
        moved = off_diagonal(*jnp.broadcast_arrays(v[:, :, None], v[:, None, :], V[0]))
        eye = jnp.eye(self.m, dtype=bool)[None]
        return (jnp.where(eye, on_diagonal(v)[:, :, None], moved),)

    def with_diagonal(self, V: State, variances: list[Float[Array, " paths"]]) -> State:
        """Matrix by matrix."""
        return (jnp.where(jnp.eye(self.m, dtype=bool)[None], jnp.stack(variances, axis=1)[:, :, None], V[0]),)

    def select(self, mask: Bool[Array, " paths"], A: State, B: State) -> State:
        """Matrix by matrix."""
        return (jnp.where(mask[:, None, None], A[0], B[0]),)

    def cholesky(self, V: State) -> tuple[State, Bool[Array, " paths"]]:
        """The semidefinite Cholesky of `covsde.numerics.linalg`."""
        L, psd = semidefinite_cholesky(V[0])
        return (L,), psd

    def product(self, L: State, T: State) -> State:
        """Batched product; the strict upper triangle of T is ignored."""
        return (L[0] @ jnp.tril(T[0]),)

    def gram(self, L: State) -> State:
        """Batched L Lᵀ."""
        return (L[0] @ jnp.swapaxes(L[0], 1, 2),)

    def sandwich(self, L: State, S: State) -> State:
        """Batched L S Lᵀ."""
        return (L[0] @ S[0] @ jnp.swapaxes(L[0], 1, 2),)


def _sum(terms: Iterable[Array]) -> Array:
    return functools.reduce(operator.add, terms)


def layout_for(m: int) -> AbstractLayout:
    """The faster layout for m inputs."""
    return UnrolledLayout(m) if m <= UNROLLED_UP_TO else DenseLayout(m)


def standard_normals(key: Array, rows: int, paths: int, dtype: jnp.dtype) -> Float[Array, "rows paths"]:
    """Independent N(0, 1), one key per row: the loop keeps XLA from recomputing draws where they are used."""
    return jax.lax.map(lambda k: jax.random.normal(k, (paths,), dtype), jax.random.split(key, rows))
