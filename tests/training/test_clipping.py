"""Gradients are clipped as Keras says: their sum over the replicas, and not what scales a loss."""

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import compat, methods, training
from robust_tf.attacks import FGSM
from robust_tf.training import optimizers
from tests.tiny import labelled, tiny_network, two_replicas, weights_of

X, Y = labelled(12)
RATE = 0.5


def trained(optimizer, replicas=1, **arguments):
    """Weights before and after a step, with sample weights that make the halves unlike."""
    weights = np.linspace(0.2, 3.0, len(X)).astype("float32")
    strategy = two_replicas() if replicas == 2 else tf.distribute.get_strategy()
    with strategy.scope():
        model = methods.AdversarialTraining(tiny_network(), FGSM(1.0, norm="L2"))
        model.compile(optimizer(), **arguments)
    before = weights_of(model)
    model.fit(X, Y, batch_size=12, shuffle=False, verbose=0, sample_weight=weights)
    return before, weights_of(model)


def clipped(gradients, kind, value):
    """In NumPy."""
    gradients = [g.astype("float64") for g in gradients]
    if kind == "clipvalue":
        return [np.clip(g, -value, value) for g in gradients]
    norms = [np.linalg.norm(g) for g in gradients]
    if kind == "global_clipnorm":
        norms = [np.linalg.norm(norms)] * len(norms)
    return [g * min(1.0, value / norm) for g, norm in zip(gradients, norms, strict=True)]


CASES = {
    "clipnorm": ("clipnorm", 0.1, {}),
    "clipvalue": ("clipvalue", 0.02, {}),
    "global_clipnorm": ("global_clipnorm", 0.3, {}),
    "with decay": ("global_clipnorm", 0.3, {"weight_decay": 0.05}),
    "with AWP": ("global_clipnorm", 0.3, {"weight_perturbation": training.WeightPerturbation(0.1)}),
    "scaled": ("global_clipnorm", 0.3, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_clips_what_one_replica_would(name):
    kind, value, arguments = CASES[name]
    if name == "scaled":
        keras.mixed_precision.set_global_policy("mixed_float16")

    def plain():
        return keras.optimizers.SGD(RATE)

    def clipping():
        return optimizers.SGD(RATE, momentum=0.0, **{kind: value})

    before, after = trained(plain, **arguments)
    gradients = [(old - new) / RATE for old, new in zip(before, after, strict=True)]
    right = [old - RATE * g for old, g in zip(before, clipped(gradients, kind, value), strict=True)]
    assert max(np.abs(r - w).max() for r, w in zip(right, after, strict=True)) > 1e-2
    for replicas in (1, 2):
        _, got = trained(clipping, replicas, **arguments)
        for one, other in zip(got, right, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-3 if name == "scaled" else 2e-6)


def test_an_overflow_on_any_replica_leaves_the_weights():
    """Of the second replica alone; Keras 3 looks at the first."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    with two_replicas().scope():
        model = methods.Standard(tiny_network())
        model.compile(keras.optimizers.SGD(RATE))
    before = weights_of(model)
    weights = np.where(np.arange(12) < 6, 1.0, 1e38).astype("float32")
    model.fit(X, Y, batch_size=12, shuffle=False, verbose=0, sample_weight=weights)
    for old, new in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(old, new)
    scale = model.optimizer.dynamic_scale if compat.KERAS_3 else model.optimizer.loss_scale
    assert float(tf.convert_to_tensor(scale)) == 2.0**14  # half of what it begins with


def test_bound_by_gin():
    gin.parse_config("train.optimizer = @SGD\nSGD.global_clipnorm = 0.5")
    optimizer = training.Recipe().optimizer(learning_rate=0.1)
    assert (optimizer.global_clipnorm, optimizer.momentum) == (0.5, 0.9)
    again = compat.deserialize(compat.serialize(optimizer))
    assert again.global_clipnorm == 0.5


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"clipnorm": 0.0}, r"SGD\(clipnorm=0.0\): must be a finite number > 0"),
        ({"clipvalue": "much"}, r"SGD\(clipvalue='much'\): must be"),
        ({"clipnorm": 1.0, "clipvalue": 1.0}, r"SGD\(clipnorm, clipvalue\): .* one way"),
    ],
)
def test_refuses(wrong, message):
    with pytest.raises(ValueError, match=message):
        optimizers.SGD(0.1, **wrong)


@pytest.mark.skipif(compat.KERAS_3, reason="tensorflow-addons is on the other stack")
def test_lookahead_clips_as_the_other_optimizer_would():
    text = "train.optimizer = @Lookahead\nLookahead.optimizer = @SGD\nSGD.clipvalue = 1e-3\n"
    gin.parse_config(text + "SGD.momentum = 0.0\nLookahead.sync_period = 5")
    before, after = trained(lambda: training.Recipe().optimizer(learning_rate=RATE))
    steps = [np.abs(new - old).max() for old, new in zip(before, after, strict=True)]
    np.testing.assert_allclose(max(steps), RATE * 1e-3, rtol=1e-3)
