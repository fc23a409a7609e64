"""Bad input to the library: what is raised, and the sentence that comes with it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

import covsde as cs
from covsde import gram
from covsde.inputs.gram import check_gram

SETUP = """
import json, sys
import diffrax, jax, jax.numpy as jnp, numpy as np
import covsde as cs
from covsde.inputs.gram import check_gram
V0 = np.eye(2)
relu = cs.ShapedReLU(0.5, -0.5)
mlp = cs.MLP(relu, 1.0)
unshaped = cs.MLP(cs.LeakyReLU(0.0), 1.0)
e = cs.Ensemble(np.ones(1), np.eye(2)[None, None], np.zeros(1), np.ones(1))
def first(V): return V[..., 0, 0]
"""

# Expression, type of the error, part of its sentence.
CASES = [
    ("cs.gram([1, 2, 3])", "ValueError", "x must have shape (m, d), one input per row, got shape (3,)"),
    ("cs.gram(np.ones((0, 3)))", "ValueError", "got shape (0, 3)"),
    ("cs.gram([['a', 'b']])", "ValueError", "x must be an array of real numbers"),
    ("cs.gram([[1, 2], [3]])", "ValueError", "x must be an array of real numbers"),
    ("cs.gram([[1, np.nan]])", "ValueError", "x contains NaN or infinite values"),
    ("cs.gram([[1, np.inf]])", "ValueError", "x contains NaN or infinite values"),
    ("check_gram('abc')", "ValueError", "V0 must be an (m, m) Gram matrix of real numbers"),
    ("check_gram(np.ones((2, 3)))", "ValueError", "V0 must be an (m, m) Gram matrix, got shape (2, 3)"),
    ("check_gram(np.ones(2))", "ValueError", "V0 must be an (m, m) Gram matrix, got shape (2,)"),
    ("check_gram(np.ones((0, 0)))", "ValueError", "V0 must be an (m, m) Gram matrix, got shape (0, 0)"),
    ("cs.simulate(mlp, np.ones((2, 3)))", "ValueError", "V0 must be an (m, m) Gram matrix, got shape (2, 3)"),
    ("cs.simulate(mlp, np.array([[1, 0.2], [0.3, 1]]))", "ValueError", "V0 is not symmetric"),
    ("cs.simulate(mlp, np.array([[1.0, 2], [2, 1]]))", "ValueError", "smallest eigenvalue -1"),
    ("check_gram([[1e12, 0, 0], [0, 1, 2], [0, 2, 1]])", "ValueError", "smallest eigenvalue -1 of its correlations"),
    ("check_gram([[1e12, 0], [0, -1]])", "ValueError", "not positive semidefinite (input 1 has variance -1)"),
    ("check_gram([[1e12, 0], [0, -1e-9]])", "ValueError", "not positive semidefinite (input 1 has variance -1e-09)"),
    ("check_gram([[1e12, 0, 0], [0, 1, .9], [0, -.9, 1]])", "ValueError", "V0 is not symmetric"),
    ("check_gram([[0, 1e-9], [1e-9, 1]])", "ValueError", "input 0 has variance 0 and a covariance"),
    (
        "cs.simulate(mlp, [[1e-60]], dtype='float32')",
        "ValueError",
        "V0 has the variance 1e-60 of input 0, which float32",
    ),
    ("cs.simulate(mlp, [[1e-310]])", "ValueError", "which float64 cannot hold: rescale the inputs, e.g. to unit"),
    ("cs.sample_networks(mlp, [[1e-60]], width=8, dtype='float32')", "ValueError", "float32 cannot hold"),
    ("cs.simulate_gradients(mlp, [[1e-60]], dtype='float32')", "ValueError", "float32 cannot hold"),
    ("cs.sample_network_gradients(mlp, [[1e-60]], width=8, dtype='float32')", "ValueError", "float32 cannot hold"),
    ("cs.train(mlp, [[1e-60]], targets=[1], dtype='float32')", "ValueError", "or use dtype='float64'"),
    ("cs.train_networks(mlp, [[1e-60]], targets=[1], width=64, dtype='float32')", "ValueError", "float32 cannot hold"),
    ("cs.solve(mlp.limit(), np.array([[1e-40]], np.float32), 0, paths=1)", "ValueError", "float32 cannot hold"),
    ("cs.simulate(mlp, V0 * np.nan)", "ValueError", "V0 contains NaN or infinite values"),
    ("cs.simulate(mlp, V0, paths=0)", "ValueError", "paths must be an integer >= 1, got 0"),
    ("cs.simulate(mlp, V0, paths=1.5)", "ValueError", "paths must be an integer >= 1, got 1.5"),
    ("cs.simulate(mlp, V0, paths=True)", "ValueError", "paths must be an integer >= 1, got True"),
    ("cs.simulate(mlp, V0, steps=0)", "ValueError", "steps must be an integer >= 1, got 0"),
    ("cs.simulate(mlp, V0, chunk=0)", "ValueError", "chunk must be an integer >= 1, got 0"),
    ("cs.simulate(mlp, V0, dtype='float16')", "ValueError", "dtype must be float32 or float64, got float16"),
    ("cs.simulate(mlp, V0, dtype='real')", "ValueError", "dtype must be float32 or float64, got 'real'"),
    ("cs.simulate(mlp, V0, save_at=[0, 2])", "ValueError", "save_at must hold layer times in [0, 1]"),
    ("cs.simulate(mlp, V0, save_at=[-0.1])", "ValueError", "save_at must hold layer times in [0, 1]"),
    ("cs.simulate(mlp, V0, save_at=[np.nan])", "ValueError", "save_at must hold layer times in [0, 1]"),
    ("cs.simulate(mlp, V0, save_at=[])", "ValueError", "save_at must hold layer times in [0, 1]"),
    ("cs.simulate(mlp, V0, key='seed')", "ValueError", "key must be an integer seed or a JAX key, got 'seed'"),
    ("cs.simulate(mlp, V0, key=None)", "ValueError", "key must be an integer seed or a JAX key, got None"),
    ("cs.simulate(mlp, V0, key=1.5)", "ValueError", "key must be an integer seed or a JAX key, got 1.5"),
    ("cs.simulate(mlp, V0, key=jax.random.split(jax.random.key(0)))", "ValueError", "must be a single JAX key"),
    ("cs.simulate(mlp, V0, solver='strang')", "ValueError", "solver must be one of covsde.solvers, such as Strang()"),
    ("cs.simulate(mlp, V0, solver=diffrax.Euler())", "ValueError", "solver must be one of covsde.solvers"),
    ("cs.simulate(mlp, np.eye(8), steps=1, solver=cs.WishartStep())", "ValueError", "steps=1 is too few"),
    ("cs.simulate(cs.MLP(cs.ShapedReLU(9, -9), 1.0), V0, steps=1)", "ValueError", "steps=1 is too few"),
    ("cs.simulate(cs.MLP(cs.LeakyReLU(), 1.0), V0)", "TypeError", "activation=LeakyReLU is not shaped"),
    ("cs.MLP(relu, -1.0)", "ValueError", "depth_to_width must be a positive finite number, got -1.0"),
    ("cs.MLP(relu, 0.0)", "ValueError", "depth_to_width must be a positive finite number, got 0.0"),
    ("cs.MLP(relu, float('nan'))", "ValueError", "depth_to_width must be a finite number, got nan"),
    ("cs.MLP(jnp.tanh, 1.0)", "ValueError", "wrap a smooth function as ShapedSmooth(fn)"),
    ("cs.MLP('tanh', 1.0)", "ValueError", "got 'tanh'; write ShapedSmooth('tanh')."),
    (
        "cs.MLP('relu', 1.0)",
        "ValueError",
        "ShapedReLU(c_plus, c_minus) for the limit, or LeakyReLU(0.0) unshaped.",
    ),
    ("cs.ShapedReLU(float('inf'), 0.0)", "ValueError", "c_plus must be a finite number, got inf"),
    ("cs.ShapedSmooth(jax.nn.relu)", "ValueError", "fn must be smooth at 0"),
    ("cs.ShapedSmooth(jnp.cos)", "ValueError", "fn must have fn'(0) ≠ 0"),
    ("cs.ShapedSmooth(jnp.tanh, 0.0)", "ValueError", "a must not be 0"),
    ("cs.ShapedSmooth(3)", "ValueError", "fn must be a JAX function of one number"),
    ("cs.sample_networks(mlp, V0, width=0)", "ValueError", "width must be an integer >= 1, got 0"),
    ("cs.sample_networks(mlp, V0, width=1)", "ValueError", "width=1 is smaller than the number of inputs m=2"),
    ("cs.sample_networks(mlp, V0, width=8, draws=0)", "ValueError", "draws must be an integer >= 1, got 0"),
    ("cs.sample_networks(mlp, V0, width=8, depth=-1)", "ValueError", "depth must be an integer >= 1, got -1"),
    ("cs.sample_networks(mlp, V0, width=8, depth=2.5)", "ValueError", "depth must be an integer >= 1, got 2.5"),
    ("cs.sample_networks(mlp, V0, width=8, method='exact')", "ValueError", "method must be 'law' or 'weights'"),
    ("cs.sample_networks(mlp, V0, width=8, dtype='float16')", "ValueError", "dtype must be float32 or float64"),
    ("cs.sample_networks(mlp, V0, width=8, save_at=[2])", "ValueError", "save_at must hold layer times in [0, 1]"),
    ("cs.sample_networks(mlp, V0, width=8, key='seed')", "ValueError", "key must be an integer seed or a JAX key"),
    ("cs.sample_networks(mlp, np.full((2, 2), np.inf), width=8)", "ValueError", "V0 contains NaN or infinite values"),
    ("mlp.network(0, key=0)", "ValueError", "width must be an integer >= 1, got 0"),
    ("cs.simulate(mlp, V0, solver=cs.RungeKutta())", "ValueError", "steps deterministic limits, not NeuralCovariance"),
    ("cs.simulate(cs.ResNet('relu'), V0, solver=cs.Strang())", "ValueError", "for the architecture's"),
    ("cs.simulate(cs.ResNet('relu'), V0, solver=cs.LampertiEuler())", "ValueError", "for the archite"),
    ("cs.simulate(mlp, np.diag([1, 0]), solver=cs.LampertiEuler())", "ValueError", "and input 1 is: use Strang()."),
    ("cs.simulate(mlp, np.diag([0, 1]), solver=cs.AngleEuler())", "ValueError", "and input 0 is: use Strang()."),
    (
        "cs.solve(mlp.limit(), np.diag([0, 1]), 0, paths=1, steps=9, solver=cs.CorrelationEuler())",
        "ValueError",
        "input 0",
    ),
    (
        "cs.simulate(mlp, np.diag([1, 0]), paths=9).correlation(0, 1)",
        "ValueError",
        "input 1 is zero, so it has no corr",
    ),
    (
        "cs.simulate_unshaped(unshaped, solver=diffrax.Heun())",
        "ValueError",
        "solver must be LinearSplitting() or diffrax",
    ),
    ("cs.simulate_unshaped(unshaped, solver=diffrax.EulerHeun())", "ValueError", "which solve the Itô SDE"),
    ("cs.simulate_unshaped(unshaped, solver='x')", "ValueError", "solver must be LinearSplitting() or diffrax.Euler()"),
    ("cs.simulate_unshaped(unshaped, solver=cs.Strang())", "ValueError", "solver must be LinearSplitting()"),
    ("cs.simulate_unshaped(unshaped, solver=diffrax.Euler)", "ValueError", "solver must be LinearSplitting()"),
    ("e.correlation('a', 0)", "IndexError", "inputs must be numbers from 0 to 1, as m=2, got 'a'"),
    ("e.quantile(first, q='a')", "ValueError", "q must be a probability strictly between 0 and 1"),
    ("e.quantile(first, q=None)", "ValueError", "q must be a probability strictly between 0 and 1"),
    ("e.quantile(first, q=[[0.5]])", "ValueError", "q must be a probability strictly between 0 and 1"),
    ("cs.Ensemble(e.tau, e.V, e.status, e.stop_tau, [1])", "TypeError", "metadata must be a dictionary"),
    ("cs.compare(e, [e, e])", "ValueError", "networks must be passed one by one: write compare(limit, *networks)"),
    ("cs.compare(e, e, statistics='mean')", "ValueError", "statistics must map names to functions of V"),
]


@pytest.fixture(scope="module")
def raised(tmp_path_factory):
    """Type and message of the error that each expression raises, as users see it."""
    # In a process of its own, because in this one annotations are checked and speak before the library does.
    script = (
        SETUP
        + """
