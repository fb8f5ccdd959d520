"""Pictures that are read when they are needed: how fast, how long training waits, how much memory.

    python -m benchmarks.streaming [--rounds 9] [--pictures 600]

Three numbers, each with its limit, on JPEG files that are made for it:

* images/s of `data.epochs`, decoded, resized and in batches, over those of a bare loop over
  `keras.utils.image_dataset_from_directory`; timed in turn, for pictures of the images' size and
  for four times larger ones. Epochs are shuffled on both sides;
* the share of a step of adversarial training with PGD-10 that passes before its batch is there;
* the largest memory of a process that trains an epoch and evaluates, on ten times the pictures
  over that on the pictures, each in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.pairing import in_turn, row
from robust_tf import attacks, data, evaluate, methods, models

BATCH, SIDE, CLASSES = 32, 64, 2
EPOCHS = 4  # in one pipeline, as in training, so that its beginning counts little


def write_pictures(folder: pathlib.Path, count: int, side: int) -> None:
    """Smooth pictures with some noise, as photographs compress, one folder for each class."""
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(0, 256, (8, 8, 3)).astype(np.float32)
        image = tf.image.resize(coarse, (side, side), "bicubic") + rng.normal(0, 6, (side, side, 3))
        place = folder / "train" / str(number % CLASSES)
        place.mkdir(parents=True, exist_ok=True)
        content = tf.io.encode_jpeg(tf.cast(tf.clip_by_value(image, 0, 255), tf.uint8), quality=90)
        (place / f"{number:06d}.jpg").write_bytes(content.numpy())


def streamed(folder: pathlib.Path, side: int = SIDE) -> data.Data:
    """The pictures of a folder, not held in memory."""
    source = data.ImageFolder(str(folder), image_size=side, resize="stretch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", data.DataNote)
        return data.load(source=source, in_memory=False, validation_size=0, test_size=BATCH)


def decoding(folder: pathlib.Path, rounds: int) -> tuple[list[float], float]:
    """Images/s over those of Keras, by round; and the median of our own."""
    split = streamed(folder).train
    keras_set = keras.utils.image_dataset_from_directory(
        str(folder / "train"), image_size=(SIDE, SIDE), batch_size=BATCH, verbose=False
    ).repeat(EPOCHS)
    counts = {"own": 0, "keras": 0}

    def read(name: str, dataset: tf.data.Dataset) -> None:
        counts[name] = sum(len(labels) for _, labels in dataset)

    epochs = iter([data.epochs(split, BATCH, EPOCHS, seed=turn) for turn in range(rounds + 1)])
    own, other = in_turn(
        [
            lambda: read("own", next(epochs)),
            lambda: read("keras", keras_set),
        ],
        rounds,
    )
    ratios = [
        (counts["own"] / mine) / (counts["keras"] / theirs)
        for mine, theirs in zip(own, other, strict=True)
    ]
    return ratios, counts["own"] / statistics.median(own)


def adversarial_training(shape: tuple[int, ...], steps: int, filters: int) -> Any:
    """A compiled step of adversarial training with PGD."""
    attack = attacks.PGD(4 / 255, 1 / 255, steps)
    model = methods.AdversarialTraining(models.CNN(shape, CLASSES, filters, 32), attack)
    model.compile(keras.optimizers.Adam(1e-3))
    return tf.function(lambda x, y: model.train_step((x, y)))


def waiting(folder: pathlib.Path, rounds: int) -> tuple[list[float], float]:
    """Share of each step's time until its batch is there; and the median of a step, in seconds."""
    split = streamed(folder).train
    step = adversarial_training(split.image_shape, 10, 16)
    batches = iter(data.epochs(split, BATCH, 1 + rounds * BATCH // len(split) + 1))
    shares, seconds = [], []
    for number in range(rounds + 1):
        began = time.perf_counter()
        batch = next(batches)
        there = time.perf_counter()
        tf.nest.map_structure(lambda value: value.numpy(), step(*batch))
        if number:  # the first compiles
            seconds.append(time.perf_counter() - began)
            shares.append((there - began) / seconds[-1])
    return shares, statistics.median(seconds)


def memory_of(folder: pathlib.Path) -> float:
    """Largest memory of a process that trains on a folder and evaluates, MB."""
    command = [sys.executable, "-m", "benchmarks.streaming", "--child", str(folder)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(found.stdout.split()[-1])


def child(folder: pathlib.Path) -> None:
    """One epoch of training and an evaluation; prints the largest memory of the process, MB."""
    found = streamed(folder, 2 * SIDE)
    step = adversarial_training(found.image_shape, 1, 2)
    for batch in data.epochs(found.train, BATCH, 1):
        step(*batch)
    weights = tf.random.stateless_normal([48, CLASSES], [0, 1])

    def network(x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.nn.avg_pool2d(x, SIDE // 2, SIDE // 2, "VALID"), [-1, 48]) @ weights

    evaluate(network, found.train, [attacks.FGSM(4 / 255)], batch_size=BATCH, progress=False)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Prints the ratios."""
    parse = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parse.add_argument("--rounds", type=int, default=9)
    parse.add_argument("--pictures", type=int, default=600)
    parse.add_argument("--child", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parse.parse_args()
    if options.child:
        child(options.child)
        return
    threads = os.environ.get("TF_NUM_INTRAOP_THREADS", "all")
    print(f"{os.cpu_count()} processors, {threads} threads in an operation")
    with tempfile.TemporaryDirectory() as made:
        place = pathlib.Path(made)
        for side in (SIDE, 4 * SIDE):
            write_pictures(place / str(side), options.pictures, side)
            ratios, speed = decoding(place / str(side), options.rounds)
            name = f"decode {side} x {side} to {SIDE} x {SIDE}: own / Keras"
            print(f"{row(name, ratios, 0.9)} or more, {speed:.0f} images/s", flush=True)
        shares, seconds = waiting(place / str(4 * SIDE), 3 * options.rounds)
        name = "PGD-10: waiting for a batch / step"
        print(f"{row(name, shares, 0.05)}, a step takes {seconds:.2f} s", flush=True)
        used = []
        for count in (options.pictures, 10 * options.pictures):
            write_pictures(place / f"{count} pictures", count, 2 * SIDE)
            used.append(memory_of(place / f"{count} pictures"))
        arrays = [count * 12 * SIDE**2 / 1e6 for count in (options.pictures, 10 * options.pictures)]
        print(
            f"{row('memory: ten times the pictures / once', [used[1] / used[0]], 1.1)}, "
            f"{used[0]:.0f} and {used[1]:.0f} MB, as arrays {arrays[0]:.0f} and {arrays[1]:.0f} MB"
        )


if __name__ == "__main__":
    main()
