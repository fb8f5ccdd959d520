"""Exported networks, loaded in processes that know TensorFlow only."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import export, files
from robust_tf.models import CNN, MLP, BatchNormalization, SplitClassifier

LOAD = """
import sys
import numpy as np
import tensorflow as tf
for folder in sys.argv[1:]:
    model = tf.saved_model.load(folder)
    for size in (7, 1):
        images = tf.constant(np.load(folder + ".npy")[:size])
        outputs = dict(model.signatures["serving_default"](images=images))
        outputs.update(model.signatures["features"](images=images))
        assert sorted(outputs) == ["features", "logits", "probabilities"], outputs
        assert all(value.dtype == tf.float32 for value in outputs.values()), outputs
        np.savez(f"{folder}_{size}.npz", **outputs)
assert not any(name.split(".")[0] == "robust_tf" for name in sys.modules)
"""


def batch_norm_net():
    generator = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, use_bias=False),
            BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    classifier = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    return SplitClassifier(generator, classifier)


def disturb(network, rng):
    """No weight and no moving average is left at what a fresh network has."""
    for variable in network.variables:
        shift = np.abs(rng.normal(size=variable.shape)).astype(np.float32)
        variable.assign(np.asarray(variable, np.float32) + 0.2 * shift)


NETWORKS = {
    "dropout": lambda: CNN((18, 18, 1), 10, filters=2, hidden=6),
    "moving averages": batch_norm_net,
    "points": lambda: MLP((2,), 3),
    "mixed_bfloat16": batch_norm_net,
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Each network, images for it, and its outputs in a new process by batch size."""
    folder, rng = tmp_path_factory.mktemp("exported"), np.random.default_rng(0)
    networks, images = {}, {}
    for name, build in NETWORKS.items():
        policy = name if name == "mixed_bfloat16" else "float32"
        keras.mixed_precision.set_global_policy(policy)
        networks[name] = network = build()
        disturb(network, rng)
        images[name] = rng.random((7, *network.image_shape), np.float32)
        np.save(folder / f"{name}.npy", images[name])
        export.export(network, folder / name)
    keras.mixed_precision.set_global_policy("float32")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *(str(folder / name) for name in NETWORKS)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    outputs = {
        (name, size): np.load(folder / f"{name}_{size}.npz") for name in NETWORKS for size in (1, 7)
    }
    return networks, images, outputs


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [1, 7])
def test_tensorflow_alone_gives_the_same_outputs(name, size, exported):
    networks, images, outputs = exported
    found = outputs[name, size]
    logits, features = networks[name].forward(images[name][:size])
    # A fused operation may skip a rounding to bfloat16, whose resolution is 2^-8.
    tolerance = 2e-2 if name == "mixed_bfloat16" else 1e-5
    for key, expected in (
        ("logits", logits),
        ("probabilities", tf.nn.softmax(logits)),
        ("features", tf.cast(features, tf.float32)),
    ):
        np.testing.assert_allclose(found[key], expected, rtol=tolerance, atol=tolerance)
    assert np.ptp(logits) > 1e-3


def test_a_folder_in_use_is_left_alone(tmp_path, rng):
    network = MLP((2,), 3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="mine is not empty and holds no SavedModel"):
            export.export(network, tmp_path / "mine", overwrite)
        with pytest.raises(ValueError, match="is a file"):
            export.export(network, tmp_path / "mine" / "thesis.tex", overwrite)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_overwrite_replaces_a_saved_model(tmp_path, rng):
    network, folder = MLP((2,), 3), tmp_path / "net"
    folder.mkdir()
    export.export(network, folder)
    disturb(network, rng)
    with pytest.raises(ValueError, match="--overwrite"):
        export.export(network, folder)
    export.export(network, folder, overwrite=True)
    images = rng.random((4, 2), np.float32)
    loaded = tf.saved_model.load(str(folder)).signatures["serving_default"](images=images)
    np.testing.assert_allclose(loaded["logits"], network(images), rtol=1e-5, atol=1e-6)
    assert os.listdir(tmp_path) == ["net"]


def test_what_cannot_be_exported_is_said(tmp_path):
    with pytest.raises(TypeError, match="takes a SplitClassifier, got Sequential"):
        export.export(keras.Sequential([keras.layers.Dense(2)]), tmp_path / "net")
    (tmp_path / "file").write_text("")
    with pytest.raises(files.FileError, match="cannot write"):
        export.export(MLP((2,), 3), tmp_path / "file" / "net")
