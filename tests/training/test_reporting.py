"""What a run shows as it goes: TensorBoard, a bar on a terminal, lines elsewhere."""

import io
import os
import sys

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import files
from robust_tf.training.reporting import Reporter
from tests.training.runs import digits, events, moons, points_recipe, recipe, trainer


def test_tensorboard_holds_what_was_reported(tmp_path):
    trainer(tmp_path, recipe(), digits()).train()
    scalars, images, texts = {}, {}, {}
    for event in events(tmp_path):
        for value in event.summary.value:
            kind = value.metadata.plugin_data.plugin_name
            tensor = tf.make_ndarray(value.tensor)
            kinds = {"scalars": scalars, "images": images, "text": texts}
            kinds[kind].setdefault(value.tag, {})[event.step] = tensor
    lines = files.read_lines(tmp_path / "metrics.jsonl")
    terms = ["clean", "adversarial", "local", "global_", "entropy", "smoothness"]
    names = ["loss", *terms, "natural_accuracy", "robust_accuracy", "images_per_second"]
    names += ["learning_rate", "val_natural_accuracy", "val_robust_accuracy", "collapsed"]
    assert set(scalars) == set(names) == set(lines[0]) - {"epoch", "step"}
    for line in lines:
        assert {k: scalars[k][line["step"]] for k in names} == pytest.approx(
            {k: float(line[k]) for k in names}
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
