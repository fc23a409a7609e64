"""Gamma and χ variables, drawn for whole arrays at once.

`jax.random.gamma` gives every number a key of its own and, on a CPU, draws one after the other. Here the rejections of
an array share their proposals, which is several times faster.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


@jax.custom_jvp
def gamma_variates(key: PRNGKeyArray, shape: Float[Array, "..."]) -> Float[Array, "..."]:
    """Independent Gamma(shape, 1) variates.

    Args:
        key: JAX key.
        shape: the parameters, ≥ 1; the dtype of the draws is theirs.

    Returns:
        One draw for every parameter. Its derivative is that of the quantile it stands at, -∂_a F(x; a)/F'(x; a): which
        proposals were rejected depends on the parameter too.

    Source: G. Marsaglia, W. W. Tsang, A simple method for generating gamma variables, ACM TOMS 26 (2000).
    """
    d = shape - 1 / 3
    c = 1 / jnp.sqrt(9 * d)

    def propose(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        key, value, done = carry
        key, now = jax.random.split(key)
        tiny = float(jnp.finfo(shape.dtype).eps)
        both = jax.random.uniform(now, (2, *shape.shape), shape.dtype, minval=-1 + tiny)
        x = math.sqrt(2) * jax.lax.erf_inv(both[0])
        v = (1 + c * x) ** 3
        positive = v > 0
        log_v = jnp.log(jnp.where(positive, v, 1))
        accept = positive & (jnp.log((1 + both[1]) / 2) < 0.5 * x * x + d * (1 - v + log_v))
        return key, jnp.where(accept & ~done, d * v, value), done | accept

    start = (key, jnp.zeros_like(shape), jnp.zeros(shape.shape, bool))
    return jax.lax.while_loop(lambda carry: ~jnp.all(carry[2]), propose, start)[1]


@gamma_variates.defjvp
def _(primals: Any, tangents: Any) -> Any:
    key, shape = primals
    value = gamma_variates(key, shape)
    return value, jax.lax.random_gamma_grad(shape, value) * tangents[1]


def chi(key: PRNGKeyArray, freedom: Float[Array, "..."]) -> Float[Array, "..."]:
    """Norms of standard Gaussian vectors: independent χ variables.

    Args:
        key: JAX key.
        freedom: degrees of freedom, positive, not necessarily integers; the dtype of the draws is theirs.

    Returns:
        One draw for every number of degrees of freedom.
    """
    gamma_key, boost_key = jax.random.split(key)
    # Γ(a) = Γ(a + 1) U^{1/a} where a is too small for the rejection.
    small = freedom < 2
    gamma = gamma_variates(gamma_key, jnp.where(small, freedom / 2 + 1, freedom / 2))
    tiny = float(jnp.finfo(freedom.dtype).tiny)
    u = jax.random.uniform(boost_key, freedom.shape, freedom.dtype, minval=tiny)
    return jnp.sqrt(2 * gamma * jnp.where(small, u ** (2 / freedom), 1))
