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
# Two inputs with targets 1 and -1; gradient descent on the hidden matrices with learning rate η₀/n. Under this scaling
# outputs and features both move by amounts of order one, and what the network learns depends on its random start.

# %%
V0 = np.array([[1.0, 0.3], [0.3, 1.0]])
mlp = cs.MLP(cs.ShapedSmooth("tanh"), depth_to_width=0.5)
task = {"targets": [1.0, -1.0], "updates": 2, "learning_rate": 1.0}
limit = cs.train(mlp, V0, paths=500, key=0, **task)
networks = cs.train_networks(mlp, V0, width=40, draws=300, key=1, **task)

# %% [markdown]
# `outputs` has shape (updates + 1, paths, inputs). Means come closer to the targets and the spread shrinks:

# %%
for name, run in (("limit", limit), ("networks", networks)):
    mean, spread = run.outputs.mean(axis=1), run.outputs.std(axis=1)
    for update in range(3):
        print(f"{name:9} update {update}: f = {np.round(mean[update], 2)} ± {np.round(spread[update], 2)}")

# %% [markdown]
# Features move too, more so in late layers. `movement` is |h - h₀|²/n over layer time, path by path:

# %%
figure, ax = plt.subplots(figsize=(5, 3.5))
for name, run, style in (("limit", limit, "-"), ("networks, n = 40", networks, "o")):
    ax.plot(run.tau, run.movement().mean(axis=1), style, label=f"{name}, mean")
ax.set(xlabel="layer time  τ = ℓ/L", ylabel="|h - h₀|²/n after 2 updates")
ax.legend()

# %% [markdown]
# `Phi`, `G` and `A` hold every overlap of features and gradients over training: a label is a pair (update, input).
# The kernel of the last features aligns with the targets:

# %%
for update in range(3):
    aligned = [np.median(run.alignment(update)[-1]) for run in (limit, networks)]
    print(f"update {update}: median alignment {aligned[0]:.3f} in the limit, {aligned[1]:.3f} in networks")

# %% [markdown]
# The tangent kernel is not constant, as it would be in lazy training:

# %%
change = limit.ntk[-1, :, 0, 0] / limit.ntk[0, :, 0, 0]
print("tangent kernel after training / before: 10, 50, 90%:", np.round(np.quantile(change, [0.1, 0.5, 0.9]), 2))
