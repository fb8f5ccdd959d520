"""Residual blocks of pre-activation networks, of WideResNet and PreActResNet18."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from robust_tf.models.layers import BatchNormalization, torch_conv
from robust_tf.validation import check_number

ACTIVATIONS = ("relu", "silu")
PADDINGS = ("torch", "same")
SHORTCUTS = ("activated", "raw", "raw3x3")


@dataclasses.dataclass(frozen=True)
class PreActivation:
    """BN, activation, conv, BN, activation, conv + skip, and what its parts are.

    Where the block changes the shape, a convolution without BN brings the skip to the new one.

    Args:
      builder: that has the arguments below, for messages.
      initializer: makes the initializer of a kernel.
      skip_initializer: likewise, of a skip's.
      activation: 'relu' or 'silu', x * sigmoid(x).
      padding: 'torch', by 1 on every side; or 'same' as TensorFlow means it, which at stride 2 and
        even sides pads below and to the right only.
      decay: of the moving averages, in [0, 1).
      shortcut: where that convolution of the skip starts: 'activated', behind the first activation,
        1x1; 'raw', from the block's input, 1x1; 'raw3x3', from there, 3x3.
      kernel: height and width of the other kernels.

    Raises:
      ValueError: an argument outside its range.
    """

    builder: str
    initializer: Callable[[], keras.initializers.Initializer]
    skip_initializer: Callable[[], keras.initializers.Initializer]
    activation: str = "relu"
    padding: str = "torch"
    decay: float = 0.9
    shortcut: str = "activated"
    kernel: int = 3

    def __post_init__(self) -> None:
        choices = {"activation": ACTIVATIONS, "padding": PADDINGS, "shortcut": SHORTCUTS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{self.builder}({name}={getattr(self, name)!r}): must be one of {known}."
                )
        hint = "PyTorch's momentum is 1 - decay"
        check_number(self.builder, "decay", self.decay, hint=hint, high=1.0, strict_high=True)

    def block(self, x: Any, filters: int, stride: int, name: str) -> Any:
        """A feature map (B, H, W, C) -> (B, H / stride, W / stride, filters), rounded up."""
        activated = self.activate(x, f"{name}_1")
        skip = x
        if stride > 1 or x.shape[-1] != filters:
            skip = activated if self.shortcut == "activated" else x
            skip = torch_conv(
                skip,
                filters,
                3 if self.shortcut == "raw3x3" else 1,
                stride,
                self.skip_initializer(),
                f"{name}_skip_conv",
                self.padding,
            )
        x = self.conv(activated, filters, stride, f"{name}_conv1")
        x = self.conv(self.activate(x, f"{name}_2"), filters, 1, f"{name}_conv2")
        return keras.layers.Add(name=f"{name}_add")([x, skip])

    def activate(self, x: Any, name: str) -> Any:
        """BN and activation, the layers NAME_bn and NAME_relu or NAME_silu."""
        x = BatchNormalization(self.decay, 1e-5, name=f"{name}_bn")(x)
        if self.activation == "relu":
            return keras.layers.ReLU(name=f"{name}_relu")(x)
        return keras.layers.Activation("swish", name=f"{name}_silu")(x)

    def conv(self, x: Any, filters: int, stride: int, name: str) -> Any:
        """A convolution without bias."""
        return torch_conv(x, filters, self.kernel, stride, self.initializer(), name, self.padding)
