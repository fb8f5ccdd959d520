"""`TFDS`: a dataset that TensorFlow Datasets has prepared."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf import registration
from robust_tf.data import prepared
from robust_tf.data.errors import DataError
from robust_tf.data.labels import gaps
from robust_tf.data.parts import Parts
from robust_tf.data.picture_files import Format
from robust_tf.data.pictures import fit
from robust_tf.data.streamed import Reader, StreamedSplit, pipeline_options
from robust_tf.data.tfds_records import ArrayRecords, TFRecords, records_of


@registration.configurable
@dataclasses.dataclass(frozen=True)
class TFDS:
    """A prepared dataset of TensorFlow Datasets with an image and a label, a user's own among them.

    It is read where it lies, by position in its TFRecord or array_record files; nothing is
    downloaded.

    Args:
      name: as tfds has it: 'NAME', 'NAME/CONFIG' or 'NAME/CONFIG:VERSION'.
      train, validation, test: splits, also in tfds' slicing syntax, 'train[:80%]'; validation and
        test None: there are none, they are taken from the training images.
      image, label: names of the features.
      image_size, resize: as of `ImageFolder`; None: the images' own size.

    Raises:
      ValueError: a value outside its range.
    """

    name: str
    train: str = "train"
    validation: str | None = None
    test: str | None = "test"
    image: str = "image"
    label: str = "label"
    image_size: int | tuple[int, int] | None = None
    resize: str = "pad"

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.image_size == "auto":
            raise ValueError(
                "TFDS(image_size='auto'): must be a number of pixels, (height, width), or None."
            )
        self._format()

    def _format(self) -> Format:
        return Format("TFDS", self.image_size, self.resize, None)

    def read(self, data_dir: str | None = None) -> Parts:
        """Opens the dataset and reads all labels.

        Args:
          data_dir: folder of prepared datasets; None: `TFDS_DATA_DIR`, else
            `~/tensorflow_datasets`.

        Raises:
          DataError: it is not there, has no such split or feature, or cannot be read.
        """
        builder = prepared.open_builder(self.name, data_dir)
        features = builder.info.features
        for feature in (self.image, self.label):
            if feature not in features:
                known = ", ".join(sorted(features))
                raise DataError(
                    f"{self.name} has no feature {feature!r}; it has {known}. Name them: "
                    "TFDS.image = ..., TFDS.label = ..."
                )
        shape = self._shape(features[self.image].shape)
        splits = {
            which: self._split(builder, split, shape)
            for which, split in (
                ("train", self.train),
                ("validation", self.validation),
                ("test", self.test),
            )
            if split is not None
        }
        labels = np.concatenate([split.labels for split in splits.values()])
        told = getattr(features[self.label], "names", None) or ()
        count = len(told) or int(labels.max()) + 1
        description: dict[str, Any] = {"version": str(builder.info.version)}
        if self.image_size is not None:
            description |= {"image_size": list(shape[:2]), "resize": self.resize}
        return Parts(
            self.name,
            splits["train"],
            splits.get("validation"),
            splits.get("test"),
            count,
            prepared.names_of(features[self.label]),
            description,
            gaps(labels, count),
        )

    def _shape(self, shape: tuple[int | None, ...]) -> tuple[int, ...]:
        """Of an image as it is to be."""
        size = self._format().image_size
        if len(shape) == 3 and size is not None:
            shape = (*size, shape[2])
        if None in shape:
            raise DataError(
                f"the images of {self.name} have the shape {shape}, not all the same: say which "
                "size they are to become, TFDS.image_size = (64, 64)."
            )
        return tuple(int(side) for side in shape if side is not None)

    def _split(self, builder: Any, split: str, shape: tuple[int, ...]) -> StreamedSplit:
        try:
            info = builder.info.splits[split]
            records = records_of(info.file_instructions, prepared.file_format(builder))
        except (KeyError, ValueError, tf.errors.OpError, OSError) as error:
            known = ", ".join(builder.info.splits)
            raise DataError(
                f"{self.name} has no split {split!r} that can be read ({type(error).__name__}: "
                f"{error}); it has {known}."
            ) from error
        dtype = np.dtype(builder.info.features[self.image].np_dtype)
        if dtype not in (np.uint8, np.float32):
            raise DataError(f"the images of {self.name} are {dtype}; must be uint8 or float32.")
        feature = builder.info.features
        size = self._format().image_size

        def read(number: tf.Tensor) -> tf.Tensor:
            record = tf.numpy_function(records.at, [number], tf.string, stateful=False)
            image = feature.deserialize_example(tf.ensure_shape(record, []))[self.image]
            return image if size is None else fit(image, size, self.resize)

        labels, keys = self._look(feature, records)
        about = f"{self.name}{builder.info.version}{split}{size}{self.resize}"
        digest = hashlib.sha256(about.encode())
        digest.update(keys.data)
        return StreamedSplit(
            Reader(
                read,
                shape,
                dtype,
                lambda number: f"{self.name}, {split}, example {number}",
                digest.hexdigest()[:16],
                keys,
            ),
            labels,
        )

    def _look(
        self, features: Any, records: TFRecords | ArrayRecords
    ) -> tuple[np.ndarray, np.ndarray]:
        """Labels of all records, and what is equal where they are."""
        import tensorflow_datasets as tfds

        def label(record: tf.Tensor) -> tf.Tensor:
            skip = {self.image: tfds.decode.SkipDecoding()}
            found = features.deserialize_example(record, decoders=skip)
            image = found[self.image]
            text = image if image.dtype == tf.string else tf.io.serialize_tensor(image)
            return tf.cast(found[self.label], tf.int64), tf.strings.to_hash_bucket_fast(text, 2**62)

        with tf.init_scope():
            found = records.in_order().map(label, num_parallel_calls=4, deterministic=True)
            found = found.batch(4096).with_options(pipeline_options())
        try:
            pairs = [(labels.numpy(), keys.numpy()) for labels, keys in found]
        except tf.errors.OpError as error:
            raise DataError(f"{self.name} cannot be read: {error.message}") from error
        if not pairs:
            raise DataError(f"{self.name}: a split is empty.")
        labels, keys = (np.concatenate(part) for part in zip(*pairs, strict=True))
        return labels.astype(np.int32), keys.astype(np.uint64)
