"""Bad calls, made from tables: every argument of every question with values that it cannot have.

Run as a script, without the checks of annotations that would speak before the library does, it prints what each call
raised; `test_bad_calls.py` reads that.
"""

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import covsde as cs

V0 = np.eye(2)
TANH, LINEAR = cs.MLP(cs.ShapedSmooth("tanh"), 1.0), cs.MLP(cs.Identity(), 1.0)
UNSHAPED, RESNET, TRANSFORMER = (
    cs.MLP(cs.LeakyReLU(0.0), 1.0),
    cs.ResNet("relu"),
    cs.Transformer(0.5, depth_to_width=0.5),
)
ENSEMBLE = cs.Ensemble(np.ones(1), np.eye(2)[None, None], np.zeros(1), np.ones(1))


def first(V: Any) -> Any:
    return V[..., 0, 0]


COUNT = [0, -1, 1.5, True, "3", float("nan"), 2**40, [1]]  # where None is a default
INTEGER = [*COUNT, None]
NUMBER = ["a", float("nan"), float("inf"), [1, 2], True, 1j]
POSITIVE = [0, -1, *NUMBER]
GRAM = [
    "abc",
    np.ones((2, 3)),
    np.ones(2),
    np.full((2, 2), np.nan),
    [[1, 2], [2, 1]],
    [[-1, 0], [0, 1]],
    [[1, 0.2], [0.3, 1]],
    None,
    {},
    np.eye(2) * 1j,
    [["a"]],
]
TARGETS = ["ab", [1], [1, 2, 3], [1, np.inf], [1, np.nan], None, [["a"], ["b"]], np.ones((2, 2, 2)), {}]
KEY = ["seed", None, 1.5, [1, 2], jax.random.split(jax.random.key(0))]
SAVE_AT = [[], [2], [-0.1], [np.nan], "x", [0.5, 0.50000001], {}]
DTYPE = ["float16", "real", int, 3, "complex64"]
FOLDER = [3, "", "a\0b", b"x", ["a"]]
SWITCH = ["yes", 1, 0.0, [True]]
ARCHITECTURE = [None, "mlp", 3, V0, cs.MLP, cs.ShapedReLU(0, -1)]
LOSS = ["hinge", 3, None, lambda f: f, lambda f, y: f, lambda f, y: "a", [1]]
BATCHES = ["x", [5], [-1], [0, 0], [[0], [3]], [], [[]], 3.5]
RATE = ["a", float("nan"), float("inf"), [1, 2, 3, 4, 5], [[1]], None, "1"]
NAME = [None, 3, "", "a\0.npz", "x" * 300 + ".npz", b"a.npz"]
INPUTS = ["text", np.ones((2, 2, 4)), [[np.nan]], None, {}, np.ones((0, 3)), [[1j]]]

HOW = {
    "key": KEY,
    "save_at": SAVE_AT,
    "dtype": DTYPE,
    "chunk": COUNT,
    "progress": SWITCH,
    "checkpoint": FOLDER,
}
INITIAL = {"architecture": ARCHITECTURE, "V0": GRAM, **HOW}
TRAINING = {
    **INITIAL,
    "targets": TARGETS,
    "updates": [v for v in INTEGER if v != 0],
    "substeps": INTEGER,
    "learning_rate": RATE,
    "optimizer": ["adam", {}, cs.SGD],
    "batches": BATCHES,
    "centred": SWITCH,
    "loss": LOSS,
    "kernels": SWITCH,
    "output_scale": NUMBER,
    "train_input": SWITCH,
    "train_readout": SWITCH,
}

