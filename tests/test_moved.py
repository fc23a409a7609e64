"""Import paths of earlier documentation: each raises a sentence with the new place, where everything is."""

import importlib

import pytest

from covsde import _moved

# A module, where its names are now, and those that were documented or used by the experiments.
MOVED = {
    "covsde.compare": ("covsde", "compare"),
    "covsde.kernels": ("covsde", "kernels"),
    "covsde.limits.attention_ode": ("covsde", "drift_flow uniform_attention ResidualAttention BlockMap"),
    "covsde.limits.backward": ("covsde.extend", "backward_of"),
    "covsde.limits.base": ("covsde.extend", "AbstractLimit AbstractCovarianceLimit"),
    "covsde.limits.clock": ("covsde.extend", "AbstractClock UniformClock TabulatedClock"),
    "covsde.limits.expansion": ("covsde.extend", "Expansion"),
    "covsde.limits.mlp": ("covsde.extend", "NeuralCovarianceSDE AbstractDrift ReLUDrift SmoothDrift Affine drift_of"),
    "covsde.networks.scaled": ("covsde.transfer.network", "ScaledNetwork"),
    "covsde.networks.mlp": ("covsde.architectures.FAMILY.network", ""),
    "covsde.parameterisations": ("covsde.transfer.tables", "factors table"),
    "covsde.simulate": ("covsde", "simulate sample_networks"),
    "covsde.solvers.unshaped": ("covsde", "LinearSplitting"),
    "covsde.trained_resnet": ("covsde", "ResNetTraining"),
}


@pytest.mark.parametrize("old", MOVED)
def test_a_path_that_moved_is_answered_with_the_new_place(old: str) -> None:
    with pytest.raises(ImportError, match=r"covsde[\w.]* has moved: covsde") as refusal:
        importlib.import_module(old)
    place, names = MOVED[old]
    assert place in str(refusal.value).partition("has moved: ")[2]
    for family in ("mlp", "resnet", "transformer"):
        new = importlib.import_module(place.replace("FAMILY", family))
        assert [name for name in names.split() if not hasattr(new, name)] == []


def test_every_sentence_is_tried() -> None:
    untried = [place for place in _moved.PLACES if not any(f"{old}.".startswith(f"{place}.") for old in MOVED)]
    assert untried == []


def test_a_module_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        importlib.import_module("covsde.nonsense")
