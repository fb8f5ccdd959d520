"""What TensorBoard's HParams tab is told of a run."""

import glob

import tensorflow as tf
from tensorboard.plugins.hparams import plugin_data_pb2

from robust_tf.training import hparams
from tests.training.runs import moons, points_recipe, trainer


def test_values_of_a_record():
    record = {"method": {"name": "ADR"}, "training": {"epochs": 3, "initial": None}}
    bindings = {
        "eps": 0.3,
        "evaluation/PGD.steps": 40,
        "data.name": "mnist",
        "data.validation_size": None,
        "ADR.attack": "@PGD()",
        "Augmentation.flip": False,
        "train.decay_epochs": [6, 9],
        "note": "two words",
    }
    assert hparams.hparams_of({**record, "bindings": bindings}) == {
        "method": "ADR",
        "eps": 0.3,
        "evaluation/PGD.steps": 40.0,
        "data.name": "mnist",
        "ADR.attack": "@PGD()",
        "Augmentation.flip": False,
    }
    told = hparams.hparams_of({**record, "bindings": {}})
    assert told == {"method": "ADR", "train.epochs": 3.0}


def test_a_run_tells_its_start_and_its_end(tmp_path):
    run = trainer(tmp_path / "mine", points_recipe(), moons(), configuration="eps = 0.1\n")
    summary = run.train()
    records = [
        tf.compat.v1.Event.FromString(record.numpy())
        for path in sorted(glob.glob(str(tmp_path / "mine/tensorboard/hparams/events*")))
        for record in tf.data.TFRecordDataset(path)
    ]
    values = {value.tag: value for event in records for value in event.summary.value}

    def told(tag: str) -> plugin_data_pb2.HParamsPluginData:
        content = values[f"_hparams_/{tag}"].metadata.plugin_data.content
        return plugin_data_pb2.HParamsPluginData.FromString(content)

    start = told("session_start_info").session_start_info
    assert start.group_name == "mine" and start.hparams["method"].string_value
    assert told("session_end_info").session_end_info.end_time_secs >= start.start_time_secs > 0
    shown = {name: tf.make_ndarray(v.tensor) for name, v in values.items() if "test/" in name}
    assert shown["test/natural_accuracy"] == tf.constant(summary["natural_accuracy"])
    for name, accuracy in summary["robust_accuracy"].items():
        assert shown[f"test/{name}"] == tf.constant(accuracy)
