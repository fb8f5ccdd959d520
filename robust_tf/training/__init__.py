"""Training in a run folder, under any strategy, resumable to the bit."""

from robust_tf.training.checkpoints import CheckpointError
from robust_tf.training.collapse_guard import CollapseGuard
from robust_tf.training.distribution import is_chief, make_strategy
from robust_tf.training.nonfinite import NonFiniteLossError
from robust_tf.training.optimizers import SGD, Adam, cosine, piecewise, polyline
from robust_tf.training.pseudo_labels import PseudoLabels
from robust_tf.training.recipe import Recipe
from robust_tf.training.run_folder import RunFolderError
from robust_tf.training.trainer import Trainer
from robust_tf.training.waiting import MissingWorkerError
from robust_tf.training.weight_average import EMA, SWA, WeightAverage, refresh_statistics
from robust_tf.training.weight_perturbation import AWP, WeightPerturbation

__all__ = [
    "AWP",
    "EMA",
    "SGD",
    "SWA",
    "Adam",
    "CheckpointError",
    "CollapseGuard",
    "MissingWorkerError",
    "NonFiniteLossError",
    "PseudoLabels",
    "Recipe",
    "RunFolderError",
    "Trainer",
    "WeightAverage",
    "WeightPerturbation",
    "cosine",
    "is_chief",
    "make_strategy",
    "piecewise",
    "polyline",
    "refresh_statistics",
]
