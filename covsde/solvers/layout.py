"""Two memory layouts for an ensemble of m × m covariance matrices, and the algebra the solvers need on them.

Up to m = 8 each entry of the lower triangle is an array of its own, paths last, and products are unrolled: on a CPU
this is several times faster than batched matrices. Beyond that, unrolling costs more to compile than it saves, and an
ensemble is one array (paths, m, m): see benchmarks/many_inputs.py.

Solvers write an equation once, for both. What they do to variances they do to each array of `diagonal`, whose last axis
is that of paths: m arrays (paths,), or one (m, paths).
"""

import abc
import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from covsde.numerics.linalg import judge_pivot, pivot_tolerance, semidefinite_cholesky

UNROLLED_UP_TO = 8
# Rows to which an entrywise map is applied at a time in the dense layout.
_STRIP = 13

# A batch of lower triangles or symmetric matrices, in whichever form its layout chose.
State = tuple[Array, ...]
# Something for each input, paths last: m arrays (paths,), or one (m, paths).
PerInput = list[Array]
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
    def diagonal(self, V: State) -> PerInput:
        """The m diagonal entries."""

    @abc.abstractmethod
    def per_input(self, rows: Float[Array, "m paths"]) -> PerInput:
        """Rows in the form of `diagonal`."""

    @abc.abstractmethod
    def numbers(self, dtype: jnp.dtype) -> list[Any]:
        """The number of each input, from 0, that broadcasts against `diagonal`."""

    @abc.abstractmethod
    def some(self, masks: PerInput) -> Bool[Array, " paths"]:
        """Paths on which a mask is true for some input."""

    @abc.abstractmethod
    def every(self, masks: PerInput) -> Bool[Array, " paths"]:
        """Paths on which a mask is true for every input."""

    @abc.abstractmethod
    def map(self, on_diagonal: VarianceMap, off_diagonal: CovarianceMap, V: State) -> State:
        """V^{αα} ↦ on_diagonal(V^{αα}) and V^{αβ} ↦ off_diagonal(V^{αα}, V^{ββ}, V^{αβ}), entry by entry.

        The arrays that off_diagonal gets need not have one shape, but they broadcast.
        """

    @abc.abstractmethod
    def with_diagonal(self, V: State, variances: PerInput) -> State:
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

    @abc.abstractmethod
    def normals(
        self, key: Array, rows: int, paths: int, c: Float[Array, " m"] | list[Float[Array, ""]]
    ) -> tuple[Float[Array, "rows paths"], State]:
        """So many rows of independent N(0, 1), and a strictly lower triangle of them times c_{i-j}."""

    @abc.abstractmethod
    def second_order(self, X: State) -> State:
        """I + X + ½X² for a strictly lower triangle X."""

    @abc.abstractmethod
    def congruence(self, d: PerInput, M: State) -> State:
        """d_i M_ij d_j for a lower triangle M."""

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

    def diagonal(self, V: State) -> PerInput:
        """The m diagonal entries."""
        return [V[i * (i + 1) // 2 + i] for i in range(self.m)]

    def per_input(self, rows: Float[Array, "m paths"]) -> PerInput:
        """An array per row."""
        return [rows[i] for i in range(self.m)]

    def numbers(self, dtype: jnp.dtype) -> list[Any]:
        """0 … m - 1."""
        return list(range(self.m))

    def some(self, masks: PerInput) -> Bool[Array, " paths"]:
        """Paths on which a mask is true for some input."""
        return jnp.any(jnp.stack(masks), axis=0)

    def every(self, masks: PerInput) -> Bool[Array, " paths"]:
        """Paths on which a mask is true for every input."""
        return functools.reduce(operator.and_, masks, jnp.asarray(True))

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

    def with_diagonal(self, V: State, variances: PerInput) -> State:
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
        smallest = jnp.ones_like(V[0])
        for j in range(self.m):
            pivot = A[j, j]
            for k in range(j):
                pivot = pivot - L[j, k] * L[j, k]
            positive, fine, smallest = judge_pivot(pivot, A[j, j], smallest, tolerance)
            psd = psd & fine
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

    def normals(
        self, key: Array, rows: int, paths: int, c: Float[Array, " m"] | list[Float[Array, ""]]
    ) -> tuple[Float[Array, "rows paths"], State]:
        """One key per row and per entry."""
        g = standard_normals(key, max(1, rows + self.m * (self.m - 1) // 2), paths, c[0].dtype)
        below, zero = iter(range(rows, g.shape[0])), jnp.zeros(paths, g.dtype)
        return g[:rows], tuple(zero if i == j else c[i - j] * g[next(below)] for i, j in self.tree())

    def second_order(self, X: State) -> State:
        """Unrolled chains i > k > j."""
        A = self._grid(X)
        out = {}
        for i, j in self.tree():
            entry = jnp.ones_like(A[i, j]) if i == j else A[i, j]
            for k in range(j + 1, i):
                entry = entry + 0.5 * A[i, k] * A[k, j]
            out[i, j] = entry
        return tuple(out[ij] for ij in self.tree())

    def congruence(self, d: PerInput, M: State) -> State:
        """Entry by entry."""
        return tuple(d[i] * d[j] * x for (i, j), x in zip(self.tree(), M, strict=True))


class DenseLayout(AbstractLayout):
    """One array (paths, m, m), of which only the lower triangle is read."""

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

    def diagonal(self, V: State) -> PerInput:
        """One array (m, paths)."""
        return [jnp.diagonal(V[0], axis1=1, axis2=2).T]

    def per_input(self, rows: Float[Array, "m paths"]) -> PerInput:
        """The rows themselves."""
        return [rows]

    def numbers(self, dtype: jnp.dtype) -> list[Any]:
        """0 … m - 1 as a column."""
        return [jnp.arange(self.m, dtype=dtype)[:, None]]

    def some(self, masks: PerInput) -> Bool[Array, " paths"]:
        """Paths on which a mask is true for some input."""
        return jnp.any(masks[0], axis=0)

    def every(self, masks: PerInput) -> Bool[Array, " paths"]:
        """Paths on which a mask is true for every input."""
        return jnp.all(masks[0], axis=0)

    def map(self, on_diagonal: VarianceMap, off_diagonal: CovarianceMap, V: State) -> State:
        """In strips that leave out most of the upper triangle, which nobody reads and which keeps old values."""
        v, moved = jnp.diagonal(V[0], axis1=1, axis2=2), V[0]
        for start in range(0, self.m, _STRIP):
            end = min(start + _STRIP, self.m)
            strip = off_diagonal(v[:, start:end, None], v[:, None, :end], V[0][:, start:end, :end])
            moved = moved.at[:, start:end, :end].set(strip)
        eye = jnp.eye(self.m, dtype=bool)[None]
        return (jnp.where(eye, on_diagonal(v)[:, :, None], moved),)

    def with_diagonal(self, V: State, variances: PerInput) -> State:
        """Matrix by matrix."""
        return (jnp.where(jnp.eye(self.m, dtype=bool)[None], variances[0].T[:, :, None], V[0]),)

    def select(self, mask: Bool[Array, " paths"], A: State, B: State) -> State:
        """Matrix by matrix."""
        return (jnp.where(mask[:, None, None], A[0], B[0]),)

    def cholesky(self, V: State) -> tuple[State, Bool[Array, " paths"]]:
        """The semidefinite Cholesky of `covsde.numerics.linalg`."""
        L, psd = semidefinite_cholesky(V[0])
        return (L,), psd

    def product(self, L: State, T: State) -> State:
        """Batched product."""
        return (L[0] @ T[0],)

    def gram(self, L: State) -> State:
        """Batched L Lᵀ."""
        return (L[0] @ jnp.swapaxes(L[0], 1, 2),)

    def sandwich(self, L: State, S: State) -> State:
        """Batched L S Lᵀ."""
        return (L[0] @ S[0] @ jnp.swapaxes(L[0], 1, 2),)

    def normals(
        self, key: Array, rows: int, paths: int, c: Float[Array, " m"] | list[Float[Array, ""]]
    ) -> tuple[Float[Array, "rows paths"], State]:
        """The triangle is folded from a rectangle, in which its rows i and m - 1 - i (or m - i) share a row.

        Both are drawn in loops, which keep XLA from recomputing draws where they are used.
        """
        first, second = jax.random.split(key)
        m, dtype = self.m, c[0].dtype
        half = -(-rows // 2)
        g = jax.lax.map(lambda k: jax.random.normal(k, (half, paths), dtype), jax.random.split(first))
        g = g.reshape(-1, paths)[:rows]
        if m == 1:
            return g, (jnp.zeros((paths, 1, 1), dtype),)
        i, j = np.indices((m - m % 2, m - 1 + m % 2))
        lag, count = i + m % 2 - j, m // 2
        # The first half of the rows is the second one backwards, where that has no entries.
        lag = np.where(lag[count:] > 0, lag[count:], lag[:count][::-1, ::-1])
        scale = jnp.stack(list(c))[lag]
        R = jax.lax.map(
            lambda row: row[1][None] * jax.random.normal(row[0], (paths, lag.shape[1]), dtype),
            (jax.random.split(second, count), scale),
        )
        both = jnp.swapaxes(jnp.concatenate([R[::-1, :, ::-1], R]), 0, 1)
        square = jnp.pad(both, ((0, 0), (1, 0), (0, 0)) if m % 2 else ((0, 0), (0, 0), (0, 1)))
        return g, (jnp.tril(square, -1),)

    def second_order(self, X: State) -> State:
        """Batched product."""
        return (jnp.eye(self.m, dtype=X[0].dtype)[None] + X[0] + 0.5 * (X[0] @ X[0]),)

    def congruence(self, d: PerInput, M: State) -> State:
        """All entries at once."""
        scale = d[0].T
        return (scale[:, :, None] * M[0] * scale[:, None, :],)


def _sum(terms: Iterable[Array]) -> Array:
    return functools.reduce(operator.add, terms)


def layout_for(m: int) -> AbstractLayout:
    """The faster layout for m inputs."""
    return UnrolledLayout(m) if m <= UNROLLED_UP_TO else DenseLayout(m)


def step_numbers(m: int) -> int:
    """Numbers per path that a step works on, beside what is saved; a few arrays of variances do not count."""
    return 0 if m <= UNROLLED_UP_TO else 12 * m * m


def standard_normals(key: Array, rows: int, paths: int, dtype: jnp.dtype) -> Float[Array, "rows paths"]:
    """Independent N(0, 1), one key per row: the loop keeps XLA from recomputing draws where they are used."""
    return jax.lax.map(lambda k: jax.random.normal(k, (paths,), dtype), jax.random.split(key, rows))