PAIR = {"V0": V0, "targets": [1, -1]}
# A function, arguments that are good, and values that each of its arguments cannot have.
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, list[Any]]]] = {
    "simulate": (
        cs.simulate,
        {"architecture": TANH, "V0": V0},
        {
            "paths": INTEGER,
            "steps": COUNT,
            "solver": ["strang", diffrax.Euler(), cs.Strang, 3, cs.RungeKutta()],
            **INITIAL,
        },
    ),
    "sample_networks": (
        cs.sample_networks,
        {"architecture": TANH, "V0": V0, "width": 8},
        {"width": INTEGER, "draws": INTEGER, "depth": COUNT, "method": ["exact", None, 3], **INITIAL},
    ),
    "train": (
        cs.train,
        {"architecture": TANH, **PAIR},
        {"method": ["x", 3], "paths": INTEGER, "steps": COUNT, **TRAINING},
    ),
    "train_networks": (
        cs.train_networks,
        {"architecture": TANH, "width": 64, **PAIR},
        {"method": ["x", None, 3], "draws": INTEGER, "width": INTEGER, "depth": COUNT, **TRAINING},
    ),
    "train a ResNet": (
        cs.train,
        {"architecture": RESNET, **PAIR},
        {"richness": POSITIVE, "depth": COUNT, "response": SWITCH},
    ),
    "simulate_gradients": (
        cs.simulate_gradients,
        {"architecture": TANH, "V0": V0},
        {"paths": INTEGER, "steps": COUNT, **INITIAL},
    ),
    "sample_network_gradients": (
        cs.sample_network_gradients,
        {"architecture": TANH, "V0": V0, "width": 8},
        {"width": INTEGER, "draws": INTEGER, "depth": COUNT, **INITIAL},
    ),
    "simulate_velocities": (
        cs.simulate_velocities,
        {"architecture": LINEAR, **PAIR},
        {"targets": TARGETS, "learning_rate": NUMBER, "paths": INTEGER, "steps": COUNT, "loss": LOSS, **INITIAL},
    ),
    "sample_network_velocities": (
        cs.sample_network_velocities,
        {"architecture": LINEAR, "width": 8, **PAIR},
        {
            "targets": TARGETS,
            "width": INTEGER,
            "draws": INTEGER,
            "depth": COUNT,
            "output_scale": NUMBER,
            **HOW,
        },
    ),
    "simulate_unshaped": (
        cs.simulate_unshaped,
        {"mlp": UNSHAPED},
        {
            "mlp": ARCHITECTURE,
            "paths": INTEGER,
            "steps": COUNT,
            "rho0": [1, 2, -2, *NUMBER],
            **{name: values for name, values in HOW.items() if name != "dtype"},
        },
    ),
    "sample_unshaped_networks": (
        cs.sample_unshaped_networks,
        {"mlp": UNSHAPED, "rho0": 0.3, "width": 8},
        {
            "mlp": ARCHITECTURE,
            "width": INTEGER,
            "draws": INTEGER,
            "depth": COUNT,
            "rho0": [1, 2, -2, *NUMBER],
            "key": KEY,
            "save_at": SAVE_AT,
            "chunk": COUNT,
        },
    ),
    "correlation_law": (
        cs.correlation_law,
        {"architecture": cs.MLP(cs.ShapedReLU(0, -1), 1.0), "rho0": 0.3},
        {
            "architecture": ARCHITECTURE,
            "rho0": [1, -1, 2, *NUMBER],
            "points": [*INTEGER, 50],
            "steps": COUNT,
            "save_at": SAVE_AT,
        },
    ),
    "kernels": (
        cs.kernels,
        {"architecture": RESNET, "V0": V0},
        {"architecture": ARCHITECTURE, "V0": GRAM, "depth": COUNT},
    ),
    "lazy_training": (
        cs.lazy_training,
        {"ntk": V0, "targets": [1, -1], "times": [0, 1]},
        {
            "ntk": ["abc", np.ones(2), None],
            "targets": ["ab", [1, 2, 3], [1, np.nan], None],
            "times": ["x", [-1], [np.nan], [[0]]],
            "learning_rate": NUMBER,
            "method": ["x", None],
        },
    ),
    "MLP": (
        cs.MLP,
        {"activation": cs.Identity()},
        {
            "activation": ["relu", None, jnp.tanh, 3],
            "depth_to_width": POSITIVE,
            "bias": [-1, *NUMBER],
            "gain": NUMBER,
            "width_profile": ["x", [], [0], [-1], 3],
            "shaping_width": ["x", None],
        },
    ),
    "ResNet": (
        cs.ResNet,
        {"activation": "relu"},
        {
            "activation": ["swish", None, 3, jax.nn.softmax, cs.Identity(), lambda x: x.sum()],
            "beta": [-1, *NUMBER],
            "block": ["x", 3],
        },
    ),
    "Transformer": (
        cs.Transformer,
        {"gamma": 0.5},
        {
            "gamma": [-1, 2, *NUMBER],
            "tau0": [0, -1, "a", float("nan")],
            "heads": [0, -1, 1.5, "a", None],
            "mlp": ["relu", 3],
            "mask": ["x", 3, [[1] * 3] * 2],
            "depth_to_width": POSITIVE,
            "output_matrix": SWITCH,
            "shaping": ["x", None],
            "key_size": COUNT,
            "attention": ["x", 3],
            "normalisation": ["x", 3],
        },
    ),
    "ShapedReLU": (
        cs.ShapedReLU,
        {"c_plus": 0, "c_minus": -1},
        {"c_plus": [*NUMBER, 1e9], "c_minus": NUMBER, "exponent": [9, *POSITIVE]},
    ),
    "ShapedReLU.from_slopes": (
        cs.ShapedReLU.from_slopes,
        {"s_plus": 1.0, "s_minus": 0.9, "width": 10},
        {"s_plus": NUMBER, "s_minus": [*NUMBER, 1e9], "width": INTEGER},
    ),
    "ShapedSmooth": (
        cs.ShapedSmooth,
        {"fn": "tanh"},
        {
            "fn": ["relu6", None, 3, jax.nn.relu, jnp.cos, lambda x: "a"],
            "a": [0, *NUMBER],
            "exponent": [0, -1],
        },
    ),
    "LeakyReLU": (cs.LeakyReLU, {}, {"negative_slope": NUMBER}),
    "SGD": (
        cs.SGD,
        {"rate": 1.0},
        {
            "rate": ["a", float("nan"), float("inf"), [[1]], [], None],
            "momentum": [1, -1, *NUMBER],
            "nesterov": [*SWITCH, True],
            "weight_decay": [-1, *NUMBER],
            "decoupled": SWITCH,
        },
    ),
    "gram": (cs.gram, {"x": V0}, {"x": [*INPUTS, [1, 2], [["a"]], [[1e30]]]}),
    "Data": (cs.Data, {"V0": V0, "targets": [1, 2]}, {"V0": GRAM, "targets": TARGETS[:4] + TARGETS[5:]}),
    "mlp.network": (
        TANH.network,
        {"width": 4, "key": 0},
        {
            "width": INTEGER,
            "key": KEY,
            "depth": COUNT,
            "in_size": COUNT,
            "out_size": INTEGER,
            "dtype": ["int32", "real", 3],
        },
    ),
    "resnet.network": (
        RESNET.network,
        {"width": 4, "key": 0},
        {
            "width": INTEGER,
            "key": KEY,
            "depth": COUNT,
            "in_size": COUNT,
            "out_size": INTEGER,
            "richness": POSITIVE,
            "dtype": ["int32", 3],
        },
    ),
    "network of an MLP": (LINEAR.network(4, key=0), {"x": V0}, {"x": INPUTS}),
    "network of a ResNet": (RESNET.network(4, depth=2, key=0), {"x": V0}, {"x": INPUTS}),
    "network of a transformer": (TRANSFORMER.network(4, key=0), {"x": V0}, {"x": [*INPUTS, np.ones(4)]}),
    "save": (ENSEMBLE.save, {"path": "a.npz"}, {"path": [*NAME, "run.npy"]}),
    "load": (cs.Ensemble.load, {"path": "a.npz"}, {"path": NAME}),
    "correlation": (
        ENSEMBLE.correlation,
        {"i": 0, "j": 1},
        {"i": ["a", 5, None, 1.5], "j": ["a", 5, None]},
    ),
    "quantile": (
        ENSEMBLE.quantile,
        {"f": first, "q": 0.5},
        {"q": ["a", [], 0, 1, -1, 2, None, [[0.5]], np.nan], "f": ["a", 3, None, lambda V: "a"]},
    ),
    "mean": (
        ENSEMBLE.mean,
        {"f": first},
        {"f": ["a", 3, None, lambda V: "a", lambda V: 1j * V[..., 0, 0]]},
    ),
    "compare": (
        lambda limit, networks, statistics=None: cs.compare(limit, networks, statistics=statistics),
        {"limit": ENSEMBLE, "networks": ENSEMBLE},
        {
            "limit": [None, "a", 3, V0],
            "networks": [None, "a", 3, [ENSEMBLE, ENSEMBLE]],
            "statistics": ["mean", 3, [1], {"a": 3}, {3: first}, {"a": ("mode", first)}],
        },
    ),
}


def raised() -> Iterator[dict[str, str]]:
    """What every bad call raises, as users see it: its type and its sentence; neither if it raises nothing."""
    for name, (function, good, arguments) in CALLS.items():
        for argument, values in arguments.items():
            for value in values:
                case = {"call": name, "argument": argument, "value": " ".join(repr(value).split())[:60]}
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        found = getattr(function, "plan", function)(**(good | {argument: value}))
                        if isinstance(found, cs.Plan):
                            found.rehearse()
                except Exception as error:
                    case |= {"type": type(error).__name__, "sentence": str(error)}
                yield case


if __name__ == "__main__":
    json.dump(list(raised()), sys.stdout)
