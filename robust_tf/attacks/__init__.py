"""Attacks: `attack(model, x, y) -> x_adv` for any Keras model or callable from images to logits."""

from robust_tf.attacks.apgd import APGD, APGDTargeted
from robust_tf.attacks.autoattack import AutoAttack
from robust_tf.attacks.base import Attack
from robust_tf.attacks.collaborative import Collaborative
from robust_tf.attacks.fab import FAB
from robust_tf.attacks.multi_targeted import MultiTargeted
from robust_tf.attacks.objectives import CrossEntropy, KLDivergence, Margin, Objective
from robust_tf.attacks.presets import BIM, CW, FGSM, MIM, PGD, TRADESAttack
from robust_tf.attacks.projected_gradient import ProjectedGradient
from robust_tf.attacks.rays import RayS, RaySResult
from robust_tf.attacks.square import Square
from robust_tf.attacks.squeeze import SqueezeAttack
from robust_tf.attacks.steps import CleanStart, GaussianStart, Momentum, Steepest, UniformStart
from robust_tf.attacks.threat import L2, Linf, Threat
from robust_tf.attacks.transfer import Transfer

__all__ = [
    "APGD",
    "BIM",
    "CW",
    "FAB",
    "FGSM",
    "L2",
    "MIM",
    "PGD",
    "APGDTargeted",
    "Attack",
    "AutoAttack",
    "CleanStart",
    "Collaborative",
    "CrossEntropy",
    "GaussianStart",
    "KLDivergence",
    "Linf",
    "Margin",
    "Momentum",
    "MultiTargeted",
    "Objective",
    "ProjectedGradient",
    "RayS",
    "RaySResult",
    "Square",
    "SqueezeAttack",
    "Steepest",
    "TRADESAttack",
    "Threat",
    "Transfer",
    "UniformStart",
]
