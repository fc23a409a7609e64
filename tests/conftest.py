"""Settings for the whole suite: double precision, and nothing broadcast or promoted by accident."""

import os

import hypothesis
import jax

os.environ["MPLBACKEND"] = "Agg"  # before anything imports matplotlib

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# The same examples on every run, and no deadline: a first call compiles.
hypothesis.settings.register_profile("covsde", derandomize=True, deadline=None, max_examples=25)
hypothesis.settings.load_profile("covsde")
