"""The trainer: equal to `fit`, stops at what is not a number, reports, writes anywhere."""

import functools
import io
import json
import os
import resource
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import compat, data, files
from robust_tf.attacks import PGD
from robust_tf.methods import ADR, Standard
from robust_tf.training import (
    Adam,
    CheckpointError,
    EpochSchedule,
    NonFiniteLossError,
    RunFolderError,
    cosine,
    piecewise,
)
from robust_tf.training.loop import Loop
from robust_tf.training.reporting import Reporter
from tests.training.runs import (
    NO_STRATEGY,
    digits,
    events,
    model_weights,
    moons,
    points_recipe,
    recipe,
    rows,
    trainer,
)


def test_fit_is_the_trainer():
    some, what = digits(), recipe(weight_decay=1e-3)
    by_fit, by_loop = (what.build(some, NO_STRATEGY) for _ in range(2))
    loop = Loop(by_loop, NO_STRATEGY)
    make = functools.partial(
        data.batches, some.train, what.batch_size, seed=what.seed, training=True
    )
    for epoch in range(2):
        batches = make(epoch=epoch, augmentation=some.augmentation)
        history = by_fit.fit(batches, epochs=epoch + 1, initial_epoch=epoch, verbose=0).history
        loop.reset()
        loop.train(iter(batches), tf.constant(4))
        good, finite = loop.train(
            iter(make(epoch=epoch, skip=4, augmentation=some.augmentation)), 2
        )
        assert int(good) == 2 and all(finite.numpy())
        metrics = loop.train_metrics()
        assert {name: values[0] for name, values in history.items()} == pytest.approx(
            metrics, rel=1e-6
        )
    assert loop.steps_done() == 12
    for a, b in zip(by_fit.weights, by_loop.weights, strict=True):
        np.testing.assert_array_equal(compat.raw(a), compat.raw(b), err_msg=a.name)


class Exploding(ADR):
    """ADR whose entropy overflows from its fourth step on."""

    def terms(self, batch):
        terms = super().terms(batch)
        grown = tf.where(self.optimizer.iterations >= 3, float("inf"), 1.0)
        return {**terms, "entropy": lambda: grown * (1 + terms["entropy"]())}


def test_non_finite_loss_names_term_step_and_last_good_checkpoint(tmp_path):
    method = functools.partial(Exploding, attack=PGD(0.02, 0.01, 1))
    run = trainer(tmp_path, points_recipe(method=method, steps_per_call=3), moons())
    with pytest.raises(NonFiniteLossError) as error:
        run.train()
    message = str(error.value)
    assert "non-finite loss at step 4, term entropy. " in message
    path = str(tmp_path / "checkpoints/last/ckpt-3")
    assert path in message and "train.learning_rate" in message
    reader = tf.train.load_checkpoint(path)
    for name in reader.get_variable_to_shape_map():
        if name.startswith(("network", "optimizer")):
            assert np.isfinite(reader.get_tensor(name)).all(), name
    assert not (tmp_path / "model.keras").exists()
    # The same command finds the same wall, from that checkpoint on.
    with pytest.raises(NonFiniteLossError, match="at step 4"):
        trainer(tmp_path, points_recipe(method=method, steps_per_call=3), moons()).train()


def test_weights_that_overflow_are_never_saved(tmp_path):
    class Leaping(keras.optimizers.SGD):
        """Leaves the numbers at its second step, after a finite loss."""

        def apply_gradients(self, pairs, *args, **kwargs):
            scale = tf.where(self.iterations >= 1, float("inf"), 1.0)
            pairs = [(scale * (1 + gradient), variable) for gradient, variable in pairs]
            return super().apply_gradients(pairs, *args, **kwargs)

    settings = {"optimizer": Leaping, "steps_per_call": 2, "method": Standard, "epochs": 1}
    run = trainer(tmp_path, points_recipe(**settings), moons())
    with pytest.raises(NonFiniteLossError, match=r"after step 2.*cross_entropy.*ckpt-0"):
        run.train()


def test_tensorboard_holds_what_was_reported(tmp_path):
    trainer(tmp_path, recipe(), digits()).train()
    scalars, images, texts = {}, {}, {}
    for event in events(tmp_path):
        for value in event.summary.value:
            kind = value.metadata.plugin_data.plugin_name
            tensor = tf.make_ndarray(value.tensor)
            kinds = {"scalars": scalars, "images": images, "text": texts}
            kinds[kind].setdefault(value.tag, {})[event.step] = tensor
    lines = [json.loads(line) for line in open(tmp_path / "metrics.jsonl")]
    terms = ["clean", "adversarial", "local", "global_", "entropy", "smoothness"]
    names = ["loss", *terms, "natural_accuracy", "robust_accuracy", "images_per_second"]
    names += ["learning_rate", "val_natural_accuracy", "val_robust_accuracy"]
    assert set(scalars) == set(names) == set(lines[0]) - {"epoch", "step"}
    for line in lines:
        assert {k: scalars[k][line["step"]] for k in names} == pytest.approx(
            {k: line[k] for k in names}
        )
    assert [line["step"] for line in lines] == [6, 12]
    assert lines[1]["learning_rate"] == pytest.approx(0.001) != lines[0]["learning_rate"]
    assert set(images) == {"clean", "adversarial"}
    for by_step in images.values():
        assert set(by_step) == {6, 12}
    width, height, *pictures = images["clean"][12]
    assert (int(width), int(height), len(pictures)) == (28, 28, 8)
    shown = tf.io.decode_png(pictures[0]).numpy()
    np.testing.assert_array_equal(shown, digits().validation.images[0])
    assert not np.array_equal(shown, tf.io.decode_png(images["adversarial"][12][2]).numpy())
    (text,) = texts["configuration"][0].ravel()
    assert (tmp_path / "config.gin").read_text() in text.decode()


