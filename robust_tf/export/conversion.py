"""The kinds of files: how each is made of a network, run, and measured."""

from __future__ import annotations

import dataclasses
import difflib
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf import compat, files
from robust_tf.attacks import Attack
from robust_tf.attacks.randomness import as_seed, each, fold
from robust_tf.data import Split
from robust_tf.data.pipeline import to_unit_interval
from robust_tf.evaluation.target_model import copy_in
from robust_tf.export import load_check
from robust_tf.models import SplitClassifier, forward_mode

# The file of each in the folder; '' is the folder itself.
FILES = {
    "saved_model": "",
    "keras": "model.keras",
    "tflite_float16": "model_float16.tflite",
    "tflite_int8": "model_int8.tflite",
    "onnx": "model.onnx",
}
FORMATS = tuple(FILES)
# Those without gradients in their graph: no manifold transformation.
CONVERTED = ("tflite_float16", "tflite_int8", "onnx")
OPSET = 17
RANGES = 200  # training images from which int8 takes its ranges
ONNX_PACKAGES = "tf2onnx onnx onnxruntime"


@dataclasses.dataclass(frozen=True, eq=False)
class CalibrationData:
    """What exported files are measured on.

    Attributes:
      train: of the training split; its first images give int8 its ranges.
      test: images of the test split.
      attack: an attack on the model itself; its images are shown to every file. None: natural
        accuracy alone.
      title: the attack's name.
    """

    train: Split
    test: Split
    attack: Attack | None = None
    title: str = ""

    @property
    def ranges(self) -> np.ndarray:
        """float32 images for int8."""
        return to_unit_interval(tf.constant(self.train.take(RANGES).images)).numpy()


def check(formats: Iterable[str], defended: bool = False) -> tuple[str, ...]:
    """The formats, in our order, each once.

    Raises:
      ValueError: none, an unknown one, one that cannot hold a defended model, or one whose packages
        are missing.
    """
    wanted = [name.strip() for name in formats if name.strip()]
    for name in wanted:
        if name not in FILES:
            near = difflib.get_close_matches(name, FORMATS, 1, cutoff=0.4)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"there is no format {name!r}; {hint}known: {', '.join(FORMATS)}.")
        if defended and name in CONVERTED:
            raise ValueError(
                f"{name} cannot hold a manifold transformation, which needs the network's gradient "
                "at inference; choose saved_model or keras, or leave --inference out to export the "
                "bare network, undefended."
            )
    if not wanted:
        raise ValueError(f"no formats: give one or more of {', '.join(FORMATS)}.")
    if "onnx" in wanted:
        _tf2onnx()
    return tuple(name for name in FORMATS if name in wanted)


class Float32(tf.Module):
    """A network's prediction in float32, for converters: they know no bfloat16.

    Attributes:
      serve: images -> logits and probabilities.
    """

    def __init__(self, network: SplitClassifier):
        super().__init__(name="float32")
        twin: Any = copy_in(network, "float32")
        self.weights = [compat.raw(variable) for variable in twin.variables]
        images = tf.TensorSpec([None, *network.image_shape], tf.float32, name="images")

        def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
            with forward_mode(batch_norm="running"):
                logits = twin(x, training=False)
            return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

        self.serve = tf.function(serve, input_signature=[images], autograph=False)


def tflite(module: Float32, images: np.ndarray | None = None) -> bytes:
    """A TFLite model with weights in float16; with `images` in int8, computing in int8.

    Args:
      module: the network.
      images: float32 (N, ...), of the training split, from which the ranges of all activations are
        taken; None for float16. What has no int8 kernel stays float32; inputs and outputs do, too.
    """
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.serve.get_concrete_function()], module
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if images is None:
        converter.target_spec.supported_types = [tf.float16]
    else:
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in images)
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
            tf.lite.OpsSet.TFLITE_BUILTINS,
        ]
    return converter.convert()


