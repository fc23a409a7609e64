"""Laws of the outputs against exact densities, and the Bayesian posterior against its first order."""

import math

import numpy as np

import covsde as cs

POINTS = (0.25, 0.5, 1.0, 2.0)
LINEAR, RELU = cs.Identity(), cs.LeakyReLU(0.0)
DIGITS = {
    ("linear", (3,)): (0.4735381588, 0.3637957115, 0.1913091097, 0.04429279955),
    ("linear", (3, 4)): (0.5207435345, 0.3555102174, 0.1639045186, 0.03811471201),
    ("linear", (5, 5, 5)): (0.5284863448, 0.3613059605, 0.1629182484, 0.03683194337),
    ("ReLU", (3,)): (0.411536435, 0.2736355379, 0.1374531138, 0.0388977838),
    ("ReLU", (3, 4)): (0.3941860881, 0.2225760829, 0.09747044784, 0.02807342967),
}


def exact_section() -> list[str]:
    lines = [
        "## Outputs: exact densities at finite width",
        "",
        "Density of one output, one input of unit variance, at f = 1/4, 1/2, 1, 2. Largest difference from known "
        "digits (given to 10 figures), of the Mellin inversion and of the Meijer G function.",
        "",
        "| network | widths | Mellin | Meijer G | atom at 0 |",
        "|---|---|---|---|---|",
    ]
    for (name, widths), digits in DIGITS.items():
        activation = RELU if name == "ReLU" else LINEAR
        gaps = [
            np.max(np.abs(density(activation, widths, POINTS) - np.asarray(digits)))
            for density in (cs.network_output_density, cs.meijer_output_density)
        ]
        atom = cs.output_atom(activation, widths)
        lines.append(f"| {name} | {widths} | {gaps[0]:.1e} | {gaps[1]:.1e} | {atom:.7f} |")
    lines += [
        "",
        "Exact densities at width n = depth approach the log-normal mixture of the limit, T = 1.",
        "",
        "| network | f | n = 50 | n = 100 | n = 200 | limit |",
        "|---|---|---|---|---|---|",
    ]
    for name, activation in (("linear", LINEAR), ("ReLU", RELU)):
        columns = [cs.network_output_density(activation, [n] * n, POINTS) for n in (50, 100, 200)]
        columns.append(cs.limit_output_density(cs.MLP(activation, 1.0), POINTS))
        for k, f in enumerate(POINTS):
            lines.append(f"| {name} | {f} | {' | '.join(f'{c[k]:.6f}' for c in columns)} |")
    return lines


def mixture_section(scale: int) -> list[str]:
    lines = [
        "",
        "Gaussian mixtures over ensembles against the exact densities: z-scores at the four points, and kurtosis, "
        "whose standard error cannot be trusted where it rests on rare paths (ReLU here).",
        "",
        "| ensemble | z at f = 1/4, 1/2, 1, 2 | kurtosis | exact |",
        "|---|---|---|---|",
    ]
    save = [0.0, 1.0]
    shaped = cs.MLP(cs.ShapedReLU(0.5, -0.5), 0.5)
    cases = [
        (
            "limit, shaped ReLU, T = 1/2",
            cs.simulate(shaped, [[1.0]], paths=400_000 // scale, save_at=save, key=41),
            cs.limit_output_density(shaped, POINTS),
            cs.limit_kurtosis(shaped),
        )
    ]
    for name, activation in (("linear", LINEAR), ("ReLU", RELU)):
        mlp = cs.MLP(activation, 0.5)
        net = cs.sample_networks(mlp, [[1.0]], width=10, depth=5, draws=400_000 // scale, save_at=save, key=42)
        exact = cs.network_output_density(activation, [10] * 5, POINTS)
        cases.append((f"networks, {name}, widths 10 × 5", net, exact, cs.network_kurtosis(activation, [10] * 5)))
    for name, ensemble, exact, kurtosis in cases:
        law = cs.OutputLaw(ensemble)
        value, error = law.density(POINTS)
        z = ", ".join(f"{x:+.1f}" for x in (value - exact) / error)
        found = law.kurtosis()
        lines.append(f"| {name} | {z} | {found.value:.3f} ± {found.standard_error:.3f} | {kurtosis:.3f} |")
    return lines


def bayes_section(scale: int) -> list[str]:
    rng = np.random.default_rng(5)
    V0 = cs.gram(rng.normal(size=(5, 8)))
    y, noise = rng.normal(size=4), 0.25
    P, m = 4, 5
    lines = [
        "## Bayesian posterior: first order in depth/width",
        "",
        "Four observed inputs and one test input, σ² = 1/4. Slopes in T of the log evidence and of the predictive mean "
        "at the test input: importance weights over the limit at T, with the linear part of the likelihood as a "
        "control variate, against the formula. The difference is O(T).",
        "",
        "| activation | T | evidence slope | formula | mean slope | formula |",
        "|---|---|---|---|---|---|",
    ]
    A = np.linalg.inv(V0[:P, :P] + noise * np.eye(P))
    u = A @ y
    for name, activation in (("linear", LINEAR), ("ReLU κ=4", cs.ShapedReLU(1.0, -1.0))):
        first = cs.first_order_posterior(cs.MLP(activation), V0, y, noise)
        m0 = first.predictive_mean[-1]
        for T in (0.04, 0.02, 0.01):
            mlp = cs.MLP(activation, T)
            e = cs.simulate(mlp, V0, paths=200_000 // scale, steps=2, save_at=[0, 1], key=43)
            V = e.V[-1]
            C = V[:, :P, :P] + noise * np.eye(P)
            weights = np.linalg.solve(C, np.broadcast_to(y[:, None], (V.shape[0], P, 1)))[..., 0]
            log_ratio = -0.5 * (np.linalg.slogdet(C)[1] + np.linalg.slogdet(A)[1] + weights @ y - y @ u)
            ratio = np.exp(log_ratio)
            prediction = np.einsum("pb,pb->p", V[:, -1, :P], weights)
            # Mean 0 apart from the drift: the first-order change of the likelihood and of the prediction.
            dV = V - V0 - T * (first.kernel_slope - V0[:, :P] @ (np.outer(u, u) - A) @ V0[:P])
            tilt = 0.5 * np.einsum("pab,ab->p", dV[:, :P, :P], np.outer(u, u) - A)
            shift = dV[:, -1, :P] @ u - np.einsum("a,pab,b->p", A @ V0[:P, -1], dV[:, :P, :P], u)
            evidence = (ratio - 1 - tilt) / T
            change = (ratio * (prediction - m0) - shift) / T / ratio.mean()
            row = []
            for samples, exact in ((evidence, first.log_evidence_slope), (change, first.predictive_mean_slope[-1])):
                error = samples.std() / math.sqrt(samples.size)
                row.append(f"{samples.mean():+.4f} ± {error:.4f} | {exact:+.4f}")
            lines.append(f"| {name} | {T} | {' | '.join(row)} |")
    assert V0.shape == (m, m)
    return lines


def section(scale: int) -> list[str]:
    """Markdown lines; scale = 10 takes a tenth of the samples."""
    return [*exact_section(), *mixture_section(scale), "", *bayes_section(scale)]


if __name__ == "__main__":
    import sys

    print("\n".join(section(int(sys.argv[1]) if len(sys.argv) > 1 else 1)))
