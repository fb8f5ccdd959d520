"""Robust self-training: unlabelled images that a teacher has labelled."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from robust_tf import data, files, registration
from robust_tf.data.pipeline import to_unit_interval
from robust_tf.models import SplitClassifier
from robust_tf.training.warm_start import trained
from robust_tf.validation import plain_fields


@registration.configurable
@dataclasses.dataclass(frozen=True)
class PseudoLabels:
    """Mixes images labelled by a teacher into each training batch.

    The teacher is any network that `bin/train` made, in the released recipe one that was trained on
    the clean labelled images alone (`gin/standard_cifar10.gin`).

    Args:
      teacher: run folder or `.keras` file.
      source: name of a dataset whose training images are taken; or an `.npz` file with `images`
        (N, H, W, C), uint8, or float32 in [0, 1]; or None: the images held out for validation but
        for the first `keep_validation` of them. Labels that come with them are not used.
      fraction: of each batch, in (0, 1); 0.5 in the released recipe.
      keep_validation: see `source`.

    Source: Carmon et al. (2019), "Unlabeled data improves adversarial robustness", robust
    self-training, and its released program.
    """

    teacher: str
    source: str | None = None
    fraction: float = 0.5
    keep_validation: int = 5000

    def __post_init__(self) -> None:
        plain_fields(self)
        if not 0 < self.fraction < 1:
            raise ValueError(
                f"PseudoLabels(fraction={self.fraction!r}): must be in (0, 1); 0.5 mixes half and "
                "half, and without pseudo-labels leave train.extra out."
            )
        if self.keep_validation < 0:
            raise ValueError(
                f"PseudoLabels(keep_validation={self.keep_validation!r}): must be >= 0."
            )

    def __call__(self, dataset: data.Data, data_dir: str | None = None) -> data.Data:
        """`dataset` with these images in its training split.

        Raises:
          FileError, DataError: teacher or source cannot be read.
          ValueError: data that are not in memory; a teacher of other classes or images; no images
            left.
        """
        if not dataset.train.in_memory:
            raise ValueError(
                f"train.extra needs the images of {dataset.name} in memory, and they are read from "
                "disk: set data.in_memory = True, or leave out train.extra."
            )
        teacher = trained(self.teacher, "PseudoLabels.teacher")
        if teacher.num_classes != dataset.num_classes:
            raise ValueError(
                f"PseudoLabels: the teacher {self.teacher} tells {teacher.num_classes} classes, "
                f"{dataset.name} has {dataset.num_classes}. Train a teacher on {dataset.name}."
            )
        if tuple(teacher.image_shape) != dataset.image_shape:
            raise ValueError(
                f"PseudoLabels: the teacher {self.teacher} takes images {teacher.image_shape}, "
                f"{dataset.name} has {dataset.image_shape}."
            )
        images, dataset = self._images(dataset, data_dir)
        if not len(images) or tuple(images.shape[1:]) != dataset.image_shape:
            raise ValueError(
                f"PseudoLabels(source={self.source!r}): {len(images)} images of shape "
                f"{tuple(images.shape[1:])}; must be one or more of {dataset.image_shape}. Without "
                "a source they come from data.validation_size, beyond keep_validation."
            )
        extra = data.Split(images, _labels(teacher, images))
        mixed = data.MixedSplit.of(dataset.train, extra, self.fraction)
        return dataclasses.replace(dataset, train=mixed)

    def _images(self, dataset: data.Data, data_dir: str | None) -> tuple[np.ndarray, data.Data]:
        """The images to label, and the dataset without them."""
        if self.source is None:
            held_out, keep = dataset.validation, self.keep_validation
            dataset = dataclasses.replace(
                dataset, validation=held_out.take(keep), held_out=len(held_out)
            )
            return held_out.select(slice(keep, None)).images, dataset
        if not self.source.endswith(".npz"):
            other = data.load(self.source, data_dir=data_dir, validation_size=0, train_size=None)
            return other.train.images, dataset
        if not files.exists(self.source):
            raise files.FileError(f"PseudoLabels(source={self.source!r}): there is no such file.")
        with tf.io.gfile.GFile(self.source, "rb") as file, np.load(file) as arrays:
            if "images" not in arrays:
                raise ValueError(
                    f"{self.source}: holds {sorted(arrays)}; expected an array 'images' (N, H, W, "
                    "C), uint8, or float32 in [0, 1]."
                )
            return arrays["images"], dataset


def _labels(teacher: SplitClassifier, images: np.ndarray, batch: int = 500) -> np.ndarray:
    """The teacher's predictions, int32 (N,)."""
    predict = tf.function(
        lambda x: tf.argmax(teacher(x, training=False), axis=1, output_type=tf.int32),
        reduce_retracing=True,
    )
    parts = [images[first : first + batch] for first in range(0, len(images), batch)]
    return np.concatenate([predict(to_unit_interval(tf.constant(part))).numpy() for part in parts])
