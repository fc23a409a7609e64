"""Bad input to the library: what is raised, and the sentence that comes with it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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


def test_check_gram_accepts_singular_and_rounded():
    np.testing.assert_array_equal(check_gram(np.ones((3, 3))), np.ones((3, 3)))
    np.testing.assert_array_equal(check_gram(np.zeros((2, 2))), np.zeros((2, 2)))
    V0 = check_gram(np.array([[1.0, 0.5 + 1e-9], [0.5, 1.0]]))
    assert V0[0, 1] == V0[1, 0]
