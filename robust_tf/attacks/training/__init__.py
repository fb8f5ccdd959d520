"""Attacks that methods train with, or that models are studied with: not for evaluations.

`SqueezeAttack` is of SqueezeTraining, `ScatteringAttack` of FeatureScattering, `ManifoldAttack` of
ATLD, `attack_features` of LAT; `TrainingAPGD` is for training in L1; `Collaborative` lowers the
loss.
"""

from robust_tf.attacks.training.apgd import TrainingAPGD
from robust_tf.attacks.training.collaborative import Collaborative
from robust_tf.attacks.training.latent import attack_features
from robust_tf.attacks.training.manifold import ManifoldAttack, ManifoldLoss
from robust_tf.attacks.training.scattering import ScatteringAttack
from robust_tf.attacks.training.squeeze import SqueezeAttack

__all__ = [
    "Collaborative",
    "ManifoldAttack",
    "ManifoldLoss",
    "ScatteringAttack",
    "SqueezeAttack",
    "TrainingAPGD",
    "attack_features",
]
