"""The model card of an export: `model_card.json`, and the same for readers, `README.md`."""

from __future__ import annotations

import os
from typing import Any

import keras
import tensorflow as tf

from robust_tf import compat, files
from robust_tf.export import readme, rest
from robust_tf.export.conversion import CONVERTED as CONVERTED_FORMATS
from robust_tf.export.conversion import CalibrationData
from robust_tf.export.provenance import weights_of
from robust_tf.export.signatures import Signatures
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
    files.write_text(os.path.join(folder, "README.md"), readme.text(name, card))
    if (card["training"] or {}).get("recipe"):
        files.write_text(os.path.join(folder, "config.gin"), card["training"]["recipe"])


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
