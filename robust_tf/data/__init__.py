"""Datasets, and the `tf.data` pipelines that read them; for any TensorFlow program."""

from robust_tf.data.arrays import Arrays as Arrays
from robust_tf.data.augment import Augmentation as Augmentation
from robust_tf.data.augment import Cutout as Cutout
from robust_tf.data.augment import uniform as uniform
from robust_tf.data.catalog import NAMES as NAMES
from robust_tf.data.dataset import Data as Data
from robust_tf.data.drawing import draw_order as draw_order
from robust_tf.data.errors import DataError as DataError
from robust_tf.data.errors import DataNote as DataNote
from robust_tf.data.image_folder import ImageFolder as ImageFolder
from robust_tf.data.image_table import ImageTable as ImageTable
from robust_tf.data.loading import load as load
from robust_tf.data.mixed import MixedSplit as MixedSplit
from robust_tf.data.mixing import CutMix as CutMix
from robust_tf.data.mixing import Mixup as Mixup
from robust_tf.data.parts import Parts as Parts
from robust_tf.data.pipeline import batches as batches
from robust_tf.data.pipeline import epochs as epochs
from robust_tf.data.pipeline import steps_per_epoch as steps_per_epoch
from robust_tf.data.recorded import load_recorded as load_recorded
from robust_tf.data.recorded import open_dataset as open_dataset
from robust_tf.data.sequential import SequentialSplit as SequentialSplit
from robust_tf.data.splits import Reader as Reader
from robust_tf.data.splits import Split as Split
from robust_tf.data.splits import StreamedSplit as StreamedSplit
from robust_tf.data.tfds_source import TFDS as TFDS