def onnx(module: Float32) -> bytes:
    """An ONNX model.

    Raises:
      ValueError: the converter's packages are missing, or it fails.
    """
    converter = _tf2onnx()
    try:
        model, _ = converter.convert.from_function(
            module.serve, input_signature=module.serve.input_signature, opset=OPSET
        )
    except Exception as error:  # a converter may raise anything
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"tf2onnx cannot convert this network: {line}") from error
    return model.SerializeToString()


def save_keras(model: Any, path: str) -> None:
    """Writes a `.keras` file, to a bucket too."""
    with tempfile.TemporaryDirectory() as local:
        here = os.path.join(local, "model.keras")  # Keras 2 knows local disks only
        model.save(here)
        tf.io.gfile.copy(here, path, overwrite=True)


def write(path: str, content: bytes) -> None:
    """Writes a file as it is."""
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(content)


def runner(path: str) -> Callable[[np.ndarray], np.ndarray]:
    """The model in a `.tflite` or `.onnx` file: images float32 (B, ...) -> logits (B, C)."""
    with tf.io.gfile.GFile(path, "rb") as file:
        content = file.read()
    if path.endswith(".onnx"):
        _tf2onnx()
        import onnxruntime

        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        return lambda x: session.run(["logits"], {"images": np.asarray(x, np.float32)})[0]
    return lite_runner(content)


def lite_runner(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """The model in the bytes of a `.tflite` file."""
    signature = load_check.interpreter(content).get_signature_runner()

    def run(x: np.ndarray) -> np.ndarray:
        return signature(images=np.asarray(x, np.float32))["logits"]

    return run


def measure(
    target: Callable[..., Any],
    runners: dict[str, Callable[[np.ndarray], np.ndarray]],
    calibration: CalibrationData,
    batch_size: int = 100,
) -> dict[str, dict[str, float]]:
    """Natural and robust accuracy of each file, in [0, 1].

    The attack is found on `target`, the model that the files were made of, and transferred to the
    files: those of other precision may be broken by images made for them, so what is measured
    bounds their robustness from above.
    """
    images = to_unit_interval(tf.constant(calibration.test.images)).numpy()
    right: dict[str, dict[str, list[np.ndarray]]] = {name: {} for name in runners}
    for first in range(0, len(images), batch_size):
        part = slice(first, first + batch_size)
        x, y = images[part], calibration.test.labels[part]
        shown = {"natural": x}
        if calibration.attack is not None:
            # As an evaluator's, for the first stage of an attack.
            seeds = each(fold(as_seed(0), 0), tf.range(first, first + len(y)))
            shown["robust"] = calibration.attack(target, x, y, seed=seeds).numpy()
        for name, run in runners.items():
            hits = {what: np.argmax(run(batch), axis=1) == y for what, batch in shown.items()}
            if "robust" in hits:
                hits["robust"] &= hits["natural"]
            for what, hit in hits.items():
                right[name].setdefault(what, []).append(hit)
    return {
        name: {what: float(np.concatenate(hits).mean()) for what, hits in found.items()}
        for name, found in right.items()
    }


def size(path: str, name: str) -> int:
    """Bytes of a format in the folder `path`."""
    if FILES[name]:
        return tf.io.gfile.stat(os.path.join(path, FILES[name])).length
    names: Sequence[str] = ["saved_model.pb", "fingerprint.pb"]
    names = [*names, *(f"variables/{n}" for n in tf.io.gfile.listdir(f"{path}/variables"))]
    return sum(
        tf.io.gfile.stat(os.path.join(path, n)).length
        for n in names
        if files.exists(os.path.join(path, n))
    )


def _tf2onnx() -> Any:
    """The converter.

    Raises:
      ValueError: it, or what runs its files, is missing.
    """
    try:
        import onnxruntime  # noqa: F401
        import tf2onnx
    except ImportError as error:
        raise ValueError(
            f"the format onnx needs {ONNX_PACKAGES} ({error}): pip install -c "
            "constraints/default.txt -e '.[onnx]', with constraints/addons.txt on that stack."
        ) from error
    return tf2onnx
