"""Trained models as files for those who do not have this library, and proof that they are right."""

from robust_tf.export.conversion import FORMATS as FORMATS
from robust_tf.export.conversion import CalibrationData as CalibrationData
from robust_tf.export.smoke import SmokeTestError as SmokeTestError
from robust_tf.export.writer import check_free as check_free
from robust_tf.export.writer import export as export
