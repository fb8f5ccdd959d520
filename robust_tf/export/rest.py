"""Requests and responses of TensorFlow Serving's REST interface, as examples that work."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf import files
from robust_tf.export.signatures import Signatures

# Row format where every argument has one entry for each image, columns where there are scalars.
NUMBERS = {"eps": 0.1, "step_size": 0.02, "steps": 10, "seed": 0}


def write_examples(folder: str, signatures: Signatures) -> None:
    """Writes for each signature a request, and what the model answers.

    `SIGNATURE.request.json` and `SIGNATURE.response.json`.
    """
    for name in signatures.functions:
        request, response = example(signatures, name)
        for kind, content in (("request", request), ("response", response)):
            # On one line: each pixel on its own would make thousands.
            path = os.path.join(folder, f"{name}.{kind}.json")
            files.write_text(path, json.dumps(content) + "\n")


def example(signatures: Signatures, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A request for one image, and the response, as JSON-ready dictionaries."""
    specs = signatures.functions[name].structured_input_signature[0]
    given = {
        spec.name: value for spec, value in zip(specs, _values(signatures, specs), strict=True)
    }
    tensors = [tf.constant(given[spec.name], spec.dtype) for spec in specs]
    outputs = signatures.functions[name](*tensors)
    found = {key: plain(value.numpy()) for key, value in outputs.items()}
    request: dict[str, Any] = {"signature_name": name}
    # The only output of a signature comes without its name.
    if any(spec.shape.rank == 0 for spec in specs):
        request["inputs"] = {key: _as_json(value) for key, value in given.items()}
        return request, {"outputs": found if len(found) > 1 else next(iter(found.values()))}
    # So do the values of the only argument.
    row = {key: _as_json(value)[0] for key, value in given.items()}
    request["instances"] = [row if len(row) > 1 else next(iter(row.values()))]
    rows = [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
    return request, {"predictions": rows if len(found) > 1 else [list(r.values())[0] for r in rows]}


def _values(signatures: Signatures, specs: Sequence[tf.TensorSpec]) -> list[Any]:
    """For each argument a value: one image, what is predicted for it, and the attack's numbers."""
    default = signatures.functions["serving_default"]
    shape = tuple(side or 8 for side in default.structured_input_signature[0][0].shape[1:])
    # Few levels of grey, which are short numbers in [0, 1], too.
    pixels = (np.add.reduce(np.indices(shape)) % 6 * 51).astype(np.uint8)
    image = (pixels / np.float32(255)).astype(np.float32)[np.newaxis]
    values = []
    for spec in specs:
        if spec.name == "images":
            values.append(image if spec.dtype == tf.float32 else pixels[np.newaxis])
        elif spec.name == "image_bytes":
            values.append([tf.io.encode_png(pixels).numpy()])
        elif spec.name == "labels":
            values.append(default(tf.constant(image))["class"].numpy())
        else:
            values.append(NUMBERS[spec.name])
    return values


def _as_json(value: Any) -> Any:
    """A value of an argument; bytes as base64."""
    if isinstance(value, np.ndarray):
        return plain(value)
    if isinstance(value, list):
        return [{"b64": base64.b64encode(data).decode()} for data in value]
    return value


def plain(array: np.ndarray) -> Any:
    """Nested lists; of float32 the shortest number that stands for the same bits, strings as text.

    TensorFlow Serving writes strings as UTF-8, but of outputs whose name ends in `_bytes`.
    """
    if array.dtype == np.float32:
        return np.array([float(str(v)) for v in array.flat]).reshape(array.shape).tolist()
    if array.dtype == object:
        return [value.decode() for value in array.tolist()]
    return array.tolist()


def specs(signatures: Signatures) -> dict[str, dict[str, dict[str, str]]]:
    """Arguments and outputs of each signature, as 'float32 (batch, 28, 28, 1)' by name."""
    found = {}
    for name, function in signatures.functions.items():
        inputs = {spec.name: spec for spec in function.structured_input_signature[0]}
        found[name] = {
            "inputs": {key: _text(spec) for key, spec in inputs.items()},
            "outputs": {key: _text(t) for key, t in function.structured_outputs.items()},
        }
    return found


def _text(spec: Any) -> str:
    shape = ["batch" if k == 0 else str(side or "any") for k, side in enumerate(spec.shape)]
    return f"{spec.dtype.name} ({', '.join(shape)})" if shape else f"{spec.dtype.name} scalar"
