"""Constants of MLPs at initialization: drifts, noise, clocks, two inputs and one, unshaped ReLU, outputs."""

from mutants.base import Mutant

_DRIFTS, _NOISE, _PAIR = "covariance/drifts.py", "solvers/noise.py", "covariance/correlation.py"
_ONE, _UNSHAPED, _OUT = (f"architectures/mlp/{x}.py" for x in ("one_input", "unshaped/equations", "output_density"))
_LAYER = ("limits:one_wide_layer or orthogonal or matrix",)
_FLOW = ("limits:one_step_of_the_drift or follow_the_drift_exactly or explode_at_the_time",)
_FACTOR = ("solvers:generating_function or one_step_of_noise or martingale or small_step",)
_LAW = ("correlation:independent_backward or angle_of_a_linear or minus_nu",)
_EULER = ("correlation:without_noise or euler_in or itos_formula or extrapolate",)
_SINGULAR = ("unshaped:limit or mean_of_w or second_moment or log_variance or delta_method or constants or chain",)
_DENSITY = ("outputs:digits or moments or wide_networks or density",)
_LOGISTIC = ("logistic:accurate or dufresne or stationary_variance_of_tanh or geometric",)
_ANGULAR = ("limits:angular_factor",)
_BAYES = ("bayes:first_order or exact_posterior or gaussian_process",)

