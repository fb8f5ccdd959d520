"""Input gradients with normalization folded into the convolutions before it, against as they are.

    python -m benchmarks.folding [--networks ResNet-18 WRN-16-4 MobileNetV2]

By running statistics batch normalization is a factor and an offset for each channel, which a
convolution before it can take over: conv(x, kernel * factor) + offset. Here a layer does so while
a graph is traced, where its input is the output of a convolution. An attack's step (a forward and
the gradient for the images, cross-entropy) is timed with it and without, in pairs; and the logits
of both are compared, relative to the largest.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.pairing import CLOCKS, Ratio, pairs
from robust_tf import losses, models
from robust_tf.attacks.network import input_gradient, logits_of
from robust_tf.models import keras_layers, layers

NETWORKS: dict[str, Callable[[], keras.Model]] = {
    "ResNet-18": lambda: models.ResNet18((32, 32, 3), 10),
    "WRN-16-4": lambda: models.WideResNet((32, 32, 3), 10, depth=16, width=4),
    "MobileNetV2": lambda: models.convert(
        keras.applications.MobileNetV2((96, 96, 3), weights=None, classes=10)
    ),
}
KERNELS = {"Conv2D": (1, 1, 1, -1), "DepthwiseConv2dNative": (1, 1, -1, 1)}  # shape of the factor
TAKEN: list[str] = []  # the kinds of convolutions that took a normalization over


def folded(inputs: tf.Tensor, gamma: Any, beta: Any, epsilon: float, averages: Any) -> Any:
    """The normalized inputs, where they come from a convolution; else None."""
    if averages is None or tf.executing_eagerly():
        return None
    operation = inputs.op
    if operation.type not in KERNELS or operation.get_attr("data_format") != b"NHWC":
        return None
    mean, variance = averages
    factor = gamma * tf.math.rsqrt(variance + epsilon)
    images, kernel = operation.inputs
    kernel = kernel * tf.cast(tf.reshape(factor, KERNELS[operation.type]), kernel.dtype)
    strides, padding = operation.get_attr("strides"), operation.get_attr("padding").decode()
    convolve = tf.nn.conv2d if operation.type == "Conv2D" else tf.nn.depthwise_conv2d
    TAKEN.append(operation.type)
    outputs = convolve(images, kernel, strides, padding)
    return tf.nn.bias_add(outputs, tf.cast(beta - mean * factor, outputs.dtype))


@contextlib.contextmanager
def folding() -> Iterator[None]:
    """Layers that are called in here fold themselves where they can."""
    original = layers.normalize_by_batch

    def normalize(inputs: Any, gamma: Any, beta: Any, epsilon: float, averages: Any = None) -> Any:
        outputs = folded(inputs, gamma, beta, epsilon, averages)
        if outputs is not None:
            return outputs, *averages
        return original(inputs, gamma, beta, epsilon, averages)

    for module in (layers, keras_layers):
        module.normalize_by_batch = normalize  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in (layers, keras_layers):
            module.normalize_by_batch = original  # type: ignore[attr-defined]


HEAD = (
    "| network | folded | as it is / folded | logits apart | other signs |\n|---|---|---|---|---|"
)


def measure(name: str, batch: int, rounds: int, clock: str) -> str:
    """A row of the table."""
    model = NETWORKS[name]()
    rng = np.random.default_rng(0)
    for weight in model.weights:  # statistics that a fold could get wrong
        kind = weight.path if hasattr(weight, "path") else weight.name
        if "moving" in kind or "gamma" in kind or "beta" in kind:
            low = 0.0 if "beta" in kind or "mean" in kind else 0.7
            weight.assign(rng.uniform(low, 1.3, weight.shape).astype("float32"))
    shape = tuple(model.image_shape if hasattr(model, "image_shape") else model.input_shape[1:])
    x = tf.constant(rng.random((batch, *shape), "float32"))
    y = tf.constant(rng.integers(0, 10, batch).astype("int32"))
    network = logits_of(model, "running")
    plain = input_gradient(network, losses.cross_entropy).get_concrete_function(x, y)
    TAKEN.clear()
    with folding():
        fold = input_gradient(logits_of(model, "running"), losses.cross_entropy)
        fold = fold.get_concrete_function(x, y)
    before, after = plain(x, y), fold(x, y)
    apart = float(tf.reduce_max(tf.abs(before[2] - after[2])) / tf.reduce_max(tf.abs(before[2])))
    signs = float(tf.reduce_mean(tf.cast(tf.sign(before[0]) != tf.sign(after[0]), tf.float32)))
    times = pairs(
        [lambda: plain(x, y)[0].numpy(), lambda: fold(x, y)[0].numpy()], rounds, clock=CLOCKS[clock]
    )
    ratio = Ratio.of(*times)
    return f"| {name}, batch {batch} | {len(TAKEN)} | {ratio} | {apart:.1e} | {100 * signs:.2f} % |"


def main() -> None:
    """Runs the benchmark."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parse.add_argument("--batch_size", type=int, default=32)
    parse.add_argument("--rounds", type=int, default=15)
    parse.add_argument("--threads", type=int, default=1)
    parse.add_argument("--clock", choices=list(CLOCKS), default="wall")
    options = parse.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    print(HEAD)
    for name in options.networks:
        print(measure(name, options.batch_size, options.rounds, options.clock), flush=True)


if __name__ == "__main__":
    main()
