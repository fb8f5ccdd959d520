"""A training step against the sum of its passes, and `fit` against the trainer's loop.

    python -m benchmarks.train_step [--dtype_policy mixed_bfloat16]

The floor of a step is its attack's forwards and input gradients, and one forward and weight
gradient of the clean and adversarial images with cross-entropy alone. All are timed in turn.
"""

from __future__ import annotations

import argparse

import keras
import numpy as np
import tensorflow as tf

from benchmarks.floor import bare_pass
from benchmarks.pairing import in_turn, row
from robust_tf import attacks, data, methods
from robust_tf.models import CNN
from robust_tf.training.loop import Loop

STEPS = 10  # of the training attack
CALL = 40  # steps in one call of fit, and of the loop: the start of an epoch is spread over them


def bare_update(network: keras.Model, x: tf.Tensor, y: tf.Tensor) -> object:
    """Forward and weight gradient of twice the batch, and the optimiser's update."""
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(network.trainable_variables)

    @tf.function
    def update(x: tf.Tensor, y: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            logits = network(x, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))

    both = tf.concat([x, x], 0), tf.concat([y, y], 0)
    return lambda: update(*both)


def compiled(method: str) -> methods.RobustModel:
    """A model of this method on a fresh CNN."""
    network = CNN((28, 28, 1), 10)
    pgd = attacks.PGD(0.3, 0.075, STEPS)
    trades = attacks.TRADESAttack(0.3, 0.075, STEPS)
    model = {
        "Standard": lambda: methods.Standard(network),
        "AdversarialTraining": lambda: methods.AdversarialTraining(network, pgd, 0.5),
        "TRADES": lambda: methods.TRADES(network, trades, 1.0),
        "ADR": lambda: methods.ADR(network, pgd, preset="code"),
    }[method]()
    model.compile(keras.optimizers.Adam(1e-3))
    return model


def main() -> None:
    """Runs the benchmark."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--dtype_policy", default="float32")
    parse.add_argument("--rounds", type=int, default=10)
    options = parse.parse_args()
    keras.mixed_precision.set_global_policy(options.dtype_policy)
    keras.utils.set_random_seed(0)
    batch = 128
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (batch * 10, 28, 28, 1), dtype=np.uint8)
    split = data.Split(images, generator.integers(0, 10, len(images)).astype(np.int32))
    x, y = next(iter(data.batches(split, batch)))
    network = CNN((28, 28, 1), 10)
    input_pass, update = bare_pass(network, x, y), bare_update(network, x, y)
    for name, passes, limit in (
        ("AdversarialTraining", STEPS, 1.10),
        ("TRADES", STEPS, 1.10),
        ("ADR", STEPS, 1.10),
    ):
        model = compiled(name)
        step = tf.function(model.train_step)

        def floor(passes: int = passes) -> None:
            for _ in range(passes):
                input_pass()
            update()

        times = in_turn([lambda s=step: s((x, y)), floor], options.rounds)
        ratios = [whole / parts for whole, parts in zip(*times, strict=True)]
        traces = step.experimental_get_tracing_count()
        print(row(f"{name}: step / passes", ratios, limit), f" {traces} trace(s)")

    model = compiled("ADR")
    loop = Loop(model, tf.distribute.get_strategy())
    epoch = data.batches(split, batch, training=True).repeat()
    iterator = iter(epoch)
    model.fit(epoch, steps_per_epoch=CALL, verbose=0)
    times = in_turn(
        [
            lambda: loop.train(iterator, tf.constant(CALL)),
            lambda: model.fit(epoch, steps_per_epoch=CALL, verbose=0),
        ],
        max(options.rounds // 3, 3),
    )
    print(
        row(f"trainer / fit, ADR, {CALL} steps", [a / b for a, b in zip(*times, strict=True)], 1.03)
    )


if __name__ == "__main__":
    main()
