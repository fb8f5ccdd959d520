"""Attacks: `attack(model, x, y) -> x_adv` for any Keras model or callable from images to logits."""

from robust_tf.attacks.apgd import APGD, APGDTargeted
from robust_tf.attacks.autoattack import AutoAttack
from robust_tf.attacks.base import Attack, MinimalDistance
from robust_tf.attacks.checked_targets import CheckedTargets
from robust_tf.attacks.ddn import DDN
from robust_tf.attacks.fab import FAB
from robust_tf.attacks.fmn import FMN
from robust_tf.attacks.gradient import GradientAttack, ProjectedGradient
from robust_tf.attacks.minimum_norm import MinimumNorm
from robust_tf.attacks.msd import MSD
from robust_tf.attacks.multi_targeted import MultiTargeted
from robust_tf.attacks.objectives import CrossEntropy, KLDivergence, Margin, Objective
from robust_tf.attacks.presets import BIM, CW, FGSM, MIM, PGD, TRADESAttack
from robust_tf.attacks.quick import QuickEstimate
from robust_tf.attacks.raced_square import RacedSquare
from robust_tf.attacks.ranked_targets import RankedTargets
from robust_tf.attacks.rays import RayS
from robust_tf.attacks.single_step import FGSMRS, NFGSM
from robust_tf.attacks.square import Square
from robust_tf.attacks.steps import (
    AdaptiveSparsity,
    CleanStart,
    GaussianStart,
    Momentum,
    Start,
    Steepest,
    UniformStart,
)
from robust_tf.attacks.threat import L1, L2, Budget, Linf, Threat
from robust_tf.attacks.training import (
    Collaborative,
    ManifoldAttack,
    NuclearAttack,
    ScatteringAttack,
    SqueezeAttack,
    TrainingAPGD,
)
from robust_tf.attacks.transfer import Transfer
from robust_tf.attacks.union import Union

__all__ = [
    "APGD",
    "BIM",
    "CW",
    "CheckedTargets",
    "DDN",
    "FAB",
    "FGSM",
    "FMN",
    "L1",
    "FGSMRS",
    "L2",
    "MIM",
    "NFGSM",
    "NuclearAttack",
    "MSD",
    "PGD",
    "APGDTargeted",
    "AdaptiveSparsity",
    "Attack",
    "AutoAttack",
    "Budget",
    "CleanStart",
    "Collaborative",
    "CrossEntropy",
    "GaussianStart",
    "KLDivergence",
    "GradientAttack",
    "ManifoldAttack",
    "MinimalDistance",
    "MinimumNorm",
    "ScatteringAttack",
    "Start",
    "Linf",
    "Margin",
    "Momentum",
    "MultiTargeted",
    "Objective",
    "ProjectedGradient",
    "QuickEstimate",
    "RacedSquare",
    "RankedTargets",
    "RayS",
    "Square",
    "SqueezeAttack",
    "Steepest",
    "TRADESAttack",
    "Threat",
    "TrainingAPGD",
    "Transfer",
    "UniformStart",
    "Union",
]
