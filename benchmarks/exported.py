"""Exported files: size, time to load in a new process, latency per image, accuracies.

    python -m benchmarks.exported --export_dir exported [--run_dir runs/adr_mnist]

Each file is loaded and timed in a process of its own, which imports what it needs and no more.
Natural and robust accuracy are those that bin/export measured and wrote into the model card. With
--run_dir, the SavedModel's own signatures are held against the library: `attack` (PGD-40 with the
run's eps) against attacks.PGD, as accuracies over --images test images, and `transform`, if there
is one, bit for bit. `--data_dir` as for bin/train.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

ROUNDS = {1: 50, 256: 5}


def load(path: str) -> Any:
    """Images -> logits of an exported file."""
    if path.endswith(".onnx"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        threads = int(os.environ.get("TF_NUM_INTRAOP_THREADS", "0"))
        options.intra_op_num_threads = threads  # as many as TensorFlow's; 0: all
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda x: session.run(["logits"], {"images": x})[0]
    import tensorflow as tf

    if path.endswith(".keras"):
        import keras

        import robust_tf.inference
        import robust_tf.models  # noqa: F401

        model = keras.models.load_model(path, compile=False)
        run = tf.function(
            lambda x: model(x, training=False), autograph=False, reduce_retracing=True
        )
        return lambda x: run(tf.constant(x)).numpy()
    if path.endswith(".tflite"):
        runner = tf.lite.Interpreter(model_path=path).get_signature_runner()
        return lambda x: runner(images=x)["logits"]
    loaded = tf.saved_model.load(path)
    return lambda x: loaded.signatures["serving_default"](images=tf.constant(x))["logits"].numpy()


def child(path: str, shape: tuple[int, ...]) -> None:
    """Prints the seconds to import and load, to the first answer, and for each image."""
    if not path.endswith(".onnx"):
        import tensorflow  # noqa: F401
    began = time.perf_counter()
    model = load(path)
    loaded = time.perf_counter()
    rng = np.random.default_rng(0)
    model(rng.random((1, *shape), np.float32))
    found = {"load": loaded - began, "first": time.perf_counter() - loaded}
    for size, rounds in ROUNDS.items():
        x, times = rng.random((size, *shape), np.float32), []
        for _ in range(rounds + 2):
            start = time.perf_counter()
            model(x)
            times.append(time.perf_counter() - start)
        found[str(size)] = float(np.median(times[2:])) / size
    print(json.dumps(found))


def timed(path: str, shape: list[int]) -> dict[str, float]:
    """What `child` says."""
    command = [sys.executable, "-m", "benchmarks.exported", "--child", path, json.dumps(shape)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{path}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def against_the_library(options: argparse.Namespace, card: dict[str, Any]) -> None:
    """The SavedModel's `attack` and `transform`, in a new process, and the library's."""
    import tensorflow as tf

    from robust_tf import attacks, data, runs
    from robust_tf.evaluation import bpda
    from robust_tf.export import load_check

    said, training = card["model"]["inference"], card["training"]
    model: Any = runs.load_run(options.run_dir)
    transform = None
    if said:
        kept = {key: said[key] for key in ("delta", "gate", "disc_input")}
        model = runs.load_inference(options.run_dir, said["kind"], **kept)
        model, transform = bpda(model), model.transform
    test = data.load(training["data"]["name"], data_dir=options.data_dir).test.take(options.images)
    x = (test.images / np.float32(255)).astype(np.float32)
    y, eps, seed = test.labels, options.eps or training["eps"], np.int32(7)
    arguments = {"images": x, "labels": y, "eps": np.float32(eps), "seed": seed}
    arguments |= {"step_size": np.float32(options.step_size), "steps": np.int32(40)}
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = f"{folder}/inputs.npz", f"{folder}/outputs.npz"
        named = {f"attack/all/{key}": value for key, value in arguments.items()}
        if transform:
            named["transform/all/images"] = named["defend/all/images"] = x
        np.savez(inputs, **named)
        where = os.path.abspath(options.export_dir)
        command = [sys.executable, "-P", load_check.__file__, where, inputs, outputs]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = dict(np.load(outputs))

    predict = tf.function(lambda u: tf.argmax(model(u), 1, tf.int32), reduce_retracing=True)

    def accuracy(images: Any) -> float:
        parts = range(0, len(y), 100)
        hits = [predict(tf.constant(images[k : k + 100])) == y[k : k + 100] for k in parts]
        return 100 * float(np.concatenate(hits).mean())

    own = attacks.PGD(eps, options.step_size, 40)
    same = own(model, x, y, seed=int(seed)).numpy()
    other = own(model, x, y, seed=int(seed) + 1).numpy()
    theirs = found["attack/all/images"]
    print(
        f"PGD-40 eps {eps:g} step {options.step_size:g}, {len(y)} images: natural "
        f"{accuracy(x):.2f} %; `attack` of the file {accuracy(theirs):.2f} %; attacks.PGD "
        f"{accuracy(same):.2f} % (another seed: {accuracy(other):.2f} %)"
    )
    exact = attacks.PGD(float(np.float32(eps)), float(np.float32(options.step_size)), 40)
    equal = np.array_equal(theirs, exact(model, x, y, seed=int(seed)).numpy())
    print(f"the same bits as attacks.PGD at the eps that float32 holds: {equal}")
    if transform:
        moved = tf.function(transform, autograph=False)(tf.constant(x)).numpy()
        for name in ("transform", "defend"):
            equal = np.array_equal(moved, found[f"{name}/all/images"])
            print(f"`{name}`: the same bits as the library's transform: {equal}")


def main() -> None:
    """Runs the benchmark."""
    parse = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parse.add_argument("--export_dir", required=True)
    parse.add_argument("--run_dir")
    parse.add_argument("--data_dir")
    parse.add_argument("--images", type=int, default=500)
    parse.add_argument("--eps", type=float, help="default: the recipe's")
    parse.add_argument("--step_size", type=float, default=0.01)
    options = parse.parse_args()
    with open(os.path.join(options.export_dir, "model_card.json")) as file:
        card = json.load(file)
    print(
        f"{'':16}{'kB':>8}{'load s':>9}{'first s':>9}{'ms/img, 1':>11}{'ms/img, 256':>13}"
        f"{'natural':>10}{'robust':>10}"
    )
    for entry in card["files"]:
        found = timed(os.path.join(options.export_dir, entry["file"]), card["input"]["shape"])
        accuracies = [
            f"{100 * entry[kind]:8.2f} %" if kind in entry else " " * 10
            for kind in ("natural", "robust")
        ]
        print(
            f"{entry['format']:16}{entry['bytes'] / 1000:8.0f}{found['load']:9.2f}"
            f"{found['first']:9.2f}{1000 * found['1']:11.2f}{1000 * found['256']:13.3f}"
            f"{''.join(accuracies)}",
            flush=True,
        )
    if options.run_dir:
        against_the_library(options, card)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], tuple(json.loads(sys.argv[3])))
    else:
        main()
