"""`Data`: what to train on, what to choose by, what to report on."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from robust_tf.data.augment import Augmentation
from robust_tf.data.augmenting import as_augmentations
from robust_tf.data.sequential import SequentialSplit
from robust_tf.data.splits import Split, digest
from robust_tf.data.streamed import check


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """A dataset: what to train on, what to choose by, what to report on.

    Attributes:
      name: Its name in the catalogue.
      train: Training split, without the validation examples.
      validation: Held out from the training set; may be empty.
      test: Test split, whole and in its original order.
      num_classes: Number of classes C; labels are 0 .. C - 1.
      augmentation: What training does to the images of this dataset, one or a list of them.
      seed: By which the validation examples were chosen.
      held_out: How many were, if not all of them are in `validation`.
      class_names: By label, where they are known.
      description: Where it comes from and what became of its images, JSON-ready, for the run.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    num_classes: int
    augmentation: Any = Augmentation()
    seed: int = 0
    held_out: int | None = None
    class_names: tuple[str, ...] | None = None
    description: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(
                f"{self.name}: {len(self.class_names)} class_names for {self.num_classes} classes; "
                "give one for each, in the order of the labels, or None."
            )
        as_augmentations(self.augmentation)
        for which in ("train", "validation", "test"):
            labels = getattr(self, which).labels
            if len(labels) and not 0 <= labels.min() <= labels.max() < self.num_classes:
                raise ValueError(
                    f"{self.name}: labels of {which} span {labels.min()} .. {labels.max()}; with "
                    f"{self.num_classes} classes they must be 0 .. {self.num_classes - 1}."
                )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one example, (H, W, C), or (D,) for points."""
        return self.train.image_shape

    def fingerprint(self) -> str:
        """16 hex digits of SHA-256 over all pixels and labels, split by split."""
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> str:
        # Of a `tf.data.Dataset` the order of training depends on whether it is in memory.
        streamed = isinstance(self.train, SequentialSplit)
        found = digest(self.train, self.validation, self.test)
        return f"{found}, streamed" if streamed else found

    def check(self) -> None:
        """Reads every image that is not in memory once.

        Raises:
          DataError: lists every one that cannot be read.
        """
        check((self.train, self.validation, self.test))
