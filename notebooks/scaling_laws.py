# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Scaling laws, from a white spectrum to the compute-optimal frontier
#
# A linear student on N random features of Gaussian inputs. Everything below is exact at large size, without time steps.

# %%
import matplotlib.pyplot as plt
import numpy as np

import covsde as cs

scaling = cs.scaling

# %% [markdown]
# ## One random matrix: Marchenko and Pastur
#
# White inputs and infinitely many samples: the loss is the Laplace transform of the Marchenko–Pastur law. Here it is
# held against the eigenvalues of one matrix that is really drawn.

# %%
M, N = 400, 100
white = scaling.RandomFeatures(scaling.Spectrum(np.ones(M), np.full(M, M**-0.5)), features=N)
t = np.geomspace(0.05, 20, 40)
A = np.random.default_rng(0).standard_normal((N, M))
x = np.linalg.svd(A / np.sqrt(N), compute_uv=False) ** 2
drawn = (np.exp(-2 * np.outer(t, x)).sum(axis=1) + M - N) / M
print(f"largest difference: {np.max(np.abs(drawn - white.losses(t).test)):.4f}; plateau {white.plateau()[0]} = 1 - N/M")

# %% [markdown]
# ## Power laws, finite data and double descent
#
# Theory beside students that are drawn and trained.

# %%
spectrum = scaling.PowerLaw(source=1.5, capacity=1.25, modes=300)
model = scaling.RandomFeatures(spectrum, features=60, samples=100, noise=0.02)
law, draws = model.losses([1.0, 10.0, 100.0]), scaling.train_networks(model, [1.0, 10.0, 100.0], draws=40, key=1)
print(cs.compare(law, draws))

# %%
P = 80
widths = [10, 20, 40, 60, 75, 85, 100, 150, 250]
ends = [scaling.RandomFeatures(spectrum, N, P).plateau()[0] for N in widths]
figure, ax = plt.subplots(figsize=(4.5, 3))
ax.loglog(widths, ends, "o-")
ax.axvline(P, color="grey", ls=":")
ax.set(xlabel="features N", ylabel="test loss at t = ∞", title=f"double descent at N = P = {P}")
figure

# %% [markdown]
# ## Features that learn
#
# With β = (a - 1)/b below 1, learning features speeds the power of t up from β to 2β/(1 + β).

# %%
times = np.geomspace(10, 1000, 3)
hard = scaling.PowerLaw(source=1 + 1.5 * 0.5, capacity=1.5)
for rate in (0.0, 1.0):
    loss = scaling.LearnedFeatures(hard, rate=rate).losses(times).test
    print(f"γ = {rate:g}: slopes {np.round(np.diff(np.log(loss)) / np.diff(np.log(times)), 3)}")
print(f"β = 0.5, 2β/(1 + β) = {1 / 1.5:.3f}")

# %% [markdown]
# ## The compute-optimal frontier
#
# With C = N t to spend, the best width grows like C^{1/(1+b)}.

# %%
compute = np.geomspace(1e2, 1e5, 4)
front = scaling.frontier(scaling.RandomFeatures(scaling.PowerLaw(1.5, 1.25)), compute)
slopes = [np.diff(np.log(values))[-1] / np.log(10) for values in (front.features, front.losses)]
print(np.column_stack([compute, front.features, front.losses]))
print(f"N* ~ C^{slopes[0]:.3f} (theory {1 / 2.25:.3f}), L* ~ C^{slopes[1]:.3f} (theory {-0.5 / 2.25:.3f})")

# %% [markdown]
# ## Learning rates
#
# Online SGD, easy task: the rates that make the last loss the smallest, and the best constant rate.

# %%
best = scaling.optimal_rates(scaling.RandomFeatures(scaling.PowerLaw(3.0, 1.5), noise=0.25), horizon=60, batch=4)
print(np.round(best.rates[::10], 3), f"loss {best.losses[-1]:.4f}, with a constant rate {best.constant_loss:.4f}")

# %% [markdown]
# ## Your data
#
# Kernel regression on a pool of inputs, predicted from the spectrum of the kernel alone.

# %%
inputs = np.random.default_rng(1).standard_normal((200, 20))
target = inputs[:, 0] + inputs[:, 1] * inputs[:, 2]
K = cs.kernels(cs.MeanFieldMLP("relu", depth=2), cs.gram(inputs)).ntk
regression = scaling.KernelRegression(K, target, penalty=float(np.mean(np.diag(K))))
predicted, measured = regression.predicted([20, 50, 100]), regression.measured([20, 50, 100], draws=20)
print(np.column_stack([predicted.times, predicted.test, measured.test.mean(axis=1)]))
