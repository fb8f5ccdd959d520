"""A training step against the sum of its passes, and `fit` against the trainer's loop.

    python -m benchmarks.train_step [--dtype_policy mixed_bfloat16] [--methods ATLD LAT]
    python -m benchmarks.train_step --programs [--dtype_policy mixed_bfloat16]

The second times steps of the size that the released PyTorch programs of TRADES and ST work on.
The floor of a step is that of its forwards, input gradients and one update by cross-entropy alone,
each timed bare, all in turn. What a method does beside its network (a discriminator, a transport
plan, latent steps) is not in its floor.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from benchmarks.floor import bare_pass
from benchmarks.pairing import in_turn, row
from robust_tf import attacks, data, methods, models, training
from robust_tf.training.loop import Loop

STEPS = 10  # of the training attack
CALL = 40  # steps in one call of fit, and of the loop: the start of an epoch is spread over them
PGD = attacks.PGD(0.3, 0.075, STEPS)
TRADES = attacks.TRADESAttack(0.3, 0.075, STEPS)


class Case(NamedTuple):
    """A method, and the passes of the network in one of its steps, in batches.

    forwards: without gradient; gradients: forward and input gradient; reaches: input gradients
    alone, of a forward that is made anyway; images: in the update, times the batch; updates: how
    many; composed: of `compile`.
    """

    build: Callable[[Any], methods.RobustModel]
    forwards: int
    gradients: int
    images: int
    reaches: int = 0
    updates: int = 1
    composed: Any = None


CASES = {
    "Standard": Case(methods.Standard, 0, 0, 1),
    "AdversarialTraining": Case(lambda n: methods.AdversarialTraining(n, PGD, 0.5), 0, STEPS, 2),
    "TRADES": Case(lambda n: methods.TRADES(n, TRADES, 1.0), 1, STEPS, 2),
    "ADR": Case(lambda n: methods.ADR(n, PGD, preset="code"), 0, STEPS, 2),
    "ALP": Case(lambda n: methods.ALP(n, PGD), 0, STEPS, 2),
    "MART": Case(lambda n: methods.MART(n, PGD), 0, STEPS, 2),
    "Bilateral": Case(lambda n: methods.Bilateral(n, PGD), 1, STEPS, 1),
    "TLA": Case(lambda n: methods.TLA(n, PGD), 0, STEPS, 2),
    "LAT": Case(lambda n: methods.LAT(n, PGD), 1, STEPS, 1),
    "SqueezeTraining": Case(
        lambda n: methods.SqueezeTraining(n, attacks.SqueezeAttack(0.3, 0.075, STEPS)),
        1,
        2 * STEPS,
        3,
    ),
    "FeatureScattering": Case(
        lambda n: methods.FeatureScattering(n, methods.ScatteringAttack(0.3)), 1, 1, 1
    ),
    "ATLD": Case(
        lambda n: methods.ATLD(n, methods.ManifoldAttack(0.3), models.MLPDiscriminator),
        1,
        1,
        1,
        reaches=2,
    ),
    "AdversarialTraining with AWP": Case(
        lambda n: methods.AdversarialTraining(n, PGD),
        0,
        STEPS,
        1,
        updates=2,
        composed=training.WeightPerturbation(0.005),
    ),
}


PROGRAMS = {
    "TRADES, MNIST CNN, batch 128, 40 steps": (
        lambda: methods.TRADES(
            models.CNN((28, 28, 1), 10), attacks.TRADESAttack(0.3, 0.01, 40), 1.0
        ),
        (128, 28, 28, 1),
    ),
    "SqueezeTraining, ResNet-18, batch 32, 10 steps": (
        lambda: methods.SqueezeTraining(
            models.ResNet18((32, 32, 3), 10), attacks.SqueezeAttack(8 / 255, 2 / 255, 10)
        ),
        (32, 32, 32, 3),
    ),
}


def bare_update(network: keras.Model, x: tf.Tensor, y: tf.Tensor, times: int) -> object:
    """Forward and weight gradient of `times` the batch, and the optimiser's update."""
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(network.trainable_variables)

    @tf.function
    def update(x: tf.Tensor, y: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            logits = network(x, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))

    many = tf.concat([x] * times, 0), tf.concat([y] * times, 0)
    return lambda: update(*many)


def compiled(case: Case) -> methods.RobustModel:
    """A model of this method on a fresh CNN."""
    model = case.build(models.CNN((28, 28, 1), 10))
    model.compile(keras.optimizers.Adam(1e-3), weight_perturbation=case.composed)
    return model


def seconds(name: str, rounds: int) -> str:
    """One line: the time of a step of the size of a released program."""
    build, shape = PROGRAMS[name]
    model = build()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    x = tf.random.stateless_uniform(shape, (0, 1))
    y = tf.range(shape[0]) % 10
    step = tf.function(model.train_step)
    (times,) = in_turn([lambda: step((x, y))], rounds)
    return f"{name:48} {np.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})"


def against_floor(name: str, x: tf.Tensor, y: tf.Tensor, rounds: int) -> str:
    """One line: the ratio of a step to its passes."""
    case = CASES[name]
    network = models.CNN((28, 28, 1), 10)
    forward = tf.function(lambda x: network(x, training=False))
    step = tf.function(compiled(case).train_step)
    times = in_turn(
        [
            lambda: step((x, y)),
            lambda: forward(x),
            bare_pass(network, x, y),
            bare_update(network, x, y, case.images),
        ],
        rounds,
    )
    alone = (case.forwards - case.reaches, case.gradients + case.reaches, case.updates)
    ratios = [
        whole / sum(count * part for count, part in zip(alone, parts, strict=True))
        for whole, *parts in zip(*times, strict=True)
    ]
    passes = f"{case.forwards} f + {case.gradients} g"
    passes += f" + {case.reaches} r" * bool(case.reaches)
    passes += f" + {case.updates} u({case.images})"
    speed = len(x) / np.median(times[0])
    traces = step.experimental_get_tracing_count()
    return f"{row(name, ratios, 1.15)}  {passes:22} {speed:6.0f} img/s  {traces} trace(s)"


def main() -> None:
    """Runs the benchmark."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--dtype_policy", default="float32")
    parse.add_argument("--rounds", type=int, default=10)
    parse.add_argument("--methods", nargs="+", choices=list(CASES), default=list(CASES))
    parse.add_argument("--programs", action="store_true", help="steps of the released programs")
    options = parse.parse_args()
    keras.mixed_precision.set_global_policy(options.dtype_policy)
    keras.utils.set_random_seed(0)
    if options.programs:
        for name in PROGRAMS:
            print(seconds(name, options.rounds), flush=True)
        return
    batch = 128
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (batch * 10, 28, 28, 1), dtype=np.uint8)
    split = data.Split(images, generator.integers(0, 10, len(images)).astype(np.int32))
    x, y = next(iter(data.batches(split, batch)))
    for name in options.methods:
        print(against_floor(name, x, y, options.rounds), flush=True)
    if options.methods != list(CASES):
        return

    model = compiled(CASES["ADR"])
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
