"""Two logical CPUs, quiet logs, and global settings put back after every test."""

import gc
import os
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes that share the cores
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import gin  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402

from robust_tf import precision  # noqa: E402
from tests import tiny  # noqa: E402

tf.get_logger().setLevel("ERROR")

# Before anything makes a tensor: the devices of a started TensorFlow cannot be changed.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


# A shell's background job ignores SIGINT, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session):
    """Tracing makes many objects: to look for cycles among all took a sixth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 10)


def pytest_runtest_teardown(item, nextitem):
    """The graphs of a file's tests go with it."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()


@pytest.fixture(autouse=True)
def global_settings():
    """Each test starts from float32, without gin bindings, with weights drawn from one seed."""
    keras.utils.set_random_seed(0)
    yield
    keras.mixed_precision.set_global_policy("float32")
    gin.clear_config()


@pytest.fixture(autouse=True, scope="session")
def precision_is_not_measured():
    """On every machine the tests take `auto` for float32, and nothing is timed."""
    same = precision.Measurement(float32=1.0, bfloat16=1.0, device="no device")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "measured", lambda: same)
        yield


@pytest.fixture
def mixed_bfloat16():
    """The dtype policy of trainings on recent processors."""
    keras.mixed_precision.set_global_policy("mixed_bfloat16")


@pytest.fixture
def two_replicas():
    """A strategy of two logical CPUs."""
    return tiny.two_replicas()


@pytest.fixture
def rng():
    """Numbers that are the same in every run."""
    return np.random.default_rng(0)
