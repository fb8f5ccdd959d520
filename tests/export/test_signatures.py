"""The signatures of exported networks, called in processes that know TensorFlow only."""

import base64
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import data, export, files
from robust_tf.export import load_check, signatures, smoke
from robust_tf.models import CNN, MLP, BatchNormalization, SplitClassifier
from tests import tiny
from tests.inference import fakes

CALL = """
import runpy, sys
main = runpy.run_path(sys.argv[1])["main"]
for folder in sys.argv[2:]:
    main(folder, folder + ".inputs.npz", folder + ".outputs.npz")
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
    "moving averages": (batch_norm_net, (1, 7, 256)),
    "mixed_bfloat16": (lambda: CNN((18, 18, 1), 10, filters=2, hidden=6), (7,)),
    "defended": (lambda: fakes.defended(batch_norm=True, gate=(0.3, 0.7)), (1, 7, 256)),
}
# Of the others the names are not known.
CLASS_NAMES = {"defended": ("zero", "größer", "two & more")}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Each network, its folder, what the library gives, and the outputs in a new process."""
    folder, rng = tmp_path_factory.mktemp("exported"), np.random.default_rng(0)
    networks, expected = {}, {}
    for name, (build, sizes) in NETWORKS.items():
        policy = name if name == "mixed_bfloat16" else "float32"
        keras.mixed_precision.set_global_policy(policy)
        networks[name] = network = build()
        disturb(network, rng)
        names = CLASS_NAMES.get(name)
        card = export.export(network, folder / name, class_names=names)
        assert card["model"]["class_names"] == (list(names) if names else None)
        calls, expected[name] = {}, {}
        reference = smoke.Reference(network, class_names=names)
        for size in sizes:
            given, outputs = reference(size)
            expected[name] |= {f"{key}/{size}": value for key, value in outputs.items()}
            for key, arguments in given.items():
                calls |= {f"{key}/{size}/{argument}": v for argument, v in arguments.items()}
        np.savez(folder / f"{name}.inputs.npz", **calls)
    keras.mixed_precision.set_global_policy("float32")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            CALL,
            load_check.__file__,
            *(str(folder / name) for name in NETWORKS),
        ],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return networks, folder, expected


