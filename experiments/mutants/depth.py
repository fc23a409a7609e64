"""Constants of transformers and of depth-scaled ResNets."""

from mutants.base import Mutant

_ARCHITECTURE, _EQUATION, _STEPS, _FLOWS = (
    f"architectures/transformer/{x}.py" for x in ("architecture", "covariance", "steps", "deterministic")
)
_KERNELS, _STREAMS, _TRAINED, _MOMENTS = (
    *(f"architectures/resnet/{x}.py" for x in ("kernels", "streams", "training")),
    "moments/of_activation.py",
)
_DIGITS = ("transformer:digits or drift_and_diffusion or without_attention or log_det",)
_ATTENTION = ("transformer:paper or on_time or known_time or log_det or weak_order",)
_ODE = ("attention_ode",)
_EXACT = ("resnet_kernels:exact or moments or own or recursion or finite_depth or two_matrix or accurate_solution",)
_STREAM = ("resnet_lazy:streams or stream or log_norm or geometric",)
_DESCENT = ("trained_resnet:all_digits or closed_form",)

DEPTH = (
    Mutant(
        "transformer: κ = γ²(2-γ²)",
        _ARCHITECTURE,
        "else gamma2 * (2 - gamma2)",
        "else 1.1 * gamma2 * (2 - gamma2)",
        _DIGITS,
    ),
    Mutant(
        "transformer: κ with W^O",
        _ARCHITECTURE,
        "kappa = 2 * gamma2 if self.output_matrix",
        "kappa = 2.2 * gamma2 if self.output_matrix",
        ("transformer:without_attention or log_det", "transformer_networks:diffusion"),
    ),
    Mutant("transformer: κ of an MLP", _ARCHITECTURE, "kappa += 2 * gamma2", "kappa += 2.2 * gamma2", _DIGITS),
    Mutant(
        "transformer: drift of an MLP",
        _ARCHITECTURE,
        "slope = ReLUDrift(gamma2 *",
        "slope = ReLUDrift(1.1 * gamma2 *",
        ("transformer:digits or mlp", "transformer_networks:mlp_layer"),
    ),
    Mutant(
        "attention: γ²/τ₀² of the drift",
        _EQUATION,
        "return self.gamma2 * self.inverse_tau0 * self.inverse_tau0 * (spread",
        "return 1.1 * self.gamma2 * self.inverse_tau0 * self.inverse_tau0 * (spread",
        _DIGITS,
    ),
    Mutant(
        "attention: γ⁴/(Hτ₀²) of the noise",
        _EQUATION,
        "linear + self.gamma2**2",
        "linear + 1.1 * self.gamma2**2",
        _DIGITS,
    ),
    Mutant(
        "attention: spread of logits",
        _EQUATION,
        "[None, None] / (m * m)",
        "[None, None] / (0.9 * m * m)",
        ("transformer:digits or no_mask or known_time",),
    ),
    Mutant(
        "attention: self-amplification",
        _EQUATION,
        "return self.gamma2 * (1 - self.gamma2 * self.inverse_heads)",
        "return 1.1 * self.gamma2 * (1 - self.gamma2 * self.inverse_heads)",
        _ATTENTION,
    ),
    Mutant(
        "attention: noise of the root",
        _EQUATION,
        "s = self.gamma2 * self.inverse_tau0 * jnp",
        "s = 1.1 * self.gamma2 * self.inverse_tau0 * jnp",
        _ATTENTION,
    ),
    Mutant(
        "attention: second order of the softmax",
        _EQUATION,
        "second = h * self.gamma2",
        "second = 1.1 * h * self.gamma2",
        _ATTENTION,
    ),
    Mutant("attention: Stratonovich correction", _EQUATION, "(G + 0.5 * trace[", "(G + 0.55 * trace[", _ATTENTION),
    Mutant(
        "attention with a mask: Stratonovich correction",
        _EQUATION,
        "- 0.5 * h * s * s",
        "- 0.55 * h * s * s",
        ("transformer:paper or no_mask",),
    ),
    Mutant(
        "attention step: noise of a flow",
        _STEPS,
        "Z, area = 0.5 * jnp.sqrt(h)",
        "Z, area = 0.55 * jnp.sqrt(h)",
        ("transformer:weak_order or log_det or quantiles", "transformer_networks:quantiles"),
    ),
    Mutant(
        "attention step: Lévy area",
        _STEPS,
        "jnp.sqrt(h / 2) * g[1]",
        "jnp.sqrt(1.1 * h / 2) * g[1]",
        ("transformer:noise_of_the_two_flows or weak_order or log_det",),
    ),
    Mutant("uniform attention: β²", _FLOWS, "jnp.expm1(beta**2 * tau)", "jnp.expm1(1.1 * beta**2 * tau)", _ODE),
    Mutant(
        "residual attention: β_A²",
        _FLOWS,
        "growth = self.beta_attention**2",
        "growth = 1.1 * self.beta_attention**2",
        _ODE,
    ),
    Mutant("residual attention: β_M²", _FLOWS, "growth + self.beta_mlp**2", "growth + 1.1 * self.beta_mlp**2", _ODE),
    Mutant(
        "map of ReLU correlations",
        _FLOWS,
        "strength = (1 - negative_slope)",
        "strength = 1.1 * (1 - negative_slope)",
        _ODE,
    ),
    Mutant("block: χ of the exponents", _FLOWS, "sigma**2 * np.sum(", "1.1 * sigma**2 * np.sum(", _ODE),
    Mutant(
        "ResNet: β² of H",
        _KERNELS,
        "self.strength * square * kernels.forward,",
        "1.1 * self.strength * square * kernels.forward,",
        _EXACT,
    ),
    Mutant(
        "ResNet: β² of G",
        _KERNELS,
        "self.strength * square * kernels.backward,",
        "1.1 * self.strength * square * kernels.backward,",
        _EXACT,
    ),
    Mutant(
        "ResNet: β² of the tangent kernel",
        _KERNELS,
        "square * jnp.exp(-state.growth)",
        "1.1 * square * jnp.exp(-state.growth)",
        _EXACT,
    ),
    Mutant(
        "ResNet of finite depth: β²/L",
        _KERNELS,
        "square, strength = self.beta * self.beta / depth",
        "square, strength = 1.1 * self.beta * self.beta / depth",
        _EXACT,
    ),
    Mutant(
        "ResNet: the flow of H alone",
        _KERNELS,
        "return self.strength * self.beta * self.beta *",
        "return 1.1 * self.strength * self.beta * self.beta *",
        ("resnet_kernels:accurate_solution or third_order or shaped_mlp",),
    ),
    Mutant("ReLU moments: 1/2π", _MOMENTS, "/ (2 * math.pi)\n", "/ (2.2 * math.pi)\n", _EXACT),
    Mutant("ReLU moments: mean", _MOMENTS, "math.sqrt(2 * math.pi) * root", "math.sqrt(2.2 * math.pi) * root", _EXACT),
    Mutant(
        "erf moments: 2/π",
        _MOMENTS,
        "return 2 / math.pi * jnp.arcsin(2 * vij",
        "return 2.2 / math.pi * jnp.arcsin(2 * vij",
        _EXACT,
    ),
    Mutant(
        "ResNet of finite width: β/√n",
        _STREAMS,
        "return self.beta / math.sqrt(X.shape[2])",
        "return 1.1 * self.beta / math.sqrt(X.shape[2])",
        _STREAM,
    ),
    Mutant(
        "trained ResNet: β²γ₀/L",
        _TRAINED,
        "beta**2 * task.settings.richness",
        "1.1 * beta**2 * task.settings.richness",
        _DESCENT,
    ),
    Mutant(
        "trained ResNet: β/√L",
        _TRAINED,
        "beta * float(np.sqrt(strength / depth))",
        "1.1 * beta * float(np.sqrt(strength / depth))",
        _DESCENT,
    ),
)
