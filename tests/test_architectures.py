"""Every family, activation and block passes the checks that architectures of users can be held to as well."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covsde as cs
from covsde.testing import Check, Sample, check_architecture, checks

ARCHITECTURES = {
    "mlp relu": cs.MLP(cs.ShapedReLU(0.3, -0.7), 0.5),
    "mlp gelu": cs.MLP(cs.ShapedSmooth("gelu", a=2.0), 0.25),
    "mlp linear, bias, gain, profile": cs.MLP(cs.Identity(), 0.5, bias=0.2, gain=0.3, width_profile=(2 / 3, 2)),
    "resnet relu": cs.ResNet(jax.nn.relu, 0.8),
    "resnet tanh, post-activation": cs.ResNet(jnp.tanh, 0.8, "post-activation"),
    "mean-field tanh": cs.MeanFieldMLP(jnp.tanh, 2),
    "resnet tanh, two matrices": cs.ResNet(jnp.tanh, 0.8, "two-matrix"),
    "transformer, causal, mlp": cs.Transformer(
        gamma=0.5, heads=2, mlp=cs.ShapedReLU(0.0, -1.0), mask="causal", depth_to_width=0.25
    ),
}
# One activation and block of each family, and all that there are in `make thorough`.
QUICK = ("mlp relu", "resnet relu", "mean-field tanh", "transformer, causal, mlp")
ALL = [
    pytest.param(name, check, id=f"{name}: {check}", marks=[] if name in QUICK else pytest.mark.thorough)
    for name, architecture in ARCHITECTURES.items()
    for check in checks(architecture)
]


@pytest.mark.parametrize(("name", "check"), ALL)
def test_of(name: str, check: Check) -> None:
    check()


class Wrong(cs.MLP):
    """Networks whose Gram matrices do not depend on the key."""

    def sample_grams(self, V0: jax.Array, key: jax.Array, **shape: object) -> jax.Array:
        """Ten per cent too large."""
        return super().sample_grams(V0, key, **shape) * (1.1 if shape["method"] == "law" else 1.0)


def test_a_wrong_architecture_fails() -> None:
    wrong = Wrong(cs.ShapedReLU(0.3, -0.7), 0.5)
    with pytest.raises(AssertionError, match="log V_00 of networks in law and with weights"):
        check_architecture(wrong, Sample(np.array([[1.0, 0.4], [0.4, 0.8]]), draws=4000))
