"""PGD of other libraries on a TensorFlow model, each as (x, y) -> x_adv, settings alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

Peer = Callable[[np.ndarray, np.ndarray], np.ndarray]


def peers(model: Any, eps: float, step_size: float, steps: int, batch: int) -> dict[str, Peer]:
    """ART, Foolbox and CleverHans, as their own documentation has one use them."""
    return {
        "ART": _art(model, eps, step_size, steps, batch),
        "Foolbox": _foolbox(model, eps, step_size, steps),
        "CleverHans": _cleverhans(model, eps, step_size, steps),
    }


def _art(model: Any, eps: float, step_size: float, steps: int, batch: int) -> Peer:
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import TensorFlowV2Classifier

    classifier = TensorFlowV2Classifier(
        model=lambda x, training=False: model(x, training=False),
        nb_classes=10,
        input_shape=(28, 28, 1),
        loss_object=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, 1.0),
    )
    attack = ProjectedGradientDescent(
        classifier,
        eps=eps,
        eps_step=step_size,
        max_iter=steps,
        num_random_init=1,
        batch_size=batch,
        verbose=False,
    )
    return lambda x, y: attack.generate(x, y)


def _foolbox(model: Any, eps: float, step_size: float, steps: int) -> Peer:
    import foolbox

    wrapped = foolbox.TensorFlowModel(model, bounds=(0.0, 1.0))
    attack = foolbox.attacks.LinfPGD(abs_stepsize=step_size, steps=steps, random_start=True)

    def run(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        labels = tf.constant(y.astype("int64"))
        return attack(wrapped, tf.constant(x), labels, epsilons=eps)[1].numpy()

    return run


def _cleverhans(model: Any, eps: float, step_size: float, steps: int) -> Peer:
    from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

    # Its checks of the range cost as much as a step each; its documentation lets one turn them off.
    def run(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return projected_gradient_descent(
            lambda images: model(images, training=False),
            tf.constant(x),
            eps,
            step_size,
            steps,
            np.inf,
            clip_min=0.0,
            clip_max=1.0,
            y=tf.constant(y.astype("int64")),
            rand_init=1.0,
            sanity_checks=False,
        ).numpy()

    return run
