"""The model card of an export: `model_card.json`, and the same for readers, `README.md`."""

from __future__ import annotations

import html
import json
import os
from typing import Any

import keras
import tensorflow as tf

from robust_tf import compat, files, modules
from robust_tf.export import rest
from robust_tf.export.conversion import CONVERTED as CONVERTED_FORMATS
from robust_tf.export.conversion import CalibrationData
from robust_tf.export.provenance import percent, results_text, weights_of, weights_text
from robust_tf.export.signatures import MEANING, Signatures
from robust_tf.export.smoke import ONNX_TOLERANCE
from robust_tf.inference import ManifoldTransformation
from robust_tf.version import __version__

LIMITS = (
    "Robust accuracies hold for the ball and the attacks that they were measured with: another "
    "norm, a larger eps or a stronger attack may do better. They say nothing of other changes of "
    "an image (rotation, blur, other cameras).",
    "The model knows images like those it was trained on, and gives one of its classes for any "
    "other image. The probabilities are those of the softmax, and were not calibrated.",
    "Images must be in [0, 1], normalised by nobody: normalisation is a part of the model. "
    "`serving_default` does not check them; pixels in 0..255 belong to `serve_uint8`.",
)
CONVERTED = (
    "The images of the attack on TFLite and ONNX files were made for the original model and "
    "transferred. An attack on the files themselves may find more: their robust accuracy is an "
    "upper bound."
)
QUANTISED = (
    "TFLite and ONNX files are models of their own by their rounding: they were compared with "
    f"themselves in the first process, ONNX also with the float32 model, to {ONNX_TOLERANCE:g} of "
    "the largest logit."
)
SHOWN = 20  # classes that are named without being asked for
# What `serve_image_bytes` does with a picture of another size, by `resize`.
RESIZED = {
    "pad": "scaled in its proportions until it fits in the model's size, on black",
    "crop": "scaled in its proportions until it fills the model's size, of which its middle is "
    "taken",
    "stretch": "stretched to the model's size",
}
ENCODED = (
    "`serve_image_bytes` turns a picture upright as EXIF says, leaves transparency out and makes "
    "it gray or color as the model wants it. A picture of another size is {how} (bilinear, large "
    "ones by means of blocks first)"
)
DEFENDED = (
    "The prediction is that of the manifold transformation, f(T(u)): `serving_default`, "
    "`serve_uint8`, `serve_image_bytes`, `defend` and the entropy of `detect` are of the moved "
    "image, `features` and the natural_probability of `detect` of the image as it is given. "
    "`input_gradient` and `attack` go through the transformation by BPDA (backward pass "
    "differentiable approximation), with the identity in place of its Jacobian, as the library's "
    "adaptive evaluation does. That evaluation runs more attacks than this one; robustness against "
    "attacks on the network alone proves nothing here."
)
USAGE = """
```python
import tensorflow as tf

model = tf.saved_model.load("NAME")
model.signatures["serving_default"](images=images)["probabilities"]
x_adv = model.signatures["attack"](
    images=images, labels=labels, eps=tf.constant(0.1), step_size=tf.constant(0.02),
    steps=tf.constant(40), seed=tf.constant(0),
)["images"]
```

TensorFlow Serving finds the model if this folder is `/models/NAME/1`. Its REST requests are in \
`rest/`, each with the response that it gets:

```sh
curl -d @rest/serving_default.request.json localhost:8501/v1/models/NAME:predict
```

A request names the signature and holds a list of instances: rows of the argument's values, or, \
where a signature has several (`input_gradient`), rows with each of them by name. Where it takes \
scalars (`attack`), the request holds its arguments by name. Bytes are base64:

```
{"signature_name": "serving_default", "instances": [IMAGE, ...]}
  -> {"predictions": [{"logits": [...], "probabilities": [...], "class": 3}, ...]}
{"signature_name": "serve_image_bytes", "instances": [{"b64": "iVBORw0K..."}, ...]}
{"signature_name": "input_gradient", "instances": [{"images": IMAGE, "labels": 3}, ...]}
{"signature_name": "attack", "inputs": {"images": [IMAGE, ...], "labels": [3, ...],
  "eps": 0.1, "step_size": 0.02, "steps": 40, "seed": 0}}  -> {"outputs": [IMAGE, ...]}
```"""


