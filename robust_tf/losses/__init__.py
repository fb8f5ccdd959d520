"""Losses as pure functions: tensors in, one float32 value per example out.

No function here averages over the batch that it returns: the training step reduces once, over the
global batch.
"""

from robust_tf.losses.boosted import boosted_cross_entropy
from robust_tf.losses.compactness import global_compactness, local_compactness, pair_weights
from robust_tf.losses.labels import (
    class_ids,
    conditional_entropy,
    cross_entropy,
    label_cross_entropy,
    smooth_labels,
    soft_cross_entropy,
)
from robust_tf.losses.single_step import gradient_alignment, nuclear_norm
from robust_tf.losses.smoothness import kl_divergence, smoothness, virtual_adversarial
from robust_tf.losses.squeeze import (
    jensen_shannon,
    squared_l2,
    squeeze_pair,
    squeeze_regularizer,
    symmetric_kl,
)
from robust_tf.losses.transport import sinkhorn_distance
from robust_tf.losses.triplet import (
    cosine_triplet,
    hardest_negative,
    other_positive,
    triplet_norms,
)

__all__ = [
    "boosted_cross_entropy",
    "class_ids",
    "conditional_entropy",
    "cosine_triplet",
    "cross_entropy",
    "global_compactness",
    "gradient_alignment",
    "hardest_negative",
    "jensen_shannon",
    "kl_divergence",
    "label_cross_entropy",
    "local_compactness",
    "nuclear_norm",
    "other_positive",
    "pair_weights",
    "sinkhorn_distance",
    "smooth_labels",
    "smoothness",
    "soft_cross_entropy",
    "squared_l2",
    "squeeze_pair",
    "squeeze_regularizer",
    "symmetric_kl",
    "triplet_norms",
    "virtual_adversarial",
]
