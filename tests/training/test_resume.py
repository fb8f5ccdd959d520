"""A run that was stopped continues as if it never had been: all its metrics and weights."""

import functools
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest

from robust_tf import files, precision
from robust_tf.attacks import TRADESAttack
from robust_tf.cli import train
from robust_tf.methods import TRADES
from robust_tf.training import CheckpointError, RunFolderError, checkpoint_files, run_folder
from robust_tf.training.optimizers import SGD
from tests.tiny import tiny_network
from tests.training.runs import (
    Stopped,
    assert_same_run,
    digits,
    events,
    moons,
    points_recipe,
    recipe,
    rows,
    thirds,
    trainer,
)

# What was going on, and how often before, when the run stopped: 3 calls of the loop make an epoch.
MOMENTS = {
    "first epoch, before any checkpoint of it": ("advance", 1),
    "first epoch": ("advance", 3),
    "second epoch": ("advance", 5),
    "metrics written, not the checkpoint": ("close_epoch", 1),
    "best written, not the last": ("close_epoch", 2),
}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that was never stopped."""
    folder = tmp_path_factory.mktemp("straight")
    trainer(folder, recipe(), digits()).train()
    return folder


@pytest.mark.parametrize("moment", MOMENTS)
def test_continues_to_the_bit(moment, straight, stop_after, tmp_path):
    stop_after(*MOMENTS[moment])
    with pytest.raises(Stopped):
        trainer(tmp_path, recipe(), digits()).train()
    again = trainer(tmp_path, recipe(), digits())
    assert again.resumed and not again.finished
    summary = again.train()
    assert_same_run(straight, tmp_path)
    assert (
        summary["robust_accuracy"] == files.read_json(straight / "summary.json")["robust_accuracy"]
    )
    epochs = [row["epoch"] for row in rows(tmp_path)]
    assert epochs == [1, 2]


def test_batch_norm_nesterov_and_weight_decay_continue_too(stop_after, tmp_path):
    settings = {
        "network": lambda input_shape, num_classes: tiny_network(batch_norm=True, dropout=0.3),
        "method": functools.partial(TRADES, attack=TRADESAttack(0.1, 0.05, 1)),
        "optimizer": functools.partial(SGD, nesterov=True),
        "weight_decay": 1e-3,
        "epochs": 1,
    }
    trainer(tmp_path / "straight", recipe(**settings), thirds()).train()
    stop_after("advance", 2)
    with pytest.raises(Stopped):
        trainer(tmp_path / "stopped", recipe(**settings), thirds()).train()
    trainer(tmp_path / "stopped", recipe(**settings), thirds()).train()
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")


KILLED = """
import os, signal, sys
from robust_tf.training.reporting import Reporter
original, left = Reporter.advance, [int(sys.argv.pop(1))]
def advance(self, *args):
    original(self, *args)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
