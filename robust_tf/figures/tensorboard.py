"""Features for TensorBoard's projector: vectors, what each of them is, and its picture."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from robust_tf import files
from robust_tf.data.labels import class_name
from robust_tf.figures.latent import Latent


def write_projector(
    folder: str | os.PathLike[str],
    latent: Latent,
    x: np.ndarray,
    class_names: Sequence[str] | None = None,
) -> None:
    """Writes a log folder that TensorBoard's projector shows.

    Args:
      folder: new or empty.
      latent: of n images; 2n vectors.
      x: the images (n, H, W, C), which stand for the adversarial ones, too; of points no pictures.
      class_names: by label; without them classes have their numbers.

    Raises:
      FileError: the folder is not empty, or cannot be written.
    """
    check_new(folder)
    folder = os.fspath(folder)
    rows = ["label\tpredicted\tkind\tentropy"]
    for n, label in enumerate(latent.labels):
        kind = (
            "fooling" if latent.fooling[n] else "adversarial" if latent.adversarial[n] else "clean"
        )
        pair = (class_name(k, class_names) for k in (label, latent.predictions[n]))
        true, predicted = (" ".join(name.split()) for name in pair)
        rows.append(f"{true}\t{predicted}\t{kind}\t{latent.entropy[n]:.4f}")
    config = [
        "embeddings {",
        '  tensor_name: "features"',
        '  tensor_path: "features.tsv"',
        '  metadata_path: "metadata.tsv"',
    ]
    if np.ndim(x) == 4:
        picture = sprite(np.concatenate([x, x]))
        with files.atomic(os.path.join(folder, "sprite.png")) as path:
            tf.io.write_file(path, tf.io.encode_png(picture))
        height, width = x.shape[1:3]
        config.append('  sprite { image_path: "sprite.png"')
        config.append(f"    single_image_dim: {width} single_image_dim: {height} }}")
    vectors = ["\t".join(f"{value:.5g}" for value in row) for row in latent.features]
    files.write_text(os.path.join(folder, "features.tsv"), "\n".join(vectors) + "\n")
    files.write_text(os.path.join(folder, "metadata.tsv"), "\n".join(rows) + "\n")
    files.write_text(os.path.join(folder, "projector_config.pbtxt"), "\n".join([*config, "}", ""]))


def check_new(folder: str | os.PathLike[str]) -> None:
    """Raises FileError unless the folder is new or empty."""
    folder = os.fspath(folder)
    if files.exists(folder) and (not files.is_folder(folder) or tf.io.gfile.listdir(folder)):
        raise files.FileError(f"{folder} is there and not empty; name a new folder.")


def sprite(x: np.ndarray) -> np.ndarray:
    """Images (n, H, W, C) as one, uint8, in a square of rows, filled up with white."""
    side = int(np.ceil(np.sqrt(len(x))))
    _, height, width, channels = x.shape
    canvas = np.ones((side * side, height, width, channels), np.float32)
    canvas[: len(x)] = x
    rows = canvas.reshape(side, side, height, width, channels).swapaxes(1, 2)
    picture = rows.reshape(side * height, side * width, channels)
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)
