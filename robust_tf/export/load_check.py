"""Calls exported files in a process that knows TensorFlow and nothing of this library.

    python load_check.py FOLDER INPUTS.npz OUTPUTS.npz [MODULE ...]

The inputs are named `SIGNATURE/SIZE/ARGUMENT` or `FILE/SIZE/images`, and so are the outputs. Prints
a line of JSON: what was loaded, in how many seconds. After all else a `.keras` file is loaded, in
safe mode; that takes this library's layers, and those in the modules.
"""

import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
MODULES = set(sys.modules)  # TensorFlow itself imports Keras


def saved_model(folder: str) -> Call:
    """Signature, arguments -> outputs, all by name."""
    loaded = tf.saved_model.load(folder)

    def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        tensors = {key: tf.constant(value) for key, value in arguments.items()}
        return {key: as_array(v) for key, v in loaded.signatures[name](**tensors).items()}

    return call


def as_array(tensor: Any) -> Any:
    """A tensor in NumPy, strings as arrays of bytes: `savez` pickles objects."""
    return tensor.numpy().astype(bytes) if tensor.dtype == tf.string else tensor.numpy()


def content(path: str) -> bytes:
    """The bytes of a file, which may lie in a bucket."""
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


def lite(path: str) -> Call:
    """The same for a TFLite file."""
    runner = interpreter(content(path)).get_signature_runner()
    return lambda name, arguments: runner(**arguments)


def interpreter(model: bytes) -> Any:
    """Of a TFLite model: LiteRT's, or where it is not installed TensorFlow's own.

    Raises:
      ValueError: there is neither; later versions of TensorFlow leave theirs out.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        Interpreter = getattr(getattr(tf, "lite", None), "Interpreter", None)
    if Interpreter is None:
        raise ValueError("TFLite files are run by LiteRT: pip install 'robust_tf[tflite]'.")
    with warnings.catch_warnings():  # TensorFlow's announces its end
        warnings.simplefilter("ignore")
        return Interpreter(model_content=model)


def onnx(path: str) -> Call:
    """The same for an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda name, arguments: dict(zip(names, session.run(None, arguments), strict=True))


def keras_file(path: str) -> Call:
    """The same for a `.keras` file."""
    import keras

    import robust_tf.inference
    import robust_tf.models  # noqa: F401
    from robust_tf import modules

    for module in sys.argv[4:]:
        modules.load(module)
    with tempfile.TemporaryDirectory() as local:
        here = os.path.join(local, "model.keras")  # Keras 2 knows local disks only
        tf.io.gfile.copy(path, here)
        model = keras.models.load_model(here, compile=False, safe_mode=True)
    run = tf.function(lambda x: model(x, training=False), autograph=False)
    return lambda name, arguments: {"logits": run(tf.constant(arguments["images"])).numpy()}


def loader_of(name: str) -> Callable[[str], Call] | None:
    """By the file's ending; a signature has none."""
    return {".tflite": lite, ".onnx": onnx, ".keras": keras_file}.get(os.path.splitext(name)[1])


def main(folder: str, inputs: str, outputs: str) -> None:
    """Runs all calls."""
    calls: dict[tuple[str, str], dict[str, Any]] = {}
    with np.load(inputs) as given:
        for key in given.files:
            name, size, argument = key.split("/")
            calls.setdefault((name, size), {})[argument] = given[key]
    calls = dict(sorted(calls.items(), key=lambda item: item[0][0].endswith(".keras")))
    results: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    models: dict[str, Call] = {}
    for (name, size), arguments in calls.items():
        loader = loader_of(name)
        file = name if loader else "saved_model"
        if file not in models:
            if file.endswith(".keras"):
                check_imports()
            began = time.perf_counter()
            path = os.path.join(folder, file) if loader else folder
            models[file] = (loader or saved_model)(path)
            seconds[file] = time.perf_counter() - began
        for key, value in models[file](name, arguments).items():
            results[f"{name}/{size}/{key}"] = value
    if not any(file.endswith(".keras") for file in models):
        check_imports()
    np.savez(outputs, **results)  # type: ignore[arg-type]
    print(json.dumps({"load_seconds": seconds, "tensorflow": tf.__version__}))


def check_imports() -> None:
    """Fails if loading or calling has imported this library, or Keras where TensorFlow had not."""
    found = {name.split(".")[0] for name in set(sys.modules) - MODULES} & {"robust_tf", "tf_keras"}
    found |= {"keras"} & (set(sys.modules) - MODULES)
    if found:
        raise SystemExit(f"imported beside TensorFlow: {', '.join(sorted(found))}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
