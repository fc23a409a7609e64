"""Constants of scaling laws: resolvents, learned features, online SGD, optimal rates, pools."""

from mutants.base import Mutant

_R, _P, _F = "spectra/resolvent.py", "spectra/projection.py", "architectures/random_features/"
_WHITE = ("scaling_laws:white_spectra or another_program_and_of_its_draws",)
_LEARNED = ("scaling_laws:learned_features_are_those",)
_ONLINE = ("scaling_laws:online_sgd_has or unstable_beyond or largest_rate",)
_POOL = ("scaling_laws:pool",)

SCALING = (
    Mutant("scaling: C₂/N in C₀", _R, "cross = b * S1 * q / d", "cross = 1.1 * b * S1 * q / d", _WHITE),
    Mutant("scaling: λ² in C₀", _R, "left = 1 - a * b * S2 * p", "left = 1 - 1.1 * a * b * S2 * p", _WHITE),
    Mutant("scaling: λ² in C₂", _R, "d = 1 - a * b * S2 * q", "d = 1 - 1.1 * a * b * S2 * q", _WHITE),
    Mutant("scaling: noise in C₀", _R, "floor = noise", "floor = 1.1 * noise", _WHITE),
    Mutant(
        "scaling: plateau",
        _F + "scaling_law.py",
        "c = g_over / (N * d)",
        "c = 1.1 * g_over / (N * d)",
        ("scaling_laws:white_spectra or is_the_plateau",),
    ),
    Mutant(
        "scaling: γq of learned features",
        _F + "learned_features.py",
        "growth = gamma *",
        "growth = 1.1 * gamma *",
        _LEARNED,
    ),
    Mutant(
        "scaling: 4γ|y|²",
        _F + "learned_features.py",
        "jnp.sqrt(1 + 4 * gamma * squared)",
        "jnp.sqrt(1 + 4.4 * gamma * squared)",
        _LEARNED,
    ),
    Mutant(
        "scaling: 1/B of online SGD", _F + "online.py", "kicks = y * y / batch", "kicks = 1.1 * y * y / batch", _ONLINE
    ),
    Mutant(
        "scaling: noise around the spectrum",
        _F + "online.py",
        "q * h + rate * y / batch",
        "q * h + 1.1 * rate * y / batch",
        _ONLINE,
    ),
    Mutant(
        "scaling: largest rate",
        _F + "online.py",
        "/ (B + 1) - 1",
        "/ (1.1 * (B + 1)) - 1",
        _ONLINE,
    ),
    Mutant(
        "scaling: optimal rates",
        _F + "learning_rates.py",
        "curvature = (1 + 1 / batch)",
        "curvature = 1.1 * (1 + 1 / batch)",
        ("scaling_laws:optimal",),
    ),
    Mutant("pool: T/gg'", _P, "- T / pairs(g)))", "- 1.1 * T / pairs(g)))", _POOL),
    Mutant("pool: T/S", _P, "(1 + T / means", "(1 + 1.1 * T / means", _POOL),
    Mutant("pool: projection", _P, "means = (1 - p) / pairs(a)", "means = 1.1 * (1 - p) / pairs(a)", _POOL),
)