found = {}
for expression in json.load(sys.stdin):
    try:
        eval(expression)
    except Exception as error:
        found[expression] = (type(error).__name__, str(error))
print(json.dumps(found))
"""
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", script],
        input=json.dumps([expression for expression, _, _ in CASES]),
        cwd=tmp_path_factory.mktemp("empty"),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(("expression", "kind", "sentence"), CASES, ids=[case[0] for case in CASES])
def test_sentence(raised, expression, kind, sentence):
    assert expression in raised, "nothing was raised"
    assert raised[expression][0] == kind
    assert sentence in raised[expression][1]
    assert "\n" not in raised[expression][1]


def test_gram():
    x = np.random.default_rng(0).standard_normal((3, 7))
    V0 = gram(x)
    np.testing.assert_allclose(V0, [[a @ b / 7 for b in x] for a in x], rtol=1e-12)
    assert gram(np.ones((2, 4), np.uint8)).dtype == np.float64


class Frame:
    """A data frame with missing values allowed, as NumPy and covsde see one."""

    def __init__(self, values):
        self.values = np.array(values, object)

    def __array__(self, dtype=None, copy=None):
        return self.values

    def to_numpy(self, dtype=None, na_value=None):
        return np.array([[na_value if v is None else v for v in row] for row in self.values], dtype)


class Tensor:
    """A tensor on another device, as NumPy sees one."""

    def detach(self):
        return self

    cpu = detach

    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


X = [[1.0, 2.0], [0.5, -1.0]]


@pytest.mark.parametrize(
    "x",
    [jnp.asarray(X, jnp.bfloat16), np.ma.masked_array(X), Frame(X), np.asarray(X, np.longdouble)],
    ids=["bfloat16", "masked", "frame", "longdouble"],
)
def test_arrays_of_other_libraries_are_inputs(x):
    np.testing.assert_array_equal(gram(x), gram(X))
    np.testing.assert_array_equal(cs.Data(np.eye(2), jnp.asarray([1.0, -1.0], jnp.bfloat16)).targets, [1.0, -1.0])


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (scipy.sparse.csr_array(X), "x is a sparse matrix: pass x.toarray()."),
        (np.ma.masked_array(X, [[False, True], [False, False]]), "x has masked entries"),
        (Tensor(), "pass x.detach().cpu().float().numpy()."),
        (Frame([[1.0, None], [2.0, 3.0]]), "x contains NaN or infinite values"),
        (Frame([[1.0, "a"], [2.0, 3.0]]), "if all are numbers, pass x.astype(float)"),
        (np.zeros((3, 28, 28), np.uint8), "got shape (3, 28, 28): pass x.reshape(len(x), -1)."),
        (np.zeros(3), "got shape (3,): pass x[None, :] for one input"),
    ],
    ids=["sparse", "masked", "tensor", "missing", "text", "images", "vector"],
)
def test_what_would_be_lost_is_refused_with_the_call_that_converts(x, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        gram(x)


def test_targets_with_masked_entries_are_refused():
    with pytest.raises(ValueError, match="targets has masked entries"):
        cs.Data(np.eye(2), np.ma.masked_array([1.0, -1.0], [True, False]))


def test_check_gram_accepts_singular_and_rounded():
    np.testing.assert_array_equal(check_gram(np.ones((3, 3))), np.ones((3, 3)))
    np.testing.assert_array_equal(check_gram(np.zeros((2, 2))), np.zeros((2, 2)))
    V0 = check_gram(np.array([[1.0, 0.5 + 1e-9], [0.5, 1.0]]))
    assert V0[0, 1] == V0[1, 0]


def test_check_gram_accepts_what_float32_makes_of_inputs_of_low_rank():
    rng = np.random.default_rng(0)
    for m, d, rank in ((2, 1, 1), (40, 784, 3), (200, 1000, 10)):
        x = (rng.standard_normal((m, rank)) @ rng.standard_normal((rank, d))).astype(np.float32)
        x *= np.logspace(-3, 3, m, dtype=np.float32)[:, None]
        check_gram(x @ x.T / np.float32(d))


def test_check_gram_takes_the_rounding_of_a_zero_input_for_zero():
    np.testing.assert_array_equal(check_gram([[0.0, 1e-17], [1e-17, 1.0]]), [[0.0, 0.0], [0.0, 1.0]])
