"""An attack against its floor: steps times one bare forward and input gradient.

    python -m benchmarks.floor [--dtype_policy mixed_bfloat16]

Prints, for each attack, its time over steps x the bare pass (same network, batch and graph mode,
timed in turn), images per second, and how often the network was traced.
"""

from __future__ import annotations

import argparse

import keras
import tensorflow as tf

from benchmarks.pairing import in_turn, row
from robust_tf import attacks
from robust_tf.models import CNN


def bare_pass(network: keras.Model, x: tf.Tensor, y: tf.Tensor) -> object:
    """One forward and gradient with respect to the images, compiled for any batch size."""

    @tf.function(
        input_signature=[tf.TensorSpec([None, *x.shape[1:]]), tf.TensorSpec([None], tf.int32)]
    )
    def gradient(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            logits = network(x, training=False)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
        return tape.gradient(loss, x)

    return lambda: gradient(x, y)


def main() -> None:
    """Runs the benchmark."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--dtype_policy", default="float32")
    parse.add_argument("--batch_size", type=int, default=128)
    parse.add_argument("--rounds", type=int, default=15)
    options = parse.parse_args()
    keras.mixed_precision.set_global_policy(options.dtype_policy)
    keras.utils.set_random_seed(0)
    network = CNN((28, 28, 1), 10)
    network.classifier.layers[-1].kernel.assign(tf.random.normal([200, 10], stddev=0.1))
    x = tf.random.uniform([options.batch_size, 28, 28, 1])
    y = tf.random.uniform([options.batch_size], maxval=10, dtype=tf.int32)
    bare = bare_pass(network, x, y)
    steps = 20
    for name, attack, passes, limit in (
        ("BIM-20", attacks.BIM(0.3, 0.03, steps), steps, 1.05),
        ("PGD-20", attacks.PGD(0.3, 0.03, steps), steps, 1.05),
        ("MIM-20", attacks.MIM(0.3, 0.03, steps), steps, 1.05),
        ("CW-20", attacks.CW(0.3, 0.03, steps), steps, 1.05),
        ("PGD-20 in L2", attacks.PGD(3.0, 0.3, steps, norm="L2"), steps, 1.05),
        ("TRADES-20 (and its clean forward)", attacks.TRADESAttack(0.3, 0.03, steps), steps, 1.05),
    ):
        traces = []

        def counted(x: tf.Tensor, traces: list[int] = traces) -> tf.Tensor:
            traces.append(1)
            return network(x, training=False)

        times = in_turn(
            [
                lambda a=attack, c=counted: a(c, x, y),
                lambda p=passes: [bare() for _ in range(p)],
            ],
            options.rounds,
        )
        ratios = [attacked / floor for attacked, floor in zip(*times, strict=True)]
        speed = options.batch_size / min(times[0])
        # Python runs the network once to look at its logits, then once (TRADES: twice) to trace it.
        print(row(name, ratios, limit), f" {speed:7.0f} img/s  network called {len(traces)} times")


if __name__ == "__main__":
    main()
