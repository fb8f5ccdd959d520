"""Pages of attacks: none is missing, examples run, the passes are those that are counted."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks
from robust_tf.attacks import Attack
from tests.docs import pages

PAGES = pages.pages("attacks")
CLASSES = 10


class Steady:
    """Images (B, 8, 8, 1) to logits with class 0 far ahead everywhere, and gradients."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.weights = rng.normal(0, 0.3, (64, CLASSES)).astype("float32")

    def __call__(self, x):
        ahead = tf.constant([[100.0] + [0.0] * (CLASSES - 1)])
        return tf.tanh(tf.reshape(x - 0.5, [-1, 64]) @ self.weights) + ahead


def test_every_attack_has_a_page():
    below = pages.made_from(Attack, "robust_tf.attacks")
    assert {cls.__name__ for cls in below if dataclasses.is_dataclass(cls)} == set(PAGES)


def test_the_first_example_runs():
    names: dict = {}
    (block,) = pages.code((pages.CLONE / "docs/attacks/index.md").read_text(), "python")
    exec(block, names)
    right = (np.argmax(names["model"](names["images"]), 1) == names["labels"]).mean()
    robust = (np.argmax(names["model"](names["x_adv"]), 1) == names["labels"]).mean()
    assert robust < 0.5 < right


@pytest.mark.parametrize("name", sorted(PAGES))
def test_page(name, tmp_path):
    pages.check_sections(PAGES[name], name)
    pages.check_settings(PAGES[name], tmp_path)


@pytest.mark.parametrize("name", sorted(PAGES))
def test_example_and_cost(name):
    x = np.random.default_rng(1).random((2, 8, 8, 1)).astype("float32")
    y = np.zeros(len(x), "int32")
    namespace = {"keras": keras, "attacks": attacks, "model": Steady(), "images": x, "labels": y}
    names = pages.run(PAGES[name], namespace)
    attack, model = names["attack"], names.get("discriminate", names["model"])
    assert type(attack).__name__ == name
    before = attack.passes(model)
    x_adv = attack(model, x, y)  # by the graph of the example
    assert x_adv.shape == x.shape and np.isfinite(x_adv).all()
    counted = [(a - b) / len(x) for a, b in zip(attack.passes(model), before, strict=True)]
    pages.assert_costs(*pages.stated_cost(PAGES[name], attack, classes=CLASSES), counted)
