"""What `covsde list` prints: the experiments that come with the repository, one sentence and the source for each."""

from typing import NamedTuple


class Experiment(NamedTuple):
    """A script of the folder experiments/: its name, what it shows, and after which papers."""

    name: str
    sentence: str
    source: str

    @property
    def command(self) -> str:
        """How to run it from a clone."""
        return f"python experiments/{self.name}.py --quick"


EXPERIMENTS = (
    Experiment(
        "demo_digits",
        "shaped ReLU networks on four images of digits against their covariance SDE",
        "arXiv 2206.02768",
    ),
    Experiment(
        "mlp_unshaped_paths",
        "plain ReLU: correlation of two inputs against depth, networks and their first-order chain",
        "arXiv 2206.02768",
    ),
    Experiment(
        "mlp_unshaped_density",
        "plain ReLU: law of the correlation early and at the last layer, networks and chain",
        "arXiv 2206.02768",
    ),
    Experiment(
        "mlp_shaped_paths",
        "shaped ReLU: correlation of two inputs over layer time, networks and the covariance SDE",
        "arXiv 2206.02768",
    ),
    Experiment(
        "mlp_shaped_density",
        "shaped ReLU: law of the correlation at three depths, networks and the SDE's exact law",
        "arXiv 2206.02768",
    ),
    Experiment(
        "mlp_covariance",
        "shaped ReLU: laws of a variance (log-normal) and of a covariance at three widths",
        "arXiv 2206.02768",
    ),
    Experiment(
        "mlp_critical_exponent",
        "why slopes are shaped by 1/√n: laws below, at and above the critical exponent",
        "arXiv 2206.02768",
    ),
    Experiment(
        "mlp_explosion",
        "smooth activations: laws, tails, and the exact probability that a variance explodes",
        "arXiv 2206.02768",
    ),
    Experiment(
        "mlp_singular_limit",
        "plain ReLU at large depth: q = ℓ²(1-ρ) against its singular SDE",
        "arXiv 2310.12079",
    ),
    Experiment(
        "output_density",
        "exact output densities of finite linear and ReLU networks, and their heavy-tailed limit",
        "arXiv 2104.11734, 2106.06615",
    ),
    Experiment(
        "posterior_calibration",
        "Bayesian posterior at proportional depth and width: ranks of truths, and the paths it rests on",
        "arXiv 2605.30860, 2212.14457",
    ),
    Experiment(
        "shape_by_gradient",
        "a ReLU shaped by gradient descent so that a correlation ends where it is asked to, in networks too",
        "arXiv 2206.02768",
    ),
    Experiment(
        "resnet_against_mlp",
        "a ResNet and a shaped MLP with the same correlation ODE: only the MLP is noisy",
        "arXiv 2310.12079",
    ),
    Experiment(
        "resnet_kernels",
        "feature and gradient kernels of depth-scaled ResNets over layer time",
        "arXiv 2309.16620",
    ),
    Experiment(
        "resnet_ntk",
        "tangent kernel of ResNets against depth, its 1/L error, lazy training with it",
        "arXiv 2309.16620",
    ),
    Experiment(
        "resnet_commute",
        "width and depth of a ResNet commute: distance to one ODE over both axes",
        "arXiv 2302.00453, 2210.00688",
    ),
    Experiment(
        "resnet_exponents",
        "why branches are scaled by 1/√L: variance and correlation for branches β/L^α against depth",
        "arXiv 2310.02244, 2309.16620",
    ),
    Experiment(
        "transformer_rank_collapse",
        "mean token correlation against depth, for shaped transformers and for what they replace",
        "arXiv 2306.17759",
    ),
    Experiment(
        "transformer_ablation",
        "which of identity, centring and temperature matter in shaped attention, in all combinations",
        "arXiv 2306.17759",
    ),
    Experiment(
        "transformer_densities",
        "law of the correlation of two tokens at four depth-to-width ratios",
        "arXiv 2306.17759",
    ),
    Experiment(
        "transformer_heads",
        "one head against 32 at large width: random against deterministic",
        "arXiv 2306.17759",
    ),
    Experiment(
        "transformer_stopping",
        "median stopping time of shaped transformers over γ and τ₀",
        "arXiv 2306.17759",
    ),
    Experiment(
        "transformer_trainability",
        "where tokens collapse and gradients vanish in deep transformers with layer normalisation",
        "arXiv 2403.02579",
    ),
    Experiment(
        "feature_learning",
        "training in the proportional limit: outputs, feature movement and laws over updates, against networks",
        "Li, Noci, Hanin (announced), arXiv 2206.02768",
    ),
    Experiment(
        "feature_scaling",
        "which scaling of readout and learning rate makes features move: lazy, maximal, explosive, at depth ~ width",
        "M. Li, lecture notes STAT 946 (Waterloo, 2025); arXiv 2305.07810",
    ),
    Experiment(
        "feature_lr_transfer",
        "loss against learning rate: networks of several widths at one aspect ratio, and the trained limit",
        "M. Li, lecture notes STAT 946 (Waterloo, 2025)",
    ),
    Experiment(
        "digits_classes",
        "ten classes of digits: training and test curves of the limit and of networks of two widths",
        "M. Li, lecture notes STAT 946 (Waterloo, 2025)",
    ),
    Experiment(
        "transfer_of_test_loss",
        "test loss against learning rate over widths: gradient descent, momentum and Adam",
        "M. Li, lecture notes STAT 946 (Waterloo, 2025)",
    ),
    Experiment(
        "sharpness_over_updates",
        "sharpness over updates at three learning rates against 2/η₀, limit and networks",
        "arXiv 2402.17457, 2103.00065",
    ),
    Experiment(
        "best_depth_to_width",
        "test loss against depth/width for networks of equal cost, and for the limit",
        "M. Li, lecture notes STAT 946 (Waterloo, 2025)",
    ),
    Experiment(
        "learning_curve",
        "test loss against the number of trained inputs: limit and networks, alone and as an ensemble",
        "M. Li, lecture notes STAT 946 (Waterloo, 2025); arXiv 2305.18411",
    ),
    Experiment(
        "resnet_responses",
        "trained ResNets: what reusing a matrix in the backward pass does, limits and networks, against depth",
        "arXiv 2310.02244, 2309.16620, 2512.21075",
    ),
    Experiment(
        "mean_field_bands",
        "mean-field networks: predicted bands of two widths, and n Var f over the updates, against networks",
        "arXiv 2304.03408",
    ),
    Experiment(
        "mean_field_richness",
        "mean-field networks from lazy to rich: outputs and features in training and in the posterior",
        "arXiv 2205.09653, 2502.07998",
    ),
    Experiment(
        "resnet_shapes",
        "ResNets of all shapes: distance of trained networks to their limit over width, hidden width and depth",
        "arXiv 2509.10167, 2603.18168",
    ),
    Experiment(
        "resnet_transfer",
        "loss against learning rate over width and depth on digits, for SP, NTK, μP, √depth-μP and CompleteP",
        "arXiv 2309.16620, 2310.02244, 2505.01618",
    ),
    Experiment(
        "scaling_losses",
        "random features: test and train loss over training for several widths, theory and students drawn and trained",
        "arXiv 2402.01092",
    ),
    Experiment(
        "scaling_frontier",
        "compute-optimal random features: losses at fixed width, their envelope, the best width and time",
        "arXiv 2402.01092",
    ),
    Experiment(
        "scaling_ensembles",
        "averaging students or widening one: ensembles over features and over data at fixed compute",
        "arXiv 2402.01092",
    ),
    Experiment(
        "scaling_features",
        "features that learn: hard and easy tasks, finite widths, and the exponent of the loss",
        "arXiv 2409.17858",
    ),
    Experiment(
        "scaling_rates",
        "optimal learning rates of online SGD over a horizon, for an easy and a hard task",
        "arXiv 2602.04774",
    ),
    Experiment(
        "scaling_digits",
        "kernel regression on digits: learning curves predicted from a spectrum and measured",
        "arXiv 2402.01092",
    ),
)
