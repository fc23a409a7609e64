# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Your own activation and inputs
#
# From a table of numbers and a function of one number to a limit, networks, and a statistic of your own.

# %%
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import covsde as cs

# %% [markdown]
# ## Inputs
#
# One input per row. Here a file is made first; yours is already there. All that a wide random network sees of its
# inputs is their Gram matrix x xᵀ / d.

# %%
rng = np.random.default_rng(1)
table = rng.normal(size=(3, 40))
table[2] = -0.5 * table[0] + table[2]  # inputs 0 and 2 point apart
np.savetxt("inputs.csv", table, delimiter=",")

x = np.loadtxt("inputs.csv", delimiter=",")
V0 = cs.gram(x)
print(np.round(V0, 2))


# %% [markdown]
# ## An activation
#
# Any JAX function of one number that is smooth at 0. In a layer of width n it acts as s ψ(x/s) with s = a√n and
# ψ = (fn - fn(0)) / fn'(0): the wider the network, the closer to linear. What the limit sees of it are two derivatives.


# %%
def wave(x):
    return jnp.sin(x) + 0.3 * x**2


activation = cs.ShapedSmooth(wave, a=1.5)
print(f"ψ''(0)/a = {activation.kappa2:.3f},  ψ'''(0)/a² = {activation.kappa3:.3f},  β = {activation.beta:.3f}")

# %% [markdown]
# β > 0 would mean that variances can explode in finite time. Of a few known activations:

# %%
for name in ("tanh", "softplus", "silu", "gelu"):
    other = cs.ShapedSmooth(name)
    print(
        f"{name:9} β = {other.beta:+.3f}, explodes from V₀ = 1 with probability", cs.explosion_probability(other, 1.0)
    )

# %% [markdown]
# ## Limit and networks
#
# An architecture holds the activation and T = depth / width. Statistics of your own are functions of V, which has shape
# (..., m, m): here the volume that the inputs span, and the correlation of inputs 0 and 2.

# %%
mlp = cs.MLP(activation, depth_to_width=0.5)
limit = cs.simulate(mlp, V0, paths=2000, save_at=[0, 0.5, 1], key=0)
networks = cs.sample_networks(mlp, V0, width=40, draws=500, save_at=[0, 0.5, 1], key=1)

statistics = {
    "log volume": lambda V: np.linalg.slogdet(V)[1] / 2,
    "ρ of 0 and 2": lambda V: V[..., 0, 2] / np.sqrt(V[..., 0, 0] * V[..., 2, 2]),
}
print(cs.compare(limit, networks, statistics=statistics))

# %% [markdown]
# ## Failed paths
#
# Where variances can explode, some do. Such a path stops, is counted, and is never averaged over in silence: quantiles
# put it at +∞, means warn. Here one input with GELU, whose explosion has an exact probability (in infinite time):

# %%
gelu = cs.ShapedSmooth("gelu")
violent = cs.simulate(cs.MLP(gelu, depth_to_width=1.0), [[1.0]], paths=2000, save_at=[0, 0.5, 1], key=2)
print("exploded by T = 1:", violent.failures["total"] / 2000, " ever:", cs.explosion_probability(gelu, 1.0))
print("10, 50, 90% of V at T = 1:", violent.quantile(lambda V: V[..., 0, 0], [0.1, 0.5, 0.9]).value[-1])

# %% [markdown]
# ## Keep it
#
# Results are `.npz` files with their settings inside; nothing in them is a pickle.

# %%
limit.save("limit.npz")
again = cs.Ensemble.load(Path("limit.npz"))
print(again, "seed", again.metadata["seed"])
