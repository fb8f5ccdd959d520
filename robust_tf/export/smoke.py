"""The smoke test of an export: its files in a new process, compared with the model in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf import compat, modules
from robust_tf.attacks import PGD
from robust_tf.attacks.network import input_gradient, logits_of
from robust_tf.attacks.objectives import CrossEntropy
from robust_tf.export import conversion, load_check
from robust_tf.export.signatures import Signatures, detect, features, predict
from robust_tf.inference import ManifoldTransformation

SIZES = (1, 7)
ATTACK = {"eps": 0.1, "step_size": 0.03, "steps": 3, "seed": 5}
# Largest difference of a number, relative to the largest of its output, where another compiler of
# the same float32 sums takes them in another order.
ONNX_TOLERANCE = 1e-4

Calls = dict[str, dict[str, np.ndarray]]


class SmokeTestError(RuntimeError):
    """An exported file cannot be loaded in a new process, or gives other outputs than the model."""


def smoke_test(
    folder: str,
    wanted: tuple[str, ...],
    model: Any,
    detector: ManifoldTransformation | None = None,
    class_names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Loads each file in a process of its own without this library, and compares its outputs.

    The SavedModel's signatures and the `.keras` file must give the bits that the library gives in
    this process when it is compiled: the model's own calls, `transform`, `attacks.PGD`. (Called
    eagerly a model of bfloat16 rounds more often than compiled, in a file or not.) A TFLite file,
    which is another model by its rounding, must give in the new process what it gives in this one;
    an ONNX file, which another runtime computes, the logits of the float32 model to `1e-4`. Both
    processes compute on the CPU: this one may hold the memory of all GPUs, and there sums have no
    fixed order.

    Args:
      folder: of the export.
      wanted: its formats.
      model: what was exported.
      detector: as of `Signatures`.
      class_names: as of `Signatures`.

    Returns:
      JSON-ready: 'compared' outputs, those with the same bits, the largest relative difference, and
      the seconds that each file took to load.

    Raises:
      SmokeTestError: the process failed, or an output differs.
    """
    calls: Calls = {}
    expected: Calls = {}
    reference = Reference(model, detector, class_names)
    for size in SIZES:
        with tf.device("CPU:0"):
            given, outputs = reference(size)
        if "saved_model" in wanted:
            calls |= {f"{name}/{size}": arguments for name, arguments in given.items()}
            expected |= {f"{name}/{size}": found for name, found in outputs.items()}
        for name in set(wanted) - {"saved_model"}:
            key = f"{conversion.FILES[name]}/{size}"
            calls[key] = given["serving_default"]
            expected[key] = {"logits": outputs["serving_default"]["logits"]}
            if name != "keras":
                path = os.path.join(folder, conversion.FILES[name])
                expected[key]["logits"] = conversion.runner(path)(calls[key]["images"])
    found, said = _in_a_new_process(folder, calls, _modules_of(model))
    report = _compare(expected, found)
    if "onnx" in wanted:
        [(images, logits)] = [
            (calls[key]["images"], found[key]["logits"])
            for key in calls
            if key == f"model.onnx/{SIZES[-1]}"
        ]
        _check_onnx(model, images, logits)
    return {**report, "batch_sizes": list(SIZES), **said}


class Reference:
    """What the library gives for images of noise, compiled once for all batch sizes.

    Args:
      model: what is exported.
      detector, class_names: as of `Signatures`.
    """

    def __init__(
        self,
        model: Any,
        detector: ManifoldTransformation | None = None,
        class_names: Sequence[str] | None = None,
    ):
        signatures = Signatures(model, detector, class_names)
        self.names, self.target, self.classes = (
            list(signatures.functions),
            signatures.target,
            signatures.classes,
        )
        self.class_names = signatures.class_names
        self.shape = tuple(side or 8 for side in model.image_shape)
        defended = isinstance(model, ManifoldTransformation)
        network, judge = (model.network, model) if defended else (model, detector)
        images = tf.TensorSpec([None, *model.image_shape], tf.float32)
        labels = tf.TensorSpec([None], tf.int32)
        gradient = input_gradient(logits_of(self.target, "running"), CrossEntropy().values)
        # A graph for one batch size would be optimised otherwise, and have other last bits.
        self.predict = _compiled(lambda x: predict(model, x), images)
        self.features = _compiled(lambda x: {"features": features(network, x)}, images)
        self.detect = _compiled(lambda x: detect(model, judge, x), images)
        self.gradient = _compiled(lambda x, y: gradient(x, y, None)[:2], images, labels)
        self.transform = _compiled(model.transform, images) if defended else None
        # The eps that float32 holds: the signature's is a tensor of that type.
        eps, step_size = (float(np.float32(ATTACK[key])) for key in ("eps", "step_size"))
        self.attack = PGD(eps, step_size, int(ATTACK["steps"]))

    def __call__(self, size: int) -> tuple[Calls, Calls]:
        """Arguments of each signature for so many images, and its outputs, by its name."""
        rng = np.random.default_rng(size)
        pixels = rng.integers(0, 256, (size, *self.shape), np.uint8)
        x = pixels / np.float32(255)
        y = np.arange(size, dtype=np.int32) % self.classes
        numbers = {
            key: np.array(value, np.int32 if isinstance(value, int) else np.float32)
            for key, value in ATTACK.items()
        }
        given: Calls = {name: {"images": x} for name in self.names}
        given["input_gradient"] = {"images": x, "labels": y}
        given["attack"] = {"images": x, "labels": y, **numbers}
        prediction = self.predict(x)
        if self.class_names:
            names = [self.class_names[number].encode() for number in prediction["class"]]
            prediction = {**prediction, "label": np.array(names)}
        outputs: Calls = {name: prediction for name in given if name.startswith("serv")}
        if "serve_uint8" in given:
            given["serve_uint8"] = {"images": pixels}
        if "serve_image_bytes" in given:
            encoded = [tf.io.encode_png(image).numpy() for image in pixels]
            given["serve_image_bytes"] = {"image_bytes": np.array(encoded)}
        if "features" in given:
            outputs["features"] = self.features(x)
        outputs["detect"] = self.detect(x)
        if self.transform is not None:
            moved = self.transform(x)
            outputs["transform"] = {"images": moved}
            outputs["defend"] = {"images": moved, **prediction}
        gradient, loss = self.gradient(x, y)
        outputs["input_gradient"] = {"gradient": gradient, "loss": loss}
        adversarial = self.attack(self.target, x, y, seed=int(ATTACK["seed"]))
        outputs["attack"] = {"images": adversarial.numpy()}
        return given, outputs