def content(
    signatures: Signatures,
    model: Any,
    entries: list[dict[str, Any]],
    calibration: CalibrationData | None,
    about: dict[str, Any],
    tested: dict[str, Any] | None,
) -> dict[str, Any]:
    """The card, JSON-ready.

    Args:
      signatures: what is exported.
      model: of which it was made.
      entries: format, file, bytes and, if measured, accuracies of each file.
      calibration: what they were measured on.
      about: see `provenance.of_run`; {} for a model without a run.
      tested: what the smoke test found, None if it was not run.
    """
    shape = [side for side in model.image_shape]
    has_model = any(entry["format"] == "saved_model" for entry in entries)
    measured = None
    if calibration is not None:
        measured = {"test_images": len(calibration.test), "attack": calibration.title or None}
    limits = [*LIMITS]
    if any(entry["format"] in CONVERTED_FORMATS for entry in entries):
        limits.append(CONVERTED)
    if has_model and "serve_image_bytes" in signatures.functions:
        seen = signatures.resize
        same = "to the bit as in training" if seen else "the training images were not resized"
        limits.append(f"{ENCODED.format(how=RESIZED[seen or 'stretch'])}, {same}.")
    return {
        "model": {
            "kind": type(model).__name__,
            "classes": signatures.classes,
            "class_names": list(signatures.class_names) or None,
            "parameters": model.count_params(),
            "compute_dtype": _compute_dtype(model),
            "inference": _inference(model),
        },
        "input": {
            "shape": shape,
            "dtype": "float32",
            "range": [0.0, 1.0],
            "resize": signatures.resize,
        },
        "weights": weights_of(model) or None,
        "training": about or None,
        "files": entries,
        "measured": measured,
        "signatures": rest.specs(signatures) if has_model else {},
        "limits": limits,
        "smoke_test": tested,
        "versions": {
            "robust_tf": __version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }


def write(folder: str, name: str, card: dict[str, Any]) -> None:
    """Writes both, and the recipe, where one is known, as `config.gin`."""
    files.write_json(os.path.join(folder, "model_card.json"), card)
    files.write_text(os.path.join(folder, "README.md"), text(name, card))
    if (card["training"] or {}).get("recipe"):
        files.write_text(os.path.join(folder, "config.gin"), card["training"]["recipe"])


def text(name: str, card: dict[str, Any]) -> str:
    """The card as Markdown."""
    model, shape = card["model"], tuple(card["input"]["shape"])
    lines = [
        f"# {name}",
        "",
        f"A classifier of {model['classes']} classes with {model['parameters']:,} parameters, "
        f"exported by robust_tf {card['versions']['robust_tf']} from TensorFlow "
        f"{card['versions']['tensorflow']}. Computes in {model['compute_dtype']}.",
        "",
        f"Input: images of shape {shape}, float32 in [0, 1].",
    ]
    if model["class_names"]:
        lines += ["", *_classes(model["class_names"])]
    if model["inference"]:
        numbers = ", ".join(f"{k} {v}" for k, v in model["inference"].items() if v is not None)
        lines += ["", f"Inference with manifold transformation: {numbers}.", "", DEFENDED]
    lines += (
        weights_text(card["weights"])
        + _training(card["training"], bool(model["inference"]))
        + _files(card)
        + _signatures(name, card)
    )
    lines += ["", "## Limits", "", *(f"* {limit}" for limit in card["limits"]), ""]
    return "\n".join(lines)


def _classes(names: list[str]) -> list[str]:
    """The classes with their numbers; many are hidden until they are opened."""
    known = [f"{label} {html.escape(' '.join(name.split()))}" for label, name in enumerate(names)]
    said = ", ".join(known)
    if len(names) <= SHOWN:
        return [f"Classes, in the order of the logits: {said}."]
    return [
        f"<details><summary>The {len(names):,} classes, in the order of the logits</summary>",
        "",
        f"{said}.",
        "",
        "</details>",
    ]


def _training(about: dict[str, Any] | None, defended: bool) -> list[str]:
    if not about:
        return ["", "Nothing is known of its training."]
    data, eps = about["data"], about["eps"]
    norm = "" if about.get("norm", "Linf") == "Linf" else f" ({about['norm']})"
    sizes = [f"{data[k]:,} {k}" for k in ("train", "validation", "test") if k in data]
    rows = [
        ("method", about["method"]),
        ("data", f"{data.get('name', 'unknown')} ({', '.join(sizes)} images)"),
        ("fingerprint of the data", data.get("fingerprint")),
        (f"eps of the recipe{norm}, in units of [0, 1]", eps and f"{eps:g}"),
        ("epoch taken", f"{about['selected']} (best validation: {about['best_epoch']})"),
        ("run", about["run_dir"]),
        ("recipe", "`config.gin`, all of its bindings" if about["recipe"] else None),
        ("modules of its own", ", ".join(map(modules.as_option, about.get("modules") or ()))),
    ]
    lines = ["", "## Training", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in rows if value]
    return [*lines, *results_text(about["results"], defended), *about["missing"]]


def _files(card: dict[str, Any]) -> list[str]:
    measured = card["measured"]
    lines = [
        "",
        "## Files",
        "",
        "| format | file | kB | natural | robust |",
        "|---|---|---|---|---|",
    ]
    for entry in card["files"]:
        accuracies = [
            percent(entry[kind]) if kind in entry else "" for kind in ("natural", "robust")
        ]
        size = f"{entry['bytes'] / 1000:,.0f}"
        lines.append(
            f"| {entry['format']} | `{entry['file']}` | {size} | {' | '.join(accuracies)} |"
        )
    if measured:
        attack = f"; robust: {measured['attack']} on the model itself" if measured["attack"] else ""
        lines += ["", f"Measured on the first {measured['test_images']} test images{attack}."]
    tested = card["smoke_test"]
    if tested:
        sizes = " and ".join(map(str, tested["batch_sizes"]))
        lines += [
            "",
            "Loaded after the export in a new process, with plain TensorFlow (a .keras file with "
            f"this library's layers): {tested['compared']} outputs at batch sizes {sizes}, "
            f"{tested['same_bits']} of them with the bits of the model, compiled in the process "
            "that made them.",
        ]
        if any(entry["format"] in CONVERTED_FORMATS for entry in card["files"]):
            lines += ["", QUANTISED]
    return lines


def _signatures(name: str, card: dict[str, Any]) -> list[str]:
    if not card["signatures"]:
        return []
    lines = ["", "## Signatures", "", "| signature | arguments | gives |", "|---|---|---|"]
    for key, spec in card["signatures"].items():
        cells = [
            "<br>".join(f"`{k}` {v}" for k, v in spec[part].items())
            for part in ("inputs", "outputs")
        ]
        lines.append(f"| `{key}`: {MEANING[key]} | {' | '.join(cells)} |")
    text = USAGE.replace("NAME", name)
    if card["model"]["class_names"]:
        label = json.dumps(card["model"]["class_names"][-1], ensure_ascii=False)
        text = text.replace(
            '"class": 3}', f'"class": {card["model"]["classes"] - 1}, "label": {label}}}'
        )
    usage = [
        line
        for line in text.splitlines()
        if "serve_image_bytes" in card["signatures"] or "serve_image_bytes" not in line
    ]
    return [*lines, *usage]


def _inference(model: Any) -> dict[str, Any] | None:
    if not isinstance(model, ManifoldTransformation):
        return None
    gate = model.gate and list(model.gate)
    return {
        "kind": "imt+" if gate else "imt",
        "delta": model.delta,
        "gate": gate,
        "gated_delta": model.gated_delta if gate else None,
        "disc_input": model.disc_input,
    }


def _compute_dtype(model: Any) -> str:
    """Of its layers, the logits aside, which are float32."""
    found = {layer.compute_dtype for layer in compat.layers_of(model) if layer.weights}
    return "bfloat16 (logits in float32)" if "bfloat16" in found else " and ".join(sorted(found))
