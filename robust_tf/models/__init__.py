"""Networks split into generator, intermediate layer and classifier."""

from robust_tf.models.black_box import BlackBox, black_box
from robust_tf.models.cnn import CNN
from robust_tf.models.discriminator import (
    Discriminator,
    DiscriminatorOutput,
    MLPDiscriminator,
    WideDiscriminator,
)
from robust_tf.models.forward import forward_mode
from robust_tf.models.layers import BatchNormalization, Dropout, PerImageStandardization
from robust_tf.models.mlp import MLP
from robust_tf.models.resnet import ResNet
from robust_tf.models.resnet18 import ResNet18
from robust_tf.models.split import Outputs, SplitClassifier
from robust_tf.models.wide_resnet import WideResNet

__all__ = [
    "CNN",
    "MLP",
    "BatchNormalization",
    "BlackBox",
    "Discriminator",
    "Dropout",
    "DiscriminatorOutput",
    "MLPDiscriminator",
    "Outputs",
    "PerImageStandardization",
    "ResNet",
    "ResNet18",
    "SplitClassifier",
    "WideDiscriminator",
    "WideResNet",
    "black_box",
    "forward_mode",
]
