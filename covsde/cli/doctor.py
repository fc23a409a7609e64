"""What `covsde doctor` finds out: versions, devices, and whether this machine computes correctly."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np

from covsde.activations import ShapedReLU
from covsde.architectures.mlp.architecture import MLP
from covsde.drivers.simulate import simulate
from covsde.run.metadata import versions

_OPTIONAL = {"tqdm": "progress bars", "matplotlib": "figures", "sklearn": "the digits demo"}


def _product_error() -> float:
    """The worst error of a jitted batch of float32 matrix products, over its rounding bound: at most 1 if correct."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 4, 4, 10_000)).astype(np.float32)

    @jax.jit
    def multiply(a: jax.Array, b: jax.Array) -> jax.Array:
        return (a[:, :, None] * b[None]).sum(1)

    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    got = np.asarray(multiply(a, b), np.float64)
    bound = 4 * np.finfo(np.float32).eps * (np.abs(a64)[:, :, None] * np.abs(b64)[None]).sum(1)
    return float(np.max(np.abs(got - (a64[:, :, None] * b64[None]).sum(1)) / bound))


def _squared_norm_error(rows: int, dtype: str) -> float:
    """The worst error of |M x|² over a batch of vectors x, in integers: 0 if correct."""
    rng = np.random.default_rng(1)
    # Integers this small make every intermediate result exact, in either precision.
    matrix = rng.integers(-8, 9, (3, 3)).astype(dtype)
    x = rng.integers(-8, 9, (rows, 3)).astype(dtype)

    @jax.jit
    def squared_norms(x: jax.Array) -> jax.Array:
        return jax.vmap(lambda row: jnp.sum(jnp.matmul(matrix, row, precision="highest") ** 2))(x)

    with jax.enable_x64(dtype == "float64"):
        got = np.asarray(squared_norms(x), np.float64)
    expected = ((x.astype(np.float64) @ matrix.astype(np.float64).T) ** 2).sum(1)
    return float(np.max(np.abs(got - expected)))


def miscompiled() -> list[str]:
    """Run the kernels that jaxlib 0.10.2 gets silently wrong on CPU (https://github.com/jax-ml/jax/issues/39103).

    Returns:
        One description per kernel that is wrong here; empty if all are right.
    """
    wrong = []
    # Negated, so that NaN counts as wrong.
    if not _product_error() <= 1:
        wrong.append("products of 4 x 4 matrices, batch of 10000, float32")
    for rows, dtype in ((16_385, "float64"), (32_769, "float32"), (32_769, "float64")):
        if _squared_norm_error(rows, dtype) != 0:
            wrong.append(f"squared norms of 3-vectors, batch of {rows}, {dtype}")
    return wrong


def _simulation_problem() -> str:
    """What is wrong with a small simulation, or nothing."""
    try:
        result = simulate(MLP(ShapedReLU(0.5, -0.5), 1.0), np.array([[1.0, 0.5], [0.5, 1.0]]), paths=64, progress=False)
    except Exception as error:
        # Whatever breaks here is the finding, not a reason to lose the rest of the report.
        return f"{type(error).__name__}: {error}".splitlines()[0]
    if result.failures["total"] or not np.all(np.isfinite(result.V)):
        return f"{result.failures['total']} of 64 paths failed"
    return ""


def report() -> tuple[str, bool]:
    """Describe the installation and check it.

    Returns:
        The report as text, and whether every check passed; a missing optional package is not a failure.
    """
    lines = [f"{name:<12} {version}" for name, version in versions().items()]
    lines.append(f"{'backend':<12} {jax.default_backend()}: {', '.join(map(str, jax.devices()))}")
    lines.append(
        f"{'64-bit mode':<12} {'on' if jax.config.read('jax_enable_x64') else 'off'} (covsde sets it for each call)"
    )
    for module, purpose in _OPTIONAL.items():
        found = importlib.util.find_spec(module) is not None
        name = "scikit-learn" if module == "sklearn" else module
        lines.append(f"{name:<12} {'found' if found else 'not found'} (optional, for {purpose})")
    lines.append("")
    wrong = miscompiled()
    lines += [f"FAILED  wrong numbers: {kernel}" for kernel in wrong]
    if wrong:
        lines.append(
            "        jaxlib miscompiles these on CPU (jax issue 39103): install another version of jax and jaxlib."
        )
    else:
        lines.append("ok      kernels that some versions of jaxlib miscompile are right here")
    problem = _simulation_problem()
    lines.append(
        f"FAILED  simulation of 64 paths: {problem}" if problem else "ok      simulation of 64 paths, all finite"
    )
    return "\n".join(lines), not wrong and not problem
