# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # First steps
#
# Three inputs through an infinitely deep and wide network, and through networks of width 60.

# %%
import numpy as np

import covsde as cs

rng = np.random.default_rng(0)
x = rng.normal(size=(3, 100))
x[1] = 0.8 * x[0] + 0.6 * x[1]  # inputs 0 and 1 are similar
V0 = cs.gram(x)

# %% [markdown]
# An architecture holds hyperparameters only: a shaped ReLU with slopes 1 + c/√n, and T = depth / width.

# %%
mlp = cs.MLP(cs.ShapedReLU(c_plus=0.5, c_minus=-0.5), depth_to_width=0.5)
limit = cs.simulate(mlp, V0, paths=2000, key=0)
networks = cs.sample_networks(mlp, V0, width=60, draws=500, key=1)

# %% [markdown]
# Both are ensembles of covariance matrices over layer time, so one function compares them.

# %%
comparison = cs.compare(limit, networks)
print(comparison)
figure = comparison.plot()

# %% [markdown]
# Statistics come with Monte Carlo standard errors. The correlation of a random network of this shape is itself random:

# %%
median = limit.quantile(lambda V: V[..., 0, 1] / np.sqrt(V[..., 0, 0] * V[..., 1, 1]), 0.5)
print("median correlation over layer time:", np.round(median.value, 3))
print("standard error:                    ", np.round(median.standard_error, 3))

# %% [markdown]
# The network is an Equinox module with real weights.

# %%
network = mlp.network(width=60, key=2)
print("outputs:", network(x).ravel())