@pytest.fixture(scope="module")
def loaded(exported):
    """Signatures by network, in this process."""
    _, folder, _ = exported
    models = {name: tf.saved_model.load(str(folder / name)) for name in NETWORKS}
    yield {name: model.signatures for name, model in models.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_plain_tensorflow_gives_the_bits_of_the_library(name, exported):
    networks, folder, expected = exported
    found = np.load(folder / f"{name}.outputs.npz")
    assert len(found.files) == sum(map(len, expected[name].values())) >= 8
    for call, outputs in expected[name].items():
        for output, value in outputs.items():
            assert value.dtype == found[f"{call}/{output}"].dtype
            tiny.same_bits(found[f"{call}/{output}"], value)
    # Called eagerly, a fused operation may skip a rounding to bfloat16, whose resolution is 2^-8.
    tolerance = 2e-2 if name == "mixed_bfloat16" else 1e-5
    images = np.load(folder / f"{name}.inputs.npz")["serving_default/7/images"]
    logits = networks[name](images)
    close = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(found["serving_default/7/logits"], logits, **close)
    probabilities = tf.nn.softmax(logits)
    np.testing.assert_allclose(found["serving_default/7/probabilities"], probabilities, **close)
    entropy = -np.sum(probabilities * np.log(probabilities), axis=1)
    np.testing.assert_allclose(found["detect/7/entropy"], entropy, rtol=tolerance, atol=tolerance)
    assert np.ptp(logits) > 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_is_stored_once(name, exported):
    networks, folder, _ = exported
    stored = dict(tf.train.list_variables(str(folder / name / "variables" / "variables")))
    graph = stored.pop("_CHECKPOINTABLE_OBJECT_GRAPH")
    assert graph == [] and all(key.startswith("weights/") for key in stored), list(stored)
    own = sorted(tuple(variable.shape) for variable in networks[name].variables)
    assert sorted(map(tuple, stored.values())) == own


def test_each_network_has_the_signatures_that_fit_it(loaded):
    every = {"serving_default", "detect", "input_gradient", "attack", "features"}
    images = every | {"serve_uint8", "serve_image_bytes"}
    assert set(signatures.Signatures(MLP((2,), 3)).functions) == every  # points have no pixels
    assert set(loaded["moving averages"]) == images
    assert set(loaded["defended"]) == images | {"defend", "transform"} == set(signatures.MEANING)


def test_classes_have_their_names_wherever_they_are_told(loaded):
    for name, functions in loaded.items():
        for key, function in functions.items():
            outputs = function.structured_outputs
            assert ("label" in outputs) == ("class" in outputs and name in CLASS_NAMES), (name, key)
    x = np.random.default_rng(1).random((40, 8, 8, 1), np.float32)
    found = loaded["defended"]["defend"](images=tf.constant(x))
    expected = [CLASS_NAMES["defended"][number].encode() for number in found["class"].numpy()]
    assert found["label"].numpy().tolist() == expected


def attack(signatures, x, y, **changes):
    numbers = {"eps": 0.1, "step_size": 0.03, "steps": 4, "seed": 0} | changes
    kinds = {"eps": tf.float32, "step_size": tf.float32, "steps": tf.int32, "seed": tf.int32}
    tensors = {key: tf.constant(value, kinds[key]) for key, value in numbers.items()}
    arguments = {"images": tf.constant(x), "labels": tf.constant(y, tf.int32), **tensors}
    return signatures["attack"](**arguments)["images"].numpy()


@pytest.mark.parametrize("name", ["moving averages", "defended"])
def test_the_attack_stays_in_the_ball_and_raises_the_loss(name, loaded, rng):
    signatures = loaded[name]
    shape = signatures["serving_default"].structured_input_signature[1]["images"].shape[1:]
    x = rng.random((9, *shape), np.float32)
    x[0], x[1] = 0, 1
    y = np.argmax(signatures["serving_default"](images=tf.constant(x))["logits"], 1)

    def loss(images):
        arguments = {"images": tf.constant(images), "labels": tf.constant(y, tf.int32)}
        return signatures["input_gradient"](**arguments)["loss"].numpy()

    found = attack(signatures, x, y)
    assert np.abs(found.astype(np.float64) - x).max() <= np.float32(0.1)
    assert found.min() >= 0 and found.max() <= 1
    assert loss(found).mean() > loss(x).mean()
    tiny.same_bits(found, attack(signatures, x, y))
    assert not np.array_equal(found, attack(signatures, x, y, seed=1))
    start = attack(signatures, x, y, steps=0)
    assert 0 < np.abs(start - x).max() <= 0.1 and not np.array_equal(start, found)
    tiny.same_bits(attack(signatures, x, y, eps=0.0), x)


def test_the_steps_of_the_attack_are_a_loop_in_the_graph(loaded):
    definition = loaded["mixed_bfloat16"]["attack"].graph.as_graph_def()
    bodies = [function.node_def for function in definition.library.function]
    operations = [node.op for nodes in [definition.node, *bodies] for node in nodes]
    assert "While" in operations or "StatelessWhile" in operations


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": -0.1}, "eps must be >= 0"),
        ({"steps": -1}, "steps must be >= 0"),
        ({"y": [5]}, r"labels must be in 0\.\.4"),
        ({"y": [-1]}, r"labels must be in 0\.\.4"),
        ({"x": np.full((1, 8, 8, 3), 255, np.float32)}, "divide pixels 0..255 by 255"),
    ],
)
def test_arguments_out_of_range_are_refused(change, message, loaded):
    arguments = {"x": np.zeros((1, 8, 8, 3), np.float32), "y": [0]} | change
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        attack(loaded["moving averages"], **arguments)


