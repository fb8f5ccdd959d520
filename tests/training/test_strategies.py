"""Training on several replicas: two logical CPUs, and two processes that talk to each other."""

import functools
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import compat, data
from robust_tf.attacks import BIM, TRADESAttack
from robust_tf.methods import TRADES, AdversarialTraining
from robust_tf.training import SGD, make_strategy
from robust_tf.training.distribution import barrier, distribute, is_chief, is_lost
from tests.tiny import tiny_network
from tests.training.runs import (
    checkpoint,
    digits,
    model_weights,
    moons,
    points_recipe,
    recipe,
    rows,
    thirds,
    trainer,
)


@pytest.fixture
def two_replicas():
    """Synchronous training on the two logical CPUs of conftest.py."""
    return make_strategy("mirrored")


def without_chance(**changes):
    """Steps that do not depend on which replica an example is in."""
    method = functools.partial(AdversarialTraining, attack=BIM(0.02, 0.01, 2), clean_weight=0.5)
    settings = {"method": method, "optimizer": SGD, "validation_attack": BIM(0.02, 0.01, 2)}
    return points_recipe(**{**settings, **changes})


def test_two_replicas_are_one(two_replicas, tmp_path):
    # 25 validation points: the last batch of each replica has another size, one of them is odd.
    one = trainer(tmp_path / "one", without_chance(), moons())
    two = trainer(tmp_path / "two", without_chance(), moons(), strategy=two_replicas)
    one.train(), two.train()
    for a, b in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    for a, b in zip(model_weights(tmp_path / "one"), model_weights(tmp_path / "two"), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_checkpoints_move_between_strategies(two_replicas, tmp_path):
    first = trainer(tmp_path, without_chance(epochs=1), moons(), strategy=two_replicas)
    first.train()
    again = trainer(tmp_path, without_chance(epochs=1), moons())
    assert again.resumed
    for a, b in zip(
        first.model.network.get_weights(), again.model.network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("validation", [1, 2, 7])
def test_validation_of_few_images_counts_each_once(two_replicas, validation, tmp_path):
    some = moons(validation=validation)
    run = trainer(tmp_path, without_chance(epochs=1), some, strategy=two_replicas)
    run.train()
    (row,) = rows(tmp_path)
    logits = run.model.network(some.validation.images)
    right = np.argmax(logits, 1) == some.validation.labels
    assert row["val_natural_accuracy"] == pytest.approx(right.mean())
    assert row["val_robust_accuracy"] <= row["val_natural_accuracy"]


def test_batch_norm_and_dropout_on_two_replicas(two_replicas, tmp_path):
    settings = {
        "network": lambda input_shape, num_classes: tiny_network(batch_norm=True, dropout=0.3),
        "method": functools.partial(TRADES, attack=TRADESAttack(0.1, 0.05, 1)),
        "epochs": 1,
    }
    run = trainer(tmp_path, recipe(**settings), thirds(), strategy=two_replicas)
    summary = run.train()
    assert 0 <= summary["worst_case"] <= summary["natural_accuracy"] <= 1
    # What was evaluated and saved is what was trained, statistics averaged over replicas.
    for a, b in zip(model_weights(tmp_path), run.model.network.variables, strict=True):
        np.testing.assert_array_equal(a, tf.convert_to_tensor(compat.raw(b)))


def test_adr_on_two_replicas_continues(two_replicas, tmp_path):
    arguments = {"strategy": two_replicas}
    straight = trainer(tmp_path / "straight", recipe(epochs=1), digits(), **arguments)
    straight.train()
    stopped = trainer(tmp_path / "stopped", recipe(epochs=1), digits(), **arguments)
    stopped.checkpoints.save_last()
    stopped.loop.train(iter(stopped.batches.of(0, 0)), tf.constant(4))
    stopped.progress.step_in_epoch.assign(4)
    stopped.checkpoints.save_last()
    trainer(tmp_path / "stopped", recipe(epochs=1), digits(), **arguments).train()
    one, other = model_weights(tmp_path / "straight"), model_weights(tmp_path / "stopped")
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    # The sums of both replicas come back from a checkpoint as halves of their total.
    for a, b in zip(rows(tmp_path / "straight"), rows(tmp_path / "stopped"), strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def test_batch_that_cannot_be_shared_is_refused_before_anything(two_replicas, tmp_path):
    with pytest.raises(ValueError, match=r"batch_size=15 cannot be shared by 2 replicas.* 16"):
        trainer(tmp_path / "run", points_recipe(batch_size=15), moons(), strategy=two_replicas)
    assert not (tmp_path / "run").exists()


def test_replicas_get_the_halves_of_each_batch(two_replicas):
    split = moons().train
    make = functools.partial(data.batches, split, 16, seed=1, training=True)
    shared = distribute(two_replicas, make, 16)
    for whole, parts in zip(make(), shared, strict=True):
        images = tf.concat(two_replicas.experimental_local_results(parts[0]), 0)
        np.testing.assert_array_equal(images, whole[0])
        first = two_replicas.experimental_local_results(parts[1])[0]
        np.testing.assert_array_equal(first, whole[1][:8])


def test_which_errors_say_that_a_worker_is_gone():
    """A worker that does not hear of the first one any more runs into a deadline."""
    gone = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError)
    assert all(is_lost(error(None, None, "")) for error in gone)
    assert is_lost(tf.errors.InternalError(None, None, "Collective ops is aborted by: x"))
    assert not is_lost(tf.errors.InternalError(None, None, "x"))


def test_strategies_by_name(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert make_strategy("none") is tf.distribute.get_strategy()
    assert make_strategy("mirrored").num_replicas_in_sync == 2  # the two logical CPUs
    with pytest.raises(ValueError, match="TF_CONFIG"):
        make_strategy("multi_worker")
    with pytest.raises(ValueError, match="'mirored'.*mirrored"):
        make_strategy("mirored")
    with pytest.raises(ValueError, match=r"wait_minutes=-1\): must be a finite number > 0"):
        make_strategy("none", wait_minutes=-1)
    for name in ("none", "mirrored"):
        strategy = make_strategy(name)
        assert is_chief(strategy)
        barrier(strategy)


WORKER = """
import functools, os, sys
from robust_tf.training import make_strategy
strategy = make_strategy(sys.argv[2])  # before anything touches TensorFlow
from tests.training.runs import recipe, thirds, trainer
from tests.training.test_strategies import worker_recipe
run = trainer(sys.argv[1], worker_recipe(), thirds(), strategy=strategy)
stop = int(sys.argv[3])
if stop:
    from robust_tf.training.reporting import Reporter
    def advance(self, *args, original=Reporter.advance, left=[stop]):
        left[0] -= 1
        if not left[0]:
            os._exit(9)
    Reporter.advance = advance
summary = run.train()
print("chief" if run.chief else "worker", run.resumed, summary["natural_accuracy"])
"""


def worker_recipe():
    """With statistics and dropout, which are spread over the workers."""
    return recipe(
        network=lambda input_shape, num_classes: tiny_network(batch_norm=True, dropout=0.3),
        method=functools.partial(TRADES, attack=TRADESAttack(0.1, 0.05, 1)),
        learning_rate=0.05,
    )


def start_workers(folder, stop=0):
    """Two processes on this machine; their exit statuses and outputs."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    workers = []
    for index in range(2):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "TF_CONFIG": json.dumps(
                {"cluster": cluster, "task": {"type": "worker", "index": index}}
            ),
        }
        command = [sys.executable, "-c", WORKER, str(folder), "auto", str(stop)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        workers.append(subprocess.Popen(command, env=environment, **streams))
    try:
        outputs = [worker.communicate(timeout=400) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return [(w.returncode, *output) for w, output in zip(workers, outputs, strict=True)]


@pytest.mark.slow
def test_two_workers_train_stop_and_continue_as_two_replicas_do(two_replicas, tmp_path):
    straight = start_workers(tmp_path / "straight")
    assert [status for status, *_ in straight] == [0, 0], straight
    assert straight[0][1].splitlines()[-1].startswith("chief False")
    assert straight[1][1].splitlines()[-1].startswith("worker False")
    assert "epoch" not in straight[1][1]  # only the chief reports
    assert not [
        f for f in os.listdir(tmp_path / "straight/checkpoints") if f not in ("last", "best")
    ]

    assert [status for status, *_ in start_workers(tmp_path / "stopped", stop=4)] == [9, 9]
    rest = start_workers(tmp_path / "stopped")
    assert [status for status, *_ in rest] == [0, 0], rest
    assert all(" True " in output for _, output, _ in rest)
    # Not to the bit: a checkpoint holds one mean where each replica had statistics of its own.
    assert_close(tmp_path / "straight", tmp_path / "stopped", 2e-2)

    again = start_workers(tmp_path / "stopped")
    assert [status for status, *_ in again] == [0, 0], again

    # Replicas of one process: the same shares, seeds and statistics.
    trainer(tmp_path / "mirrored", worker_recipe(), thirds(), strategy=two_replicas).train()
    assert_close(tmp_path / "straight", tmp_path / "mirrored", 1e-4)


def assert_close(one, other, tolerance):
    """Metrics and final network of two runs."""
    for a, b in zip(rows(one), rows(other), strict=True):
        assert a == pytest.approx(b, abs=tolerance)
    first, second = checkpoint(one, "last"), checkpoint(other, "last")
    for name, value in first.items():
        if name.startswith("network"):
            np.testing.assert_allclose(value, second[name], atol=tolerance, err_msg=name)
