"""Training methods: a `RobustModel` around a network, trained by plain Keras or by `bin/train`."""

from robust_tf.attacks import ManifoldAttack, ScatteringAttack
from robust_tf.methods.adr import ADR, Compactness
from robust_tf.methods.adversarial import AdversarialTraining
from robust_tf.methods.alp import ALP
from robust_tf.methods.atld import ATLD
from robust_tf.methods.base import RobustModel
from robust_tf.methods.batch import AdversarialBatch, Batch
from robust_tf.methods.bilateral import Bilateral
from robust_tf.methods.discriminator_training import DiscriminatorTraining
from robust_tf.methods.execution import Execution
from robust_tf.methods.feature_scattering import FeatureScattering
from robust_tf.methods.free import Free
from robust_tf.methods.grad_align import GradAlign
from robust_tf.methods.lat import LAT
from robust_tf.methods.mart import MART
from robust_tf.methods.nuat import NuAT
from robust_tf.methods.squeeze import SqueezeTraining
from robust_tf.methods.standard import Standard
from robust_tf.methods.tla import TLA
from robust_tf.methods.trades import TRADES
from robust_tf.methods.union import UnionTraining

__all__ = [
    "ADR",
    "ALP",
    "ATLD",
    "LAT",
    "MART",
    "TLA",
    "TRADES",
    "AdversarialTraining",
    "Batch",
    "Bilateral",
    "Compactness",
    "AdversarialBatch",
    "DiscriminatorTraining",
    "Execution",
    "FeatureScattering",
    "Free",
    "GradAlign",
    "ManifoldAttack",
    "NuAT",
    "RobustModel",
    "ScatteringAttack",
    "SqueezeTraining",
    "Standard",
    "UnionTraining",
]
