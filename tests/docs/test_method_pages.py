"""Pages of methods: none is missing, examples run, the passes are those that are counted."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, methods
from robust_tf.methods import RobustModel
from tests.docs import pages

PAGES = pages.pages("methods")
CLASSES = 10


class Counting(keras.layers.Layer):
    """The identity; counts the images that pass through it, and those whose gradient does."""

    def __init__(self):
        super().__init__()
        self.forwards, self.backwards = (
            tf.Variable(0, dtype=tf.int64, trainable=False) for _ in range(2)
        )

    def call(self, x):
        @tf.custom_gradient
        def counted(x):
            def backward(upstream):
                self.backwards.assign_add(tf.shape(upstream, tf.int64)[0])
                return upstream

            return tf.identity(x), backward

        self.forwards.assign_add(tf.shape(x, tf.int64)[0])
        return counted(x)


def test_every_method_has_a_page():
    below = pages.made_from(RobustModel, "robust_tf.methods")
    assert {cls.__name__ for cls in below} == set(PAGES)


def test_the_first_example_runs(capsys):
    (block,) = pages.code((pages.CLONE / "docs/methods/index.md").read_text(), "python")
    exec(block, {})
    assert "robust_accuracy" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(PAGES))
def test_page(name, tmp_path):
    pages.check_sections(PAGES[name], name)
    pages.check_settings(PAGES[name], tmp_path)


@pytest.mark.parametrize("name", sorted(PAGES))
def test_example_and_cost(name):
    layer = Counting()

    def network():
        layers = [keras.layers.Flatten(), keras.layers.Dense(8, "tanh"), layer]
        return keras.Sequential([keras.Input((8, 8, 1)), *layers, keras.layers.Dense(CLASSES)])

    x = np.random.default_rng(1).random((20, 8, 8, 1)).astype("float32")
    y = (np.arange(len(x)) % CLASSES).astype("int32")
    shared = {"attacks": attacks, "methods": methods, "network": network, "x": x, "y": y}
    model = pages.run(PAGES[name], shared)["model"]
    assert type(model).__name__ == name
    layer.forwards.assign(0)
    layer.backwards.assign(0)
    logs = model.fit(x, y, batch_size=len(x), epochs=2, verbose=0).history
    assert all(np.isfinite(values).all() for values in logs.values())
    counted = [int(number) / (2 * len(x)) for number in (layer.forwards, layer.backwards)]
    pages.assert_costs(*pages.stated_cost(PAGES[name], model), counted)
