"""Networks split into generator, intermediate layer and classifier."""

from robust_tf.models.cnn import CNN
from robust_tf.models.forward import forward_mode
from robust_tf.models.layers import BatchNormalization, Dropout, PerImageStandardization
from robust_tf.models.split import Outputs, SplitClassifier

__all__ = [
    "CNN",
    "BatchNormalization",
    "Dropout",
    "Outputs",
    "PerImageStandardization",
    "SplitClassifier",
    "forward_mode",
]