Reporter.advance = advance
from robust_tf.cli import train
sys.exit(train.main(sys.argv[1:]))
"""

TINY = [
    "CNN.filters=2",
    "CNN.hidden=8",
    "steps=1",
    "evaluation_steps=1",
    "validation/PGD.steps=1",
    "train.epochs=2",
    "train.batch_size=320",
    "train.eps_warmup_epochs=1.5",
    "train.steps_per_call=1",
    "train.checkpoint_minutes=0",
    "train.evaluation_examples=20",
    "train.compare_with=None",
    "train.evaluation_attacks=[@evaluation/PGD()]",
    "Augmentation.pad=2",
]


def words(folder):
    """Arguments of `train`."""
    own = [f"--run_dir={folder}", "--gin_file=gin/adr_digits.gin"]
    return own + [f"--gin_param={binding}" for binding in TINY]


def command(folder, advances=0):
    """`train` in a process of its own; killed after so many calls of the loop."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    return subprocess.run(
        [sys.executable, "-c", KILLED, str(advances), *words(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_killed_process_continues_to_the_bit(tmp_path, capsys):
    assert train.main(words(tmp_path / "straight")) == 0
    whole = capsys.readouterr().out
    killed = command(tmp_path / "killed", advances=6)  # in the second epoch of four steps
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed/summary.json").exists()
    rest = command(tmp_path / "killed")
    assert rest.returncode == 0, rest.stderr
    assert "continuing in epoch 2 of 2" in rest.stdout
    assert_same_run(tmp_path / "straight", tmp_path / "killed")
    assert whole.splitlines()[-3:-1] == rest.stdout.splitlines()[-3:-1]  # the table


def test_a_finished_run_only_reports(tmp_path):
    first = trainer(tmp_path, points_recipe(), moons())
    summary = first.train()
    before = {
        name: os.stat(tmp_path / name).st_mtime_ns for name in ("model.keras", "summary.json")
    }
    again = trainer(tmp_path, points_recipe(), moons())
    assert again.finished
    assert again.train() == summary
    assert before == {name: os.stat(tmp_path / name).st_mtime_ns for name in before}


def test_stopped_in_the_evaluation_evaluates(monkeypatch, tmp_path):
    from robust_tf import evaluation

    def stopped(*args, **kwargs):
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "evaluate", stopped)
        with pytest.raises(Stopped):
            trainer(tmp_path, points_recipe(), moons()).train()
    again = trainer(tmp_path, points_recipe(), moons())
    assert again.resumed and not again.finished
    trained = rows(tmp_path)
    again.train()
    assert rows(tmp_path) == trained
    assert (tmp_path / "summary.json").exists()


def test_another_configuration_needs_restart(tmp_path):
    trainer(tmp_path, points_recipe(), moons(), configuration="PGD.eps = 0.2\nsteps = 1").train()
    (tmp_path / "notes.txt").write_text("mine")
    other = {"configuration": "PGD.eps = 0.1\nsteps = 1"}
    with pytest.raises(RunFolderError, match=r"PGD.eps = 0.1.*PGD.eps = 0.2.*--restart") as error:
        trainer(tmp_path, points_recipe(), moons(), **other)
    assert "steps" not in str(error.value)
    with pytest.raises(RunFolderError, match="data moons"):
        trainer(
            tmp_path, points_recipe(), moons(train=95), configuration="PGD.eps = 0.2\nsteps = 1"
        )
    new = trainer(tmp_path, points_recipe(epochs=1), moons(), restart=True, **other)
    assert not new.resumed
    assert not (tmp_path / "summary.json").exists()
    new.train()
    assert len(rows(tmp_path)) == 1
    assert max(event.step for event in events(tmp_path)) == 6
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_restart_deletes_what_the_run_wrote_and_nothing_else(tmp_path):
    """A model of the user's own in the folder, and one in the place of what the new run saves."""
    identity = run_folder.identity(moons(), "")
    run_folder.prepare(tmp_path, identity, restart=False)
    files.write_json(tmp_path / "run.json", {"method": {"models": ["critic"]}})
    for name in ("model.keras", "best.keras", "critic.keras", "my.keras", ".0123abcd.critic.keras"):
        (tmp_path / name).write_text("a model")
    (tmp_path / "checkpoints" / "last").mkdir(parents=True)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(RunFolderError, match=r"holds my.keras, which the run there did not write"):
        run_folder.prepare(tmp_path, "other", restart=True, models=["critic", "my"])
    assert sorted(os.listdir(tmp_path)) == before
    run_folder.prepare(tmp_path, "other", restart=True, models=["critic"])
    assert sorted(os.listdir(tmp_path)) == ["identity.json", "my.keras"]
    assert files.read_json(tmp_path / "identity.json") == {"identity": "other"}


def test_restart_of_a_run_of_version_0_1(tmp_path):
    """Its folder has no run.json; ATLD was the method that saved a second model."""
    run_folder.prepare(tmp_path, "old", restart=False)
    for name in ("config.gin", "model.keras", "discriminator.keras", "my.keras"):
        (tmp_path / name).write_text("")
    run_folder.prepare(tmp_path, "new", restart=True, models=["discriminator"])
    assert sorted(os.listdir(tmp_path)) == ["identity.json", "my.keras"]


@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_that_is_no_run_is_left_alone(restart, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/precious").write_text("mine")
    with pytest.raises(RunFolderError, match="not the folder of a run"):
        trainer(tmp_path, points_recipe(), moons(), restart=restart)
    assert (tmp_path / "checkpoints/precious").read_text() == "mine"


def test_a_damaged_checkpoint_says_so(stop_after, tmp_path):
    stop_after("close_epoch", 1)
    with pytest.raises(Stopped):
        trainer(tmp_path, points_recipe(), moons()).train()
    for file in (tmp_path / "checkpoints/last").glob("*.data*"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="--restart"):
        trainer(tmp_path, points_recipe(), moons())


@pytest.mark.parametrize("part", ["index", "data*"])
def test_a_damaged_checkpoint_of_the_beginning_costs_nothing(part, stop_after, tmp_path):
    trainer(tmp_path / "whole", points_recipe(epochs=1), moons()).train()
    stop_after("advance", 1)
    with pytest.raises(Stopped):
        trainer(tmp_path / "run", points_recipe(epochs=1), moons()).train()
    own = tmp_path / "run/checkpoints/last"
    assert {path.stem for path in own.glob("ckpt*")} == {"ckpt-0"}
    for file in own.glob(f"*.{part}"):
        file.write_bytes(file.read_bytes()[:40])
    with pytest.warns(UserWarning, match="ckpt-0 is damaged .* begins, as nothing had been"):
        again = trainer(tmp_path / "run", points_recipe(epochs=1), moons())
    assert not again.resumed
    again.train()
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_later_checkpoint_is_never_given_up_for_the_beginning(stop_after, tmp_path):
    """Of the two, both damaged, the newer has what was learned: it may be put back."""
    stop_after("advance", 1)
    with pytest.raises(Stopped):
        trainer(tmp_path, points_recipe(epochs=1), moons()).train()
    own = tmp_path / "checkpoints/last"
    for file in own.glob("ckpt-0.*"):
        file.write_bytes(file.read_bytes()[:40])
        file.with_name(file.name.replace("ckpt-0", "ckpt-3")).write_bytes(file.read_bytes())
    (own / "checkpoint").unlink()  # the numbers tell the order
    before = sorted(os.listdir(own))
    with pytest.raises(CheckpointError, match="ckpt-0 cannot be read.* --restart"):
        trainer(tmp_path, points_recipe(epochs=1), moons())
    assert sorted(os.listdir(own)) == before


def test_a_save_that_fails_leaves_nothing(tmp_path):
    """As on a full disk, where TensorFlow leaves an index that is cut off."""
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-3"\n')
    for name in ("ckpt-3.index", "ckpt-7.index", "ckpt-7.data-00000-of-00001"):
        (tmp_path / name).write_text("")
    checkpoint_files.delete_unlisted(str(tmp_path), 3)
    checkpoint_files.delete_unlisted(str(tmp_path), 7)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint", "ckpt-3.index"]


def test_random_state_is_a_function_of_seed_and_step(tmp_path):
    one, two = (trainer(tmp_path / str(seed), points_recipe(seed=seed), moons()) for seed in (1, 2))
    one.train(), two.train()
    a, b = (run.model.network.get_weights() for run in (one, two))
    assert any(np.any(x != y) for x, y in zip(a, b, strict=True))


def test_a_run_keeps_the_precision_that_it_began_with(stop_after, monkeypatch, tmp_path):
    """Begun where bfloat16 is faster, continued where it is slower, and the other way round."""
    fast, slow = (precision.Measurement(1.0, other, "a processor") for other in (0.5, 16.0))
    settings = {"dtype_policy": "auto", "epochs": 1}
    for began, here, dtype in ((fast, slow, "bfloat16"), (slow, fast, "float32")):
        folder = tmp_path / dtype
        monkeypatch.setattr(precision, "measured", lambda found=began: found)
        stop_after("advance", 2)
        with pytest.raises(Stopped):
            trainer(folder, points_recipe(**settings), moons()).train()
        record = files.read_json(folder / "run.json")["precision"]
        assert record["asked"] == "auto" and record["chosen"] == dtype
        assert record["factor"] == began.bfloat16 and began.text == record["reason"]
        identity = (folder / "identity.json").read_text()
        monkeypatch.setattr(precision, "measured", lambda found=here: found)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", precision.PrecisionWarning)
            again = trainer(folder, points_recipe(**settings), moons())
        told = [str(one.message) for one in said if one.category is precision.PrecisionWarning]
        assert len(told) == (dtype == "bfloat16") and all("takes 16 times" in t for t in told)
        assert again.resumed and again.model.network.layers[0].compute_dtype == dtype
        summary = again.train()
        assert summary["precision"] == record
        assert files.read_json(folder / "run.json")["precision"] == record
        assert (folder / "identity.json").read_text() == identity
    new = trainer(folder, points_recipe(**settings), moons(), restart=True)
    assert new.precision.dtype == "bfloat16"  # a new run, on the device that is fast now
