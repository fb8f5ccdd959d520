"""SIGTERM and SIGINT to a process that trains: it saves, ends, and continues to the same bits."""

import functools
import os
import signal
import socket
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import stopping
from robust_tf.attacks import BIM
from robust_tf.cli import train
from robust_tf.methods import AdversarialTraining
from robust_tf.training import SGD, waiting
from robust_tf.training.loop import Loop
from robust_tf.training.moments import Moment, Moments, _Votes
from robust_tf.training.reporting import Reporter
from tests.training.runs import (
    assert_same_run,
    checkpoint,
    moons,
    points_recipe,
    trainer,
)

# No checkpoint inside an epoch but that of the signal; 6 steps and 3 calls of the loop an epoch.
RARELY = {"checkpoint_minutes": 9.0}


@pytest.fixture
def signal_at(monkeypatch):
    """Sends this process a signal at the nth call of a method."""

    def arrange(owner, method, call, number=signal.SIGTERM):
        original, count = getattr(owner, method), iter(range(1, 10**6))

        def signalling(self, *args, **kwargs):
            if next(count) == call:
                os.kill(os.getpid(), number)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(owner, method, signalling)

    return arrange


MOMENTS = [
    (Reporter, "advance", 1, signal.SIGTERM, "in epoch 1 after 2 of its 6 steps"),
    (Reporter, "advance", 2, signal.SIGINT, "in epoch 1 after 6 of its 6 steps"),  # not validated
    (Loop, "test", 1, signal.SIGTERM, "after epoch 1 of 2"),
    (Loop, "test", 1, signal.SIGTERM, "after epoch 2 of 2"),  # not evaluated
]


def stopped(run, where, patch):
    """What a signal ends the training with."""
    with pytest.raises(stopping.Stopped, match=where) as error:
        run.train()
    patch.undo()
    return error.value


def test_a_run_stopped_again_and_again_has_the_same_bits(signal_at, monkeypatch, tmp_path):
    trainer(tmp_path / "straight", points_recipe(**RARELY), moons()).train()
    folder = tmp_path / "stopped"
    for owner, method, call, number, where in MOMENTS:
        signal_at(owner, method, call, number)
        error = stopped(trainer(folder, points_recipe(**RARELY), moons()), where, monkeypatch)
        assert error.status == 128 + number
        assert f"{folder}; the same command continues" in str(error)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    rest = trainer(folder, points_recipe(**RARELY), moons())
    assert rest.resumed and not rest.finished
    rest.train()
    assert_same_run(tmp_path / "straight", folder)


TINY = [
    "CNN.filters=2",
    "CNN.hidden=8",
    "steps=1",
    "validation/PGD.steps=1",
    "train.epochs=1",
    "train.batch_size=320",
    "train.steps_per_call=1",
    "train.compare_with=[@Standard]",
    "train.evaluation_attacks={}",
    "train.validation_attack=None",
    "train.evaluation_examples=20",
]


def test_a_command_of_several_trainings_obeys_too(signal_at, monkeypatch, capfd, tmp_path):
    """Two seeds with a comparison each, four trainings of four calls: a signal in the third."""
    words = ["--gin_file=gin/standard_digits.gin", f"--run_dir={tmp_path}", "--seeds=0,1"]
    words += [f"--gin_param={binding}" for binding in TINY]
    signal_at(Reporter, "advance", 10)
    assert train.main(words) == 143
    monkeypatch.undo()
    said = capfd.readouterr().err.splitlines()
    assert "SIGTERM: saving after the current steps; a second signal ends at once." in said
    assert said[-1] == (
        f"SIGTERM: saved in epoch 1 after 2 of its 4 steps in {tmp_path}/seed-1; the same command "
        "continues."
    )
    assert train.main(words) == 0
    out = capfd.readouterr().out
    assert out.count("finished earlier in") == 2 and "continuing in epoch 1 of 1" in out


