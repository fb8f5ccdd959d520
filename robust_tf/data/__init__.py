"""Datasets, and the `tf.data` pipelines that read them; for any TensorFlow program."""

from robust_tf.data.augment import Augmentation as Augmentation
from robust_tf.data.catalog import NAMES as NAMES
from robust_tf.data.catalog import Data as Data
from robust_tf.data.catalog import Split as Split
from robust_tf.data.catalog import load as load
from robust_tf.data.mixed import MixedSplit as MixedSplit
from robust_tf.data.pipeline import batches as batches
from robust_tf.data.pipeline import epochs as epochs
from robust_tf.data.pipeline import steps_per_epoch as steps_per_epoch
from robust_tf.data.prepared import DataError as DataError