def test_images_of_any_kind_and_size(loaded, rng):
    colour, grey = loaded["moving averages"], loaded["mixed_bfloat16"]

    def logits(signatures, *files):
        return signatures["serve_image_bytes"](image_bytes=tf.constant(files))["logits"].numpy()

    def of(signatures, pixels):
        images = tf.clip_by_value(tf.cast(pixels, tf.float32), 0, 1)
        return signatures["serving_default"](images=images[tf.newaxis])["logits"].numpy()

    large = rng.integers(0, 256, (16, 24, 3), np.uint8)
    png, jpeg = tf.io.encode_png(large).numpy(), tf.io.encode_jpeg(large[:, :16]).numpy()
    own = tf.io.encode_png(rng.integers(0, 256, (8, 8, 1), np.uint8)).numpy()
    found = logits(colour, png, jpeg, own)  # sizes, kinds and channels in one batch
    means = large.reshape(8, 2, 8, 3, 3).mean((1, 3)).round() / np.float32(255)  # stretched
    np.testing.assert_allclose(found[0], of(colour, means)[0], rtol=1e-5, atol=1e-5)
    half = tf.io.decode_jpeg(jpeg, ratio=2).numpy() / np.float32(255)  # of each side
    np.testing.assert_allclose(found[1], of(colour, half)[0], rtol=1e-5, atol=1e-5)
    three = np.repeat(tf.io.decode_png(own), 3, axis=2) / np.float32(255)
    tiny.same_bits(found[2:], of(colour, three))
    wide = rng.integers(0, 256, (18, 36, 3), np.uint8)
    luma = wide @ [0.299, 0.587, 0.114]
    means = luma.round().reshape(18, 18, 2).mean(2).round()[..., np.newaxis] / np.float32(255)
    found = logits(grey, tf.io.encode_png(wide).numpy())
    np.testing.assert_allclose(found, of(grey, means), rtol=1e-5, atol=1e-5)


def test_each_graph_is_made_once(tmp_path, monkeypatch):
    real, made = signatures.predict, []
    monkeypatch.setattr(signatures, "predict", lambda *given: made.append(1) or real(*given))
    found = signatures.Signatures(CNN((18, 18, 1), 3, 2, 4))
    assert {"serving_default", "serve_uint8", "serve_image_bytes"} <= set(found.functions)
    tf.saved_model.save(found, str(tmp_path), signatures=found.functions)
    assert len(made) == 1


def test_pixels_become_what_training_saw():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    split = data.Split(pixels, np.zeros(1, np.int32))
    [(images, _)] = data.batches(split, 1)
    tiny.same_bits(tf.function(signatures.to_unit_interval)(tf.constant(pixels)), images)


def as_serving_reads(signature, request):
    """Tensors of a REST request, by TensorFlow Serving's rules; checks them against the specs."""
    specs = signature.structured_input_signature[1]
    if "instances" in request:
        rows = request["instances"]
        if len(specs) == 1:  # rows without names
            rows = [{next(iter(specs)): row} for row in rows]
        assert all(row.keys() == specs.keys() for row in rows)
        columns = {name: [row[name] for row in rows] for name in specs}
    else:
        columns = request["inputs"]
        assert columns.keys() == specs.keys()
    tensors = {}
    for name, value in columns.items():
        if name.endswith("_bytes"):
            value = [base64.b64decode(row["b64"]) for row in value]
        tensors[name] = tf.constant(value, specs[name].dtype)
        assert specs[name].shape.is_compatible_with(tensors[name].shape)
    return tensors


@pytest.mark.parametrize("name", ["moving averages", "defended"])
def test_rest_examples_are_what_the_signatures_take_and_give(name, exported, loaded):
    _, folder, _ = exported
    examples = folder / name / "rest"
    assert len(os.listdir(examples)) == 2 * len(loaded[name])
    for signature in loaded[name]:
        request, response = (
            files.read_json(examples / f"{signature}.{kind}.json")
            for kind in ("request", "response")
        )
        assert request["signature_name"] == signature
        function = loaded[name][signature]
        outputs = function(**as_serving_reads(function, request))
        if "inputs" in request:
            [value] = outputs.values()  # a single output comes without its name
            tiny.same_bits(np.array(response["outputs"], np.float32), value)
            continue
        [row] = response["predictions"]
        if len(outputs) == 1:
            row = {next(iter(outputs)): row}
        assert row.keys() == outputs.keys() == function.structured_outputs.keys()
        for key, value in outputs.items():
            if value.dtype == tf.string:  # as UTF-8, but where the name ends in `_bytes`
                assert [row[key].encode()] == value.numpy().tolist()
                continue
            tiny.same_bits(np.array([row[key]], value.dtype.as_numpy_dtype), value)