INITIALIZATION = (
    Mutant(
        "shaped ReLU: κ/2π of the drift",
        _DRIFTS,
        "return self.kappa / (2 * math.pi) * sin_minus_angle_cos(rho)",
        "return 1.1 * self.kappa / (2 * math.pi) * sin_minus_angle_cos(rho)",
        _LAYER,
    ),
    Mutant("smooth drift: V^αα V^ββ", _DRIFTS, "/ 4 * (vi * vj + vij * (", "/ 4 * (1.1 * vi * vj + vij * (", _LAYER),
    Mutant("smooth drift: 2(V^αβ)²", _DRIFTS, "vij * (2 * vij - 3))", "vij * (2.2 * vij - 3))", _LAYER),
    Mutant("smooth drift: -3V^αβ", _DRIFTS, "(2 * vij - 3))", "(2 * vij - 3.3))", _LAYER),
    Mutant(
        "smooth drift: κ₃/2",
        _DRIFTS,
        "return quadratic + self.kappa3 / 2 *",
        "return quadratic + 1.1 * self.kappa3 / 2 *",
        _LAYER,
    ),
    Mutant(
        "smooth drift: the -2 beside κ₃", _DRIFTS, "/ 2 * vij * (vi + vj - 2)", "/ 2 * vij * (vi + vj - 2.2)", _LAYER
    ),
    Mutant("smooth drift: ¾ in β", _DRIFTS, "return 0.75 * self.kappa2", "return 0.825 * self.kappa2", _FLOW),
    Mutant("smooth flow: damping ¾", _DRIFTS, "jnp.exp(-0.75 * strength", "jnp.exp(-0.825 * strength", _FLOW),
    Mutant("smooth flow: 2ρ² of the source", _DRIFTS, "(1 + 2 * q * q)", "(1 + 2.2 * q * q)", _FLOW),
    Mutant("smooth flow: second stage", _DRIFTS, "(1 + 2 * once * once)", "(1 + 2.2 * once * once)", _FLOW),
    Mutant("smooth Euler step: damping", _DRIFTS, "damping = -0.375", "damping = -0.4125", _FLOW),
    Mutant(
        "shaped ReLU flow: average of stages",
        _DRIFTS,
        "return 0.5 * (rho + twice)",
        "return 0.55 * (rho + twice)",
        _FLOW,
    ),
    Mutant(
        "bias β_b in the drift",
        _DRIFTS,
        "+ self.bias * dt * mean_growth",
        "+ 1.1 * self.bias * dt * mean_growth",
        ("extensions:affine",),
    ),
    Mutant(
        "gain γ in the drift",
        _DRIFTS,
        "grown = jnp.asarray(self.gain * dt)",
        "grown = jnp.asarray(1.1 * self.gain * dt)",
        ("extensions:affine",),
    ),
    Mutant("κ of shaped ReLU", "activations.py", "square = (self", "square = 1.1 * (self", ("activations:slopes",)),
    Mutant("κ₂", "activations.py", "return self.second / self.a", "return 1.1 * self.second / self.a", _LAYER),
    Mutant("κ₃", "activations.py", "return self.third / self.a**2", "return 1.1 * self.third / self.a**2", _LAYER),
    Mutant(
        "¾ in β of an activation",
        "activations.py",
        "return 0.75 * self.kappa2**2",
        "return 0.825 * self.kappa2**2",
        ("activations:three_quarters",),
    ),
    Mutant(
        "normalisation c of shaped ReLU",
        "activations.py",
        "return 2 / (s_plus**2 + s_minus**2)",
        "return 2.2 / (s_plus**2 + s_minus**2)",
        ("activations:second_moment",),
    ),
    Mutant(
        "normalisation c of leaky ReLU",
        "activations.py",
        "return 2 / (1 + self.negative_slope**2)",
        "return 2.2 / (1 + self.negative_slope**2)",
        ("activations:second_moment",),
    ),
    Mutant(
        "sin θ - θ cos θ",
        "moments/arccos.py",
        "series = math.sqrt(2) *",
        "series = 1.1 * math.sqrt(2) *",
        _ANGULAR,
    ),
    Mutant("noise: variance of the diagonal", _NOISE, "jnp.sqrt(h / 8)", "jnp.sqrt(1.1 * h / 8)", _FACTOR),
    Mutant("noise: Itô correction of the diagonal", _NOISE, "(i + 1) * h / 4", "1.1 * (i + 1) * h / 4", _FACTOR),
    Mutant(
        "noise: variance below the diagonal",
        _NOISE,
        "squares.append(jnp.expm1(h)",
        "squares.append(1.1 * jnp.expm1(h)",
        _FACTOR,
    ),
    Mutant(
        "noise: ¼ of the lost areas", _NOISE, "* h / 2) - lost / 4)\n    if", "* h / 2) - lost / 3.6)\n    if", _FACTOR
    ),
    Mutant(
        "noise: ½X² of the unipotent step",
        "solvers/layout.py",
        "entry = entry + 0.5 * A[i, k] * A[k, j]",
        "entry = entry + 0.55 * A[i, k] * A[k, j]",
        ("solvers:memory_layout or one_step_of_noise or martingale or small_step or weak_order_two_for_the_farthest",),
    ),
    Mutant("Wishart step: its width", _NOISE, "jnp.sqrt(h) * chi(", "jnp.sqrt(1.1 * h) * chi(", ("solvers:bartlett",)),
    Mutant(
        "Euler–Maruyama: variance 2 on the diagonal",
        "solvers/terms.py",
        "[2.0**0.5 if i == j",
        "[2.2**0.5 if i == j",
        ("solvers:euler",),
    ),
    Mutant(
        "clock T of the limit",
        "covariance/clock.py",
        "return self.total * jnp.asarray(end - start)",
        "return 1.1 * self.total * jnp.asarray(end - start)",
        ("solvers:strang_reaches or log_normal",),
    ),
    Mutant("½ in the drift of ρ", _PAIR, "vij / scale * relative / 2", "vij / scale * relative / 1.8", _EULER),
    Mutant("drift of y: 1/2π", _PAIR, "return -over_sine / (2", "return -1.1 * over_sine / (2", _LAW),
    Mutant(
        "law of ρ: Itô correction of y",
        "drivers/correlation_law.py",
        "expansion = kappa * relu_drift_of_y(edges), jnp.tanh(edges) / 2",
        "expansion = kappa * relu_drift_of_y(edges), jnp.tanh(edges) / 1.8",
        _LAW,
    ),
    Mutant(
        "Euler in y: Itô correction",
        "solvers/two_inputs.py",
        "rho * h.noise / 2 + dW",
        "rho * h.noise / 1.8 + dW",
        _EULER,
    ),
    Mutant(
        "Euler in ρ: Itô correction",
        "solvers/two_inputs.py",
        "rho * room * h.noise / 2",
        "rho * room * h.noise / 1.8",
        _EULER,
    ),
    Mutant(
        "Euler in two inputs: noise of log V",
        "solvers/two_inputs.py",
        "own = jnp.sqrt(4 *",
        "own = jnp.sqrt(4.4 *",
        _EULER,
    ),
    Mutant(
        "1/V: β + 1",
        _ONE,
        "log_E = -(beta + 1) *",
        "log_E = -(beta + 1.1) *",
        _LOGISTIC,
    ),
    Mutant(
        "1/V: noise √2",
        _ONE,
        "+ math.sqrt(2) * B",
        "+ math.sqrt(2.2) * B",
        _LOGISTIC,
    ),
    Mutant(
        "explosion: shape β + 1",
        _ONE,
        "special.gammainc(beta + 1,",
        "special.gammainc(beta + 1.1,",
        _LOGISTIC,
    ),
    Mutant(
        "stationary law: shape |β| - 1",
        _ONE,
        "gamma(-beta - 1,",
        "gamma(-beta - 0.9,",
        _LOGISTIC,
    ),
    Mutant("unshaped: k = √2/3π", _UNSHAPED, "self.lam * math.sqrt(2) /", "1.1 * self.lam * math.sqrt(2) /", _SINGULAR),
    Mutant("unshaped: growth M/3", _UNSHAPED, "return self.M / 3", "return 1.1 * self.M / 3", _SINGULAR),
    Mutant("unshaped: M", _UNSHAPED, "return 1.5 * self.c**2", "return 1.65 * self.c**2", _SINGULAR),
    Mutant("unshaped: λ", _UNSHAPED, "** 2 * self.c / 2", "** 2 * self.c / 1.8", _SINGULAR),
    Mutant("unshaped: μ(ρ)", _UNSHAPED, "return e / 2 + a / 2", "return e / 2 + a / 1.8", _SINGULAR),
    Mutant("unshaped: σ(ρ)", _UNSHAPED, "k * (a - 2 * b)", "k * (a - 2.2 * b)", _SINGULAR),
    Mutant(
        "unshaped: drift of log V",
        "architectures/mlp/unshaped/steps.py",
        "jnp.broadcast_to(-(M - 1) / 2, y.w.shape)",
        "jnp.broadcast_to(-(M - 1) / 1.8, y.w.shape)",
        _SINGULAR,
    ),
    Mutant(
        "unshaped: correlation of w and log V",
        "architectures/mlp/unshaped/steps.py",
        "r = -jnp.sqrt(M / (3 * (M - 1)))",
        "r = -jnp.sqrt(1.1 * M / (3 * (M - 1)))",
        _SINGULAR,
    ),
    Mutant(
        "output law: variance of log V (ReLU)",
        _OUT,
        "def _(activation: ShapedReLU) -> float:\n    return 2.0",
        "def _(activation: ShapedReLU) -> float:\n    return 2.2",
        _DENSITY,
    ),
    Mutant(
        "output law: variance of log V (linear)",
        _OUT,
        "def _(activation: Identity) -> float:\n    return 2.0",
        "def _(activation: Identity) -> float:\n    return 2.2",
        _DENSITY,
    ),
    Mutant("output law: mean of log V", _OUT, "math.log(v0) - total / 2", "math.log(v0) - total / 1.8", _DENSITY),
    Mutant("kurtosis of the limit", _OUT, "return 3 * math.exp(", "return 3.3 * math.exp(", _DENSITY),
    Mutant("output mixture: its density", "results/output_law.py", "/ (2 * safe)", "/ (2.2 * safe)", _DENSITY),
    Mutant(
        "kurtosis of a mixture",
        "results/output_law.py",
        "np.asarray(3 * second",
        "np.asarray(3.3 * second",
        ("outputs", "networks:kurtosis"),
    ),
    Mutant(
        "posterior: ½ of the likelihood",
        "results/posterior.py",
        "log_F = -0.5 * (y.shape",
        "log_F = -0.55 * (y.shape",
        _BAYES,
    ),
    Mutant(
        "first-order posterior: k/4",
        "architectures/mlp/posterior.py",
        "slope += 0.25 * k *",
        "slope += 0.275 * k *",
        _BAYES,
    ),
    Mutant(
        "first-order posterior: slope of the mean",
        "architectures/mlp/posterior.py",
        "mean_slope = mean_slope + noise *",
        "mean_slope = mean_slope + 1.1 * noise *",
        _BAYES,
    ),
)
