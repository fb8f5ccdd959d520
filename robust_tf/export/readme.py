"""The model card of an export as `README.md`, for readers."""

from __future__ import annotations

import html
import json
from typing import Any

from robust_tf import modules
from robust_tf.export.conversion import CONVERTED as CONVERTED_FORMATS
from robust_tf.export.provenance import percent, results_text, weights_text
from robust_tf.export.signatures import MEANING
from robust_tf.export.smoke import ONNX_TOLERANCE

QUANTISED = (
    "TFLite and ONNX files are models of their own by their rounding: they were compared with "
    f"themselves in the first process, ONNX also with the float32 model, to {ONNX_TOLERANCE:g} of "
    "the largest logit."
)
SHOWN = 20  # classes that are named without being asked for
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


def _radii(about: dict[str, Any]) -> str | None:
    """'0.3', of balls that are not L-inf alone with their norms."""
    balls = about.get("balls") or []
    if len(balls) > 1 or any(norm != "Linf" for norm, _ in balls):
        return ", ".join(f"{norm} {eps:g}" for norm, eps in balls)
    eps = about["eps"]
    return f"{eps:g}" if eps else None


def _training(about: dict[str, Any] | None, defended: bool) -> list[str]:
    if not about:
        return ["", "Nothing is known of its training."]
    data = about["data"]
    sizes = [f"{data[k]:,} {k}" for k in ("train", "validation", "test") if k in data]
    rows = [
        ("method", about["method"]),
        ("data", f"{data.get('name', 'unknown')} ({', '.join(sizes)} images)"),
        ("fingerprint of the data", data.get("fingerprint")),
        ("eps of the recipe, in units of [0, 1]", _radii(about)),
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
