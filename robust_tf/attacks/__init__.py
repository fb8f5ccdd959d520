"""Attacks: `attack(model, x, y) -> x_adv` for any Keras model or callable from images to logits."""

from robust_tf.attacks.base import Attack
from robust_tf.attacks.multi_targeted import MultiTargeted
from robust_tf.attacks.objectives import CrossEntropy, KLDivergence, Margin, Objective
from robust_tf.attacks.presets import BIM, CW, FGSM, MIM, PGD, TRADESAttack
from robust_tf.attacks.projected_gradient import ProjectedGradient
from robust_tf.attacks.steps import CleanStart, GaussianStart, Momentum, Steepest, UniformStart
from robust_tf.attacks.threat import L2, Linf, Threat

__all__ = [
    "BIM",
    "CW",
    "FGSM",
    "L2",
    "MIM",
    "PGD",
    "Attack",
    "CleanStart",
    "CrossEntropy",
    "GaussianStart",
    "KLDivergence",
    "Linf",
    "Margin",
    "Momentum",
    "MultiTargeted",
    "Objective",
    "ProjectedGradient",
    "Steepest",
    "TRADESAttack",
    "Threat",
    "UniformStart",
]