def test_lines_where_there_is_no_terminal(tmp_path, capsys):
    trainer(tmp_path, points_recipe(), moons()).train()
    out, err = capsys.readouterr()
    lines = [line for line in out.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 2 and len(out.splitlines()) == 2
    assert "natural" in lines[0] and "val robust" in lines[0] and "img/s" in lines[0]
    assert "\r" not in err


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self):
        return True


def test_bar_on_a_terminal(tmp_path, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    reporter = Reporter(str(tmp_path), epochs=3, start_epoch=0, chief=True)
    reporter.open_epoch(1, steps=10, done=5, batch_size=100)
    reporter.bar.mininterval = 0
    metrics = {"loss": 1.25, "local": 0.5, "natural_accuracy": 0.5, "robust_accuracy": 0.25}
    reporter.advance(100, metrics)
    reporter.advance(100, metrics)
    last = screen.getvalue().split("\r")[-1]
    for part in ("epoch 2/3", "70%", "img/s", "left, run", "natural 50.00%", "loss 1.25", "local"):
        assert part in last
    assert last.index("robust 25.00%") < last.index("loss")
    reporter.close()


def test_other_workers_write_nothing(tmp_path, capsys):
    reporter = Reporter(str(tmp_path), epochs=3, start_epoch=0, chief=False)
    reporter.open_epoch(0, 1, 0, 1)
    reporter.advance(1, {"loss": 1.0})
    reporter.close_epoch({"epoch": 1, "step": 1, "loss": 1.0})
    reporter.images("clean", tf.zeros([1, 8, 8, 1]), 1)
    reporter.text("configuration", "")
    reporter.close()
    assert not os.listdir(tmp_path) and capsys.readouterr() == ("", "")


def test_a_folder_that_is_not_local(tmp_path):
    # TensorFlow's file system in memory: what gfile can do, and nothing that needs a local path.
    folder = "ram://runs/one"
    run = trainer(folder, points_recipe(), moons())
    summary = run.train()
    again = trainer(folder, points_recipe(), moons())
    assert again.resumed and again.finished and again.train() == summary
    trainer(tmp_path, points_recipe(), moons()).train()
    tf.io.gfile.copy(f"{folder}/model.keras", str(tmp_path / "copy.keras"))
    copy = keras.models.load_model(tmp_path / "copy.keras", compile=False)
    for a, b in zip(copy.get_weights(), model_weights(tmp_path), strict=True):
        np.testing.assert_array_equal(a, b)
    lines = [json.loads(t) for t in files.read_text(f"{folder}/metrics.jsonl").splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    with pytest.raises(RunFolderError, match="another configuration"):
        trainer(folder, points_recipe(), moons(), configuration="other")
    trainer(folder, points_recipe(), moons(), configuration="other", restart=True)
    assert not files.exists(f"{folder}/model.keras")


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file/run", "/proc/run"):
        with pytest.raises(RunFolderError, match=r"cannot be used: .*--run_dir"):
            trainer(folder, points_recipe(), moons())


def test_full_disk_before_and_in_training(tmp_path, monkeypatch):
    from robust_tf import files

    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tf.io.gfile.GFile, "write", full)
        with pytest.raises(RunFolderError, match="No space left on device"):
            trainer(tmp_path, points_recipe(), moons())
    run = trainer(tmp_path, points_recipe(), moons())
    monkeypatch.setattr(tf.train.CheckpointManager, "save", full)
    with pytest.raises(CheckpointError, match=r"No space left.*continues from none"):
        run.train()
    assert files.exists(str(tmp_path / "identity.json"))


LIMITED = """
import resource, sys
from tests.training.runs import *
run = trainer(sys.argv[1], points_recipe(), moons())
run.checkpoints.save_last()
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    run.train()
except OSError as error:
    print(type(error).__name__, error)
"""


def test_a_file_system_that_takes_no_more(tmp_path):
    assert resource.RLIMIT_FSIZE
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.stdout.startswith("CheckpointError cannot write a checkpoint"), done
    assert trainer(tmp_path, points_recipe(), moons()).resumed  # what was there is whole


def test_best_is_the_best_by_robust_validation_accuracy(tmp_path):
    run = trainer(tmp_path, points_recipe(epochs=4, validate_every=2), moons())
    summary = run.train()
    scores = {
        row["epoch"]: row["val_robust_accuracy"]
        for row in rows(tmp_path)
        if "val_robust_accuracy" in row
    }
    assert set(scores) == {2, 4}
    best = max(scores.values())
    assert summary["best_validation_accuracy"] == best
    assert summary["best_epoch"] == next(e for e, score in scores.items() if score == best)
    saved = keras.models.load_model(tmp_path / "best.keras")
    last = run.model.network.get_weights()
    assert run.checkpoints.load_best([run.model.network])
    for best_weight, weight in zip(
        saved.get_weights(), run.model.network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(best_weight, weight)
    in_file = keras.models.load_model(tmp_path / "model.keras").get_weights()
    for last_weight, weight in zip(last, in_file, strict=True):
        np.testing.assert_array_equal(last_weight, weight)
    values = run.loop.test(data.batches(run.dataset.validation, 25))
    assert values["robust_accuracy"] == best


def test_no_validation_split_and_no_attacks(tmp_path):
    settings = {"validation_attack": None, "evaluation_attacks": (), "method": Standard}
    summary = trainer(tmp_path, points_recipe(**settings), moons(validation=0)).train()
    assert summary["robust_accuracy"] == {} and summary["best_epoch"] == -1
    assert summary["worst_case"] == summary["natural_accuracy"]


WRONG = {
    "epochs": [0, -1, 1.5, "3", True],
    "batch_size": [0, "32"],
    "learning_rate": [0, -0.1, "fast", float("inf"), float("nan")],
    "weight_decay": [-1, float("nan")],
    "eps_warmup_epochs": [-1, "x"],
    "validate_every": [0],
    "steps_per_call": [0],
    "checkpoint_minutes": [-1],
    "evaluation_examples": [0],
    "seed": [-1, 1.5],
    "dtype_policy": ["float16"],
    "network": ["CNN"],
    "method": [None],
    "compare_with": ["ADR"],
    "validation_attack": ["PGD", PGD, PGD(0.1, 0.1, 1, targeted=True)],
    "evaluation_attacks": [
        "PGD",
        [PGD],
        {"PGD": PGD},
        {"PGD": PGD(0.1, 0.1, 1, targeted=True)},
    ],
    "term_warmup_epochs": [-1],
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_settings_are_named(name):
    for value in WRONG[name]:
        with pytest.raises(ValueError, match=rf"train\.{name}"):
            points_recipe(**{name: value})


def test_wrong_data_and_attack_are_refused_before_there_is_a_folder(tmp_path):
    folder = tmp_path / "run"
    single = moons()
    labels = np.zeros(len(single.train), "int32")
    single = data.Data(
        "single", data.Split(single.train.images, labels), single.validation, single.test, 2
    )
    with pytest.raises(ValueError, match="are all of class 0"):
        trainer(folder, points_recipe(), single)
    with pytest.raises(ValueError, match="batch_size is 97.*96"):
        trainer(folder, points_recipe(batch_size=97), moons())
    with pytest.raises(ValueError, match="labels"):
        data.Data("wrong", moons().train, moons().validation, moons().test, num_classes=1)
    for attack in (PGD, None, PGD(0.1, 0.1, 1, targeted=True)):
        with pytest.raises(ValueError, match="ADR.attack"):
            trainer(folder, points_recipe(method=functools.partial(ADR, attack=attack)), moons())
    with pytest.raises(ValueError, match="train.method built"):
        trainer(folder, points_recipe(method=lambda network: network), moons())
    assert not folder.exists()


def test_schedules():
    rate = piecewise(0.1, steps_per_epoch=10, epochs=5, boundaries=(1, 2.5), factor=0.1)
    np.testing.assert_allclose(
        [rate(s) for s in (0, 9, 10, 24, 25, 99)], [0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3], rtol=1e-6
    )
    half = cosine(0.1, steps_per_epoch=10, epochs=4)
    np.testing.assert_allclose(
        [half(s) for s in (0, 10, 20, 40, 50)],
        [0.1, 0.1 * (1 + np.sqrt(0.5)) / 2, 0.05, 0, 0],
        atol=1e-7,
    )
    copy = EpochSchedule.from_config(rate.get_config())
    assert copy.get_config() == rate.get_config()
    optimizer = Adam(rate)
    assert (
        keras.optimizers.deserialize(keras.optimizers.serialize(optimizer)).get_config()
        == optimizer.get_config()
    )
    for boundaries in (5, (3, 2), (0, 1), ("a",)):
        with pytest.raises(ValueError, match="boundaries"):
            piecewise(0.1, 10, 5, boundaries=boundaries)
    with pytest.raises(ValueError, match="factor"):
        piecewise(0.1, 10, 5, boundaries=(1,), factor=0)
    with pytest.raises(ValueError, match="learning_rate"):
        piecewise(-0.1, 10, 5)