def test_a_worker_that_waits_is_stopped_or_gives_up(monkeypatch, capfd, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as other:
        ports = [server.getsockname()[1] for server in (one, other)]
    monkeypatch.setenv(
        "TF_CONFIG",
        f'{{"cluster": {{"worker": ["127.0.0.1:{ports[0]}", "127.0.0.1:{ports[1]}"]}}, '
        '"task": {"type": "worker", "index": 1}}',
    )
    words = ["--strategy=multi_worker", f"--run_dir={tmp_path}/run", "--wait_minutes=0.01"]
    assert train.main(words) == train.GONE
    said = capfd.readouterr().err
    assert said.startswith(f"error: 127.0.0.1:{ports[1]} has waited 0.01 minutes for 127.0.0.1:")
    assert f":{ports[0]} (connection refused)" in said and said.count("\n") == 1
    refusal = waiting._refusal
    for number in (signal.SIGINT, signal.SIGTERM):
        signals = [threading.Timer(0.1, os.kill, [os.getpid(), number])]

        def look(address, signals=signals):  # only now its handler is there, on any machine
            if signals:
                signals.pop().start()
            return refusal(address)

        monkeypatch.setattr(waiting, "_refusal", look)
        assert train.main(words[:2]) == 128 + number
        assert capfd.readouterr().err == f"ended by {number.name}\n"
    assert not (tmp_path / "run").exists()


def without_chance(**changes):
    """Steps that do not depend on which replica an example is in."""
    method = functools.partial(AdversarialTraining, attack=BIM(0.02, 0.01, 2), clean_weight=0.5)
    settings = {"method": method, "optimizer": SGD, "validation_attack": None, **RARELY}
    return points_recipe(**{**settings, **changes})


def images(run, epoch, done):
    """The global batches that a run trains on from there, put together again."""
    parts = run.strategy.experimental_local_results
    batches = run.batches.of(epoch, done)
    return [tf.concat(parts(x), 0).numpy() for x, _ in batches]


def test_goes_on_with_another_number_of_replicas(two_replicas, signal_at, monkeypatch, tmp_path):
    """In the middle of an epoch: the same images in each batch, and weights but for rounding."""
    two, folder = {"strategy": two_replicas}, tmp_path / "stopped"
    straight = trainer(tmp_path / "straight", without_chance(epochs=1), moons())
    whole = images(straight, 0, 0)
    assert len(whole) == 6
    straight.train()
    for done, strategy in [(2, two), (4, {})]:
        signal_at(Reporter, "advance", 1)
        run = trainer(folder, without_chance(epochs=1), moons(), **strategy)
        stopped(run, f"{done} of its 6 steps", monkeypatch)
    rest = trainer(folder, without_chance(epochs=1), moons(), **two)
    assert rest.resumed
    for a, b in zip(whole[4:], images(rest, 0, 4), strict=True):
        np.testing.assert_array_equal(a, b)
    rest.train()
    one, other = (checkpoint(tmp_path / name, "last") for name in ("straight", "stopped"))
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], atol=1e-5, err_msg=name)


def test_one_process_saves_by_its_clock(monkeypatch):
    now = iter([0.0, 61.0, 61.0, 80.0])
    moments = Moments(tf.distribute.get_strategy(), 1.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(now) + moments._saved)
    assert not moments.look().save
    assert moments.look() == (True, None)
    assert moments.lap() == 61.0


def test_a_vote_says_what_the_chief_and_any_worker_want(two_replicas, monkeypatch):
    """One worker of two replicas, which both speak for it, is the chief."""
    votes = _Votes(two_replicas)
    for mine in (Moment(True, None), Moment(False, signal.SIGINT), Moment(True, signal.SIGTERM)):
        moment, calls = votes.ask(mine)
        assert moment == mine and 1 <= calls <= 100
    votes._last, votes._calls, now = 0.0, 3, iter([0.25, 10.25])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    assert votes.ask(mine)[1] == 12  # a quarter of a second for three calls
    assert votes.ask(mine)[1] == 1  # ten seconds for twelve
    votes._chief = False
    monkeypatch.undo()
    assert votes.ask(Moment(True, signal.SIGTERM)) == (Moment(False, signal.SIGTERM), 1)