def _compiled(run: Callable[..., Any], *specs: tf.TensorSpec) -> Callable[..., Any]:
    """`run` as one graph, traced when it is first called, from and to NumPy arrays."""
    function = tf.function(run, input_signature=specs, autograph=False)

    def call(*arrays: np.ndarray) -> Any:
        results = function(*(tf.constant(array) for array in arrays))
        return tf.nest.map_structure(lambda value: value.numpy(), results)

    return call


def _modules_of(model: Any) -> list[str]:
    """The users' modules whose layers a model has, which its `.keras` file needs."""
    network = model.network if isinstance(model, ManifoldTransformation) else model
    names = {type(layer).__module__ for layer in compat.layers_of(network)}
    return [modules.as_option(one) for one in modules.record_of(names)]


def _in_a_new_process(
    folder: str, calls: Calls, imports: Sequence[str] = ()
) -> tuple[Calls, dict[str, Any]]:
    """Outputs of these calls, and what the process said of itself; `imports`: for `.keras`."""
    with tempfile.TemporaryDirectory() as local:
        inputs, outputs = os.path.join(local, "inputs.npz"), os.path.join(local, "outputs.npz")
        flat = {f"{name}/{k}": v for name, arguments in calls.items() for k, v in arguments.items()}
        np.savez(inputs, **flat)  # type: ignore[arg-type]
        # This library is on the path for `.keras` files only; `load_check.check_imports` sees that
        # it is not imported for the others.
        paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
        where = folder if "://" in folder else os.path.abspath(folder)
        done = subprocess.run(
            [sys.executable, "-P", str(load_check.__file__), where, inputs, outputs, *imports],
            capture_output=True,
            text=True,
            cwd=local,
            env=environment,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise SmokeTestError(f"the exported files fail in a new process: {lines[-1]}")
        found: Calls = {}
        with np.load(outputs) as arrays:
            for key in arrays.files:
                name, output = key.rsplit("/", 1)
                found.setdefault(name, {})[output] = arrays[key]
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return found, {"load_seconds": said["load_seconds"]}


def _compare(expected: Calls, found: Calls) -> dict[str, Any]:
    """How many outputs have the same bits; which not."""
    differing, compared = {}, 0
    for name, outputs in expected.items():
        for output, value in outputs.items():
            compared += 1
            other = found[name][output]
            if value.shape != other.shape or value.dtype != other.dtype:
                raise SmokeTestError(
                    f"{name}: {output} is {other.dtype} {other.shape} in a new process, expected "
                    f"{value.dtype} {value.shape}."
                )
            if not np.array_equal(value, other):
                differing[f"{name}/{output}"] = _difference(value, other)
    if differing:
        worst = max(differing, key=lambda key: differing[key])
        raise SmokeTestError(
            f"{len(differing)} of {compared} outputs differ from the model's in a new process, "
            f"{worst} by {differing[worst]:.2g} of its largest value. Were both processes given "
            "the same number of threads and TF_ENABLE_ONEDNN_OPTS?"
        )
    return {"compared": compared, "same_bits": compared}


def _difference(value: np.ndarray, other: np.ndarray) -> float:
    """Of the largest value."""
    scale = max(float(np.abs(value).max()), 1e-30)
    return float(np.abs(value.astype(np.float64) - other.astype(np.float64)).max()) / scale


def _check_onnx(model: Any, images: np.ndarray, logits: np.ndarray) -> None:
    """Raises SmokeTestError for logits that are not those of the float32 model."""
    expected = conversion.Float32(model).serve(tf.constant(images))["logits"].numpy()
    difference = _difference(expected, logits)
    if not difference <= ONNX_TOLERANCE:
        raise SmokeTestError(
            f"model.onnx gives other logits than the model: by {difference:.2g} of the largest, "
            f"more than {ONNX_TOLERANCE:g}."
        )
