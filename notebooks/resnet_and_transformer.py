# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # A ResNet and a transformer
#
# Two architectures whose limits differ in kind, through the same four functions: `simulate`, `sample_networks`,
# `compare`, `plot`.

# %%
import jax
import numpy as np

import covsde as cs

V0 = np.array([[1.0, 0.2], [0.2, 1.0]])

# %% [markdown]
# ## A ResNet has a deterministic limit
#
# h ← h + β L^(-1/2) n^(-1/2) W φ(h). Width and depth may go to infinity in any order: the covariance of the stream
# follows an ordinary differential equation, so one path is the whole law and its standard error is 0.

# %%
resnet = cs.ResNet(jax.nn.relu, beta=1.0)
ode = cs.simulate(resnet, V0)
resnets = cs.sample_networks(resnet, V0, width=256, depth=64, draws=300, key=0)
print(ode)
print("variance at the end: ODE", ode.V[-1, 0, 0, 0], " exactly", np.exp(0.5))
print(cs.compare(ode, resnets))

# %% [markdown]
# The limit has variance 0, networks a variance of order 1/n: the rows on the variance of log V say how large it still
# is, not that something is wrong.

# %% [markdown]
# ## A shaped transformer stays random
#
# Its state is the covariance of tokens. Attention is shaped: softmax plus the identity, minus its mean, at a
# temperature τ₀√(n n_k). Depth grows with width, T = blocks / width.

# %%
transformer = cs.Transformer(gamma=8**-0.5, tau0=1.0, depth_to_width=0.5)
limit = cs.simulate(transformer, V0, paths=1000, save_at=[0, 0.5, 1], key=1)
networks = cs.sample_networks(transformer, V0, width=48, draws=300, save_at=[0, 0.5, 1], key=2)
comparison = cs.compare(limit, networks)
print(comparison)
figure = comparison.plot()

# %% [markdown]
# The correlation of two tokens is spread widely in both, and does not collapse to 1:

# %%
for e in (limit, networks):
    rho = e.correlation(0, 1)[-1]
    print(f"{e.label:20} 10, 50, 90% of ρ:", np.round(np.quantile(rho[np.isfinite(rho)], [0.1, 0.5, 0.9]), 2))
