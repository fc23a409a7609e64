"""Architectures with the same limit: the only place that knows two families."""

import math

from covsde.activations import ShapedReLU
from covsde.architectures.mlp.architecture import MLP
from covsde.architectures.resnet.architecture import ResNet
from covsde.architectures.resnet.blocks import PreActivation
from covsde.inputs.arguments import finite_number
from covsde.moments.of_activation import PiecewiseLinear


def matching_mlp(resnet: ResNet, depth_to_width: float) -> MLP:
    """The shaped MLP whose correlations follow the ODE of a piecewise linear ResNet, up to noise of size √T.

    Slopes 1 ± c/√d, d the depth, give dρ/dτ = (c₊ - c₋)²/2π (√(1-ρ²) - ρ arccos ρ) as depth/width T → 0. The ResNet has
    β²(s₊ - s₋)²/2π - relative growth of the variance, which for ReLU is the same with (c₊ - c₋)² = β².

    Args:
        resnet: a critical pre-activation ResNet with φ(x) = max(x, 0) or another function that is linear on both sides
            of 0.
        depth_to_width: T > 0; the smaller, the closer to the ODE.

    Returns:
        MLP(ShapedReLU(c, -c), T) with shaping by depth: slopes 1 ± c/√n with n the width are 1 ± c√T/√d.

    Raises:
        ValueError: if the activation is not piecewise linear or the block not a critical pre-activation block.

    Source: arXiv 2310.12079.
    """
    T = finite_number("depth_to_width", depth_to_width)
    ode = resnet.limit()
    if not isinstance(ode.moments, PiecewiseLinear) or not isinstance(resnet.block, PreActivation):
        raise ValueError(
            "resnet must be a pre-activation ResNet with a piecewise linear activation such as jax.nn.relu."
        )
    if T <= 0:
        raise ValueError(f"depth_to_width must be positive, got {depth_to_width}.")
    kappa = float(ode.strength) * float(resnet.beta) ** 2 * (ode.moments.plus - ode.moments.minus) ** 2
    half = math.sqrt(kappa / T) / 2
    return MLP(ShapedReLU(half, -half), T)
