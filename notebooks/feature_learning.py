# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Feature learning
#
# Training in the limit of infinite depth and width, beside networks that are really trained.

# %%
import matplotlib.pyplot as plt
import numpy as np

import covsde as cs

# %% [markdown]
# One input with target 1; gradient descent on the hidden matrices with learning rate η₀/n. Under this scaling outputs
# and features both move by amounts of order one, and what a network learns depends on its random start.

# %%
mlp = cs.MLP(cs.ShapedSmooth("tanh"), depth_to_width=0.5)
task = {"targets": [1.0], "updates": 2, "learning_rate": 0.7}
limit = cs.train(mlp, [[1.0]], paths=500, key=0, **task)
networks = cs.train_networks(mlp, [[1.0]], width=40, draws=300, key=1, **task)

# %% [markdown]
# `outputs` has shape (updates + 1, paths, inputs). The mean comes closer to the target and the spread shrinks:

# %%
for name, run in (("limit", limit), ("networks", networks)):
    mean, spread = run.outputs[..., 0].mean(axis=1), run.outputs[..., 0].std(axis=1)
    for update in range(3):
        print(f"{name:9} update {update}: mean of f {mean[update]:.2f}, standard deviation {spread[update]:.2f}")

# %% [markdown]
# Features move too, more so in late layers. `movement` is |h - h₀|²/n over layer time, path by path:

# %%
figure, ax = plt.subplots(figsize=(5, 3.5))
for name, run, style in (("limit", limit, "-"), ("networks, n = 40", networks, "o")):
    ax.plot(run.tau, run.movement().mean(axis=1), style, label=f"{name}, mean")
ax.set(xlabel="layer time  τ = ℓ/L", ylabel="|h - h₀|²/n after 2 updates")
ax.legend()

# %% [markdown]
# `Phi`, `G` and `A` hold every overlap of features and gradients over training: a label is a pair (update, input). How
# much of the last features after training was there before it, as a correlation:

# %%
for name, run in (("limit", limit), ("networks", networks)):
    before, after = run.label(0), run.label(-1)
    Phi = run.Phi[-1]
    kept = Phi[:, before, after] / np.sqrt(Phi[:, before, before] * Phi[:, after, after])
    print(f"{name:9} 10, 50, 90%:", np.round(np.quantile(kept, [0.1, 0.5, 0.9]), 3))

# %% [markdown]
# The tangent kernel is not constant, as it would be in lazy training:

# %%
change = limit.ntk[-1, :, 0, 0] / limit.ntk[0, :, 0, 0]
print("tangent kernel after training / before: 10, 50, 90%:", np.round(np.quantile(change, [0.1, 0.5, 0.9]), 2))

# %% [markdown]
# ## Training in general
#
# Inputs in no batch are tests: here six are trained by momentum and four are tested, in the limit and in networks whose
# weights are drawn. Test inputs have outputs and losses at every update, and do not slow the training down.

# %%
x = np.random.default_rng(0).standard_normal((10, 5))
task = {
    "targets": x[:, 0] + 0.5 * x[:, 1],
    "batches": [0, 1, 2, 3, 4, 5],
    "optimizer": cs.SGD(0.15, momentum=0.5),
    "updates": 8,
}
V0 = cs.gram(x)
limit = cs.train(mlp, V0, method="weights", paths=200, key=0, **task)
networks = cs.train_networks(mlp, V0, method="weights", width=48, draws=100, key=1, **task)
limit

# %% [markdown]
# Loss per input over the updates, and the test loss of the mean output of all networks: what an ensemble gains.

# %%
figure, ax = plt.subplots(figsize=(5, 3.5))
updates = np.arange(9)
for k, (name, run) in enumerate((("limit", limit), ("networks, n = 48", networks))):
    style = {"color": f"C{k}", "marker": "" if k == 0 else "o"}
    ax.plot(updates, np.median(run.losses / 6, axis=1), linestyle="--", label=f"{name}, trained", **style)
    ax.plot(updates, np.median(run.test_losses, axis=1), label=f"{name}, tested", **style)
    ax.plot(updates, run.ensembled(trained=False).value, linestyle=":", label=f"{name}, tested, ensemble", **style)
ax.set(xlabel="update", ylabel="loss per input, median", yscale="log")
ax.legend(fontsize=7)

# %% [markdown]
# The limit was trained in half the steps too, so that the error of its step is known: `compare` extrapolates, and says
# under "of step" what that adds.

# %%
cs.compare(limit, networks)

# %% [markdown]
# Gradient descent is stable while the sharpness, the largest eigenvalue of the Gauss–Newton matrix, is below 2/η₀:

# %%
sharpness = np.median(limit.sharpness(), axis=1)
print("sharpness, median over networks:", np.round(sharpness, 2), "against", round(2 / 0.15, 2))
