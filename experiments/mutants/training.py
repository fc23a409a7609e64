"""Constants of gradients, velocities and training of MLPs."""

from mutants.base import Mutant

_GRADIENTS, _DOWN = "architectures/mlp/gradients.py", "solvers/backward.py"
_EXPANSION, _LAYER = "covariance/expansion.py", "architectures/mlp/feature_learning.py"
_MOMENTS = ("gradients:moments or one_wide_layer or gradient_norm or tangent_kernel or upside_down",)
_LINEAR = ("gradients:linear_limit or tangent_kernel",)
_STEP = (
    "gradients:power_of_an_even",
    "training:even_part or features_of_any_size or strong_shaping or gradients_of_a_layer or of_the_limit",
)
_TRAINED = ("training:boundary or small_learning_rate or exactly_a_layer or another_program or independent_program",)
_VELOCITIES = ("velocities:exact_mean or tangent_kernel or small_step or approach_the_limit or independent",)
_SIGN = ("sign_updates:coefficients or one_label",)

TRAINING = (
    Mutant(
        "gradients: κ₃/2 (odd)",
        _GRADIENTS,
        "return self.kappa3 / 2 * (_rows(Phi)",
        "return 1.1 * self.kappa3 / 2 * (_rows(Phi)",
        _MOMENTS,
    ),
    Mutant("gradients: ¾ beside κ₂²", _GRADIENTS, "(Phi - 0.75)", "(Phi - 0.825)", _MOMENTS),
    Mutant(
        "gradients: κ/2π (ReLU)",
        _GRADIENTS,
        "return -self.kappa / (2 * math.pi) * angle",
        "return -1.1 * self.kappa / (2 * math.pi) * angle",
        _MOMENTS,
    ),
    Mutant(
        "overlap: κ/4 of its drift (ReLU)",
        _GRADIENTS,
        "rate = self.kappa / 4 *",
        "rate = 1.1 * self.kappa / 4 *",
        _MOMENTS,
    ),
    Mutant(
        "overlap: κ₂²/2 of its drift",
        _GRADIENTS,
        "return -self.kappa2 * self.kappa2 / 2 * (own",
        "return -1.1 * self.kappa2 * self.kappa2 / 2 * (own",
        _MOMENTS,
    ),
    Mutant("overlap: its noise", _GRADIENTS, "* (squares - left - right", "* (1.1 * squares - left - right", _MOMENTS),
    Mutant(
        "overlap: κ₃/2",
        _GRADIENTS,
        "return -kappa3 / 2 *",
        "return -1.1 * kappa3 / 2 *",
        ("gradients", "training:even"),
    ),
    Mutant("backward: rank of what is known", _DOWN, "jnp.exp(-rank * h / 2)", "jnp.exp(-1.1 * rank * h / 2)", _LINEAR),
    Mutant(
        "backward: what is known",
        _DOWN,
        "return h / 2 * _transposed(half)",
        "return h / 1.8 * _transposed(half)",
        _LINEAR,
    ),
    Mutant("tangent kernel: weight of a layer", _DOWN, "weight = dtau / 2", "weight = dtau / 1.8", _LINEAR),
    Mutant(
        "velocities: learning rate",
        "architectures/mlp/velocities.py",
        "return self.learning_rate * G",
        "return 1.1 * self.learning_rate * G",
        _VELOCITIES,
    ),
    Mutant(
        "velocities: 1 + rank", "architectures/mlp/velocities.py", "return 1 + rank", "return 1.1 + rank", _VELOCITIES
    ),
    Mutant(
        "velocities: what gradients carry",
        "architectures/mlp/velocities.py",
        "scaled = r / G[:, None]",
        "scaled = 1.1 * r / G[:, None]",
        _VELOCITIES,
    ),
    Mutant(
        "even part: κ₂/2",
        _EXPANSION,
        "return self.kappa2 / 2 * z * z",
        "return 1.1 * self.kappa2 / 2 * z * z",
        _STEP,
    ),
    Mutant("even part: its slope κ₂", _EXPANSION, "return self.kappa2 * z", "return 1.1 * self.kappa2 * z", _STEP),
    Mutant("even part: its power", _EXPANSION, "return 0.75 * self", "return 0.825 * self", _STEP),
    Mutant("even part of ReLU: its power", _EXPANSION, "return self.kappa / 4", "return self.kappa / 3.6", _STEP),
    Mutant(
        "even part of ReLU: √κ/2",
        _EXPANSION,
        "return math.sqrt(self.kappa) / 2 if isinstance(self.kappa, float | int) else jnp.sqrt(self.kappa) / 2",
        "return 1.1 * jnp.sqrt(self.kappa) / 2",
        _STEP,
    ),
    Mutant(
        "cubic part: κ₃ in ε",
        _LAYER,
        "jnp.expm1(self.expansion.kappa3 / self.width)",
        "jnp.expm1(1.1 * self.expansion.kappa3 / self.width)",
        _STEP,
    ),
    Mutant(
        "layer of the limit: its width",
        "architectures/mlp/architecture.py",
        "sizes.depth / self.depth_to_width, task.dtype",
        "1.1 * sizes.depth / self.depth_to_width, task.dtype",
        ("training:before_training or boundary or independent_program or another_program",),
    ),
    Mutant(
        "training: learning rate of revealed weights",
        "descent/revealed.py",
        "push = ends.scale / (n * jnp.sqrt(n))",
        "push = 1.1 * ends.scale / (n * jnp.sqrt(n))",
        _TRAINED,
    ),
    Mutant(
        "training: scale of outputs",
        "descent/revealed.py",
        "return self.ends.scale * jnp.sqrt(self.space.width)",
        "return 1.1 * self.ends.scale * jnp.sqrt(self.space.width)",
        _TRAINED,
    ),
    Mutant(
        "training: scale of overlaps",
        "descent/revealed.py",
        "jnp.sqrt(n) * products(x, g)",
        "1.1 * jnp.sqrt(n) * products(x, g)",
        _TRAINED,
    ),
    Mutant(
        "squared loss: ½",
        "descent/losses.py",
        "return 0.5 * jnp.sum(",
        "return 0.55 * jnp.sum(",
        ("training:gradient_descent_on", *_TRAINED),
    ),
    Mutant(
        "learning rate of drawn weights",
        "descent/rules.py",
        "task.dtype) / (task.substeps * width)",
        "task.dtype) * 1.1 / (task.substeps * width)",
        ("training:gradient_descent_on or with_weights",),
    ),
    Mutant(
        "sign: √(2/π)",
        "descent/rules.py",
        "return jnp.sqrt(2 / jnp.pi) *",
        "return 1.1 * jnp.sqrt(2 / jnp.pi) *",
        _SIGN,
    ),
    Mutant(
        "sign: the integral",
        "descent/rules.py",
        "scale = jnp.sqrt(2 / jnp.pi /",
        "scale = 1.1 * jnp.sqrt(2 / jnp.pi /",
        _SIGN,
    ),
)
