"""The installed jaxlib computes sums of products over short axes correctly.

jaxlib 0.10.2 does not: on CPU, under jit, some are silently wrong, depending on the sizes and the machine
(https://github.com/jax-ml/jax/issues/39103). The squared norms here are the kernel of that report; the
products are those by which covsde multiplies a batch of covariance factors.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

DTYPES = ["float32", "float64"]
# What XLA does when nobody asks for anything else, whatever the suite asks for.
as_users_compile = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 3})


def product_error(rows: int, inner: int, columns: int, batch: int, dtype: str) -> float:
    """The worst error of jitted products of small matrices, over its rounding bound: at most 1 if correct."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((rows, inner, batch)).astype(dtype)
    b = rng.standard_normal((inner, columns, batch)).astype(dtype)

    @as_users_compile
    def multiply(a, b):
        return (a[:, :, None] * b[None]).sum(1)

    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    with jax.numpy_rank_promotion("allow"):
        got = np.asarray(multiply(a, b), np.float64)
    expected = (a64[:, :, None] * b64[None]).sum(1)
    # Each entry rounds `inner` products and their sum: |error| <= inner * eps/2 * Σ|a||b|; numpy's too.
    bound = inner * np.finfo(dtype).eps * (np.abs(a64)[:, :, None] * np.abs(b64)[None]).sum(1)
    return float(np.max(np.abs(got - expected) / bound))


def squared_norm_error(rows: int, dtype: str) -> float:
    """The worst error of |M x|² over a batch of vectors x, in integers: 0 if correct."""
    rng = np.random.default_rng(1)
    # Integers this small make every intermediate result exact, in either precision.
    matrix = rng.integers(-8, 9, (3, 3)).astype(dtype)
    x = rng.integers(-8, 9, (rows, 3)).astype(dtype)

    @as_users_compile
    def squared_norms(x):
        return jax.vmap(lambda row: jnp.sum(jnp.matmul(matrix, row, precision="highest") ** 2))(x)

    expected = ((x.astype(np.float64) @ matrix.astype(np.float64).T) ** 2).sum(1)
    return float(np.max(np.abs(np.asarray(squared_norms(x), np.float64) - expected)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "inner", "columns", "batch"),
    [
        (4, 4, 4, 10_000),
        (2, 2, 2, 100_000),
        (3, 3, 3, 32_769),
        (8, 8, 8, 4_096),
        (16, 16, 16, 1_000),
        (5, 3, 1, 20_001),
    ],
)
def test_batched_product(rows, inner, columns, batch, dtype):
    assert product_error(rows, inner, columns, batch, dtype) <= 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1_000, 8_193, 16_385, 32_769, 65_537])
def test_batched_squared_norm(rows, dtype):
    assert squared_norm_error(rows, dtype) == 0
