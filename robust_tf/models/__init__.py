"""Networks split into generator, intermediate layer and classifier; and any Keras model as one."""

from robust_tf.models.application import Application
from robust_tf.models.black_box import BlackBox, black_box
from robust_tf.models.classifier import Classifier, Outputs, WholeClassifier
from robust_tf.models.cnn import CNN
from robust_tf.models.conversion import convert
from robust_tf.models.cutting import as_classifier, split
from robust_tf.models.discriminator import (
    Discriminator,
    DiscriminatorOutput,
    MLPDiscriminator,
    WideDiscriminator,
)
from robust_tf.models.forward import forward_mode
from robust_tf.models.input_range import InputRange, with_input_range
from robust_tf.models.layers import BatchNormalization, Dropout, PerImageStandardization
from robust_tf.models.mlp import MLP
from robust_tf.models.normalized import Normalized
from robust_tf.models.preact_resnet18 import PreActResNet18
from robust_tf.models.resnet import ResNet
from robust_tf.models.resnet18 import ResNet18
from robust_tf.models.resnet50 import ResNet50
from robust_tf.models.split import SplitClassifier
from robust_tf.models.strided_cnn import StridedCNN
from robust_tf.models.torch_weights import from_torch, to_torch
from robust_tf.models.wide_resnet import WideResNet

__all__ = [
    "Application",
    "CNN",
    "MLP",
    "BatchNormalization",
    "Classifier",
    "BlackBox",
    "Discriminator",
    "Dropout",
    "DiscriminatorOutput",
    "InputRange",
    "MLPDiscriminator",
    "Normalized",
    "Outputs",
    "PerImageStandardization",
    "PreActResNet18",
    "ResNet",
    "ResNet18",
    "ResNet50",
    "SplitClassifier",
    "StridedCNN",
    "WholeClassifier",
    "WideDiscriminator",
    "WideResNet",
    "as_classifier",
    "convert",
    "black_box",
    "forward_mode",
    "from_torch",
    "split",
    "to_torch",
    "with_input_range",
]
