"""Runs whose images are read when they are needed: stopped, shared by replicas, under a limit."""

import functools
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import data
from robust_tf.cli import train
from robust_tf.data import memory
from robust_tf.training import PseudoLabels, make_strategy
from robust_tf.training.distribution import distribute
from tests.data import pictures
from tests.training.runs import assert_same_run
from tests.training.test_resume import KILLED

RECIPE = """
data.source = @ImageFolder
ImageFolder.image_size = 18
ImageFolder.resize = 'crop'
Augmentation.pad = 2
Augmentation.flip = True
train.network = @CNN
CNN.filters = 2
CNN.hidden = 8
train.method = @AdversarialTraining
AdversarialTraining.attack = @PGD()
PGD.eps = 0.03
PGD.step_size = 0.02
PGD.steps = 1
train.epochs = 2
train.batch_size = 4
train.steps_per_call = 1
train.checkpoint_minutes = 0
train.validation_attack = @PGD()
train.evaluation_attacks = [@PGD()]
"""


def test_killed_while_reading_continues_to_the_bit(tmp_path):
    """And to what a run in memory gives."""
    pictures.two_classes(tmp_path / "photos", count=10, size=20, splits=("train", "val", "test"))
    recipe = pictures.write(tmp_path / "recipe.gin", RECIPE.encode())
    where = f"--gin_param=ImageFolder.directory={str(tmp_path / 'photos')!r}"

    def command(name, in_memory):
        option = f"--gin_param=data.in_memory={in_memory}"
        return [f"--gin_file={recipe}", where, f"--run_dir={tmp_path / name}", option]

    assert train.main(command("straight", True)) == 0
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, "8", *command("killed", False)],  # of 2 epochs of 5 steps
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed" / "summary.json").exists()
    assert train.main(command("killed", False)) == 0
    assert_same_run(tmp_path / "straight", tmp_path / "killed")


IMAGES = np.random.default_rng(3).integers(0, 256, (50, 4, 4, 3), np.uint8)
LABELS = np.arange(50) % 5


def _read():
    images = tf.constant(IMAGES)
    reader = data.Reader(lambda number: images[number], (4, 4, 3), np.uint8, str)
    return data.StreamedSplit(reader, LABELS)


def _sequential():
    return data.SequentialSplit(tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)))


@pytest.mark.parametrize("make", [_read, _sequential])
def test_replicas_get_the_halves_of_each_batch(make):
    strategy = make_strategy("mirrored")
    split = make()
    batches = functools.partial(
        data.batches, split, 16, seed=1, training=True, augmentation=data.Augmentation(1, True)
    )
    shared = list(distribute(strategy, batches, 16))
    assert len(shared) == 3
    for whole, parts in zip(batches(), shared, strict=True):
        images = tf.concat(strategy.experimental_local_results(parts[0]), 0)
        np.testing.assert_array_equal(images, whole[0])


def test_auto_goes_by_what_is_free(tmp_path, monkeypatch):
    pictures.two_classes(tmp_path, count=4)
    source = data.ImageFolder(str(tmp_path))
    size = 24 * 8 * 8 * 3
    for free, in_memory in ((4 * size, True), (4 * size - 1, False)):
        monkeypatch.setattr(memory, "free_memory", lambda free=free: free)
        assert data.load(source=source).train.in_memory == in_memory
    monkeypatch.undo()
    assert 0 < memory.free_memory() < 2**50


def test_limits_of_the_process_count(monkeypatch):
    resource = pytest.importorskip("resource")
    used = memory._numbers("/proc/self/status").get("VmSize:")
    if used is None:
        pytest.skip("no /proc here")
    limit = used * 1024 + 2**20
    monkeypatch.setattr(resource, "getrlimit", lambda what: (limit, resource.RLIM_INFINITY))
    assert memory.free_memory() <= 2**21


LIMITED = """
import resource
import numpy as np
import tensorflow as tf
from robust_tf import attacks, data, evaluate
from robust_tf.data import memory

COUNT, SHAPE = 50_000, (96, 96, 3)  # 1.38 GB


def read(number):
    return tf.fill(SHAPE, tf.cast(number * 7 % 256, tf.uint8))


labels = (np.arange(COUNT) * 7 % 256 > 127).astype(np.int32)
used = memory._numbers("/proc/self/status")["VmSize:"] * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 1_000_000_000, resource.RLIM_INFINITY))
reader = data.Reader(read, SHAPE, np.uint8, str, "generated", np.arange(COUNT, dtype=np.uint64))
split = data.StreamedSplit(reader, labels)
splits = {"train": split, "validation": split.take(9), "test": split.take(999)}
found = data.load(source=lambda: splits)
try:
    found.train.images
except data.DataError as error:
    print(error)
batches = data.epochs(found.train, 100, 1)
print(sum(int(((x[:, 0, 0, 0].numpy() > 0.5) == (y.numpy() == 1)).sum()) for x, y in batches))


def network(x):
    first = x[:, 0, 0, 0] - 127.5 / 255
    return tf.stack([-first, first], 1)


verdicts = evaluate(network, found.test, [attacks.FGSM(4 / 255)], batch_size=100, checks=False)
print(int(verdicts.natural.sum()), int(verdicts.worst_case.sum()))
"""


def test_more_pictures_than_memory():
    """An epoch of 50,000 is read, and some are attacked, where their array cannot be made."""
    pytest.importorskip("resource")
    if not os.path.exists("/proc/self/status"):
        pytest.skip("no /proc here")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "MALLOC_ARENA_MAX": "2",  # each reserves addresses, which the limit counts
    }
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    refused, trained, verdicts = done.stdout.splitlines()
    assert "50,000 images (96, 96, 3) take 1.4 GB, which are not free" in refused
    assert trained == "50000"
    first = np.arange(999) * 7 % 256
    robust = np.where(first > 127, first - 4 > 127.5, first + 4 < 127.5).sum()
    assert verdicts == f"999 {robust}"


def test_mixing_needs_memory():
    with pytest.raises(ValueError, match="data.in_memory = True"):
        data.MixedSplit.of(_read(), data.Split(IMAGES, LABELS), 0.5)
    own = data.Data("mine", _read(), *[data.Split(IMAGES, LABELS)] * 2, num_classes=5)
    with pytest.raises(ValueError, match="train.extra needs(.|\n)*data.in_memory = True"):
        PseudoLabels("no/such/teacher")(own)  # said before the teacher is looked for
