"""A search in bfloat16: judged in float32, repeated where it may have lost something."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, compat, evaluation, models, precision
from robust_tf.evaluation import EvaluationState, evaluate, target_model
from robust_tf.evaluation.target_model import copy_in
from tests.tiny import CLASSES, SHAPE, Smooth, tiny_network


def test_a_search_in_bfloat16_is_judged_in_float32(examples):
    model = tiny_network()
    images = examples[0]
    labels = np.argmax(model(images), axis=1)
    attack = attacks.PGD(eps=0.03, step_size=0.01, steps=10)
    plain = evaluate(model, (images, labels), [attack], checks=False)
    fast = evaluate(model, (images, labels), [attack], search_dtype="bfloat16", checks=False)
    (name,) = fast.outcomes
    assert abs(plain.accuracy(name) - fast.accuracy(name)) < 0.1
    sample = fast.outcomes[name].details["float32_sample"]
    assert 0 < sample["examples"] <= 9  # every fifth of 41, as far as they stand
    numbers = np.flatnonzero(~fast.robust[name] & fast.natural)
    assert len(numbers) and fast.settings["search_dtype"] == "bfloat16"
    with pytest.raises(ValueError, match="needs a Keras model"):
        evaluate(Smooth(), examples, [attack], search_dtype="bfloat16")


def test_an_attack_on_labels_alone_asks_the_judge(examples):
    model = tiny_network()
    labels = np.argmax(model(examples[0]), axis=1)
    attack = attacks.RayS(eps=0.1, queries=60)
    plain, fast = (
        evaluate(model, (examples[0], labels), [attack], search_dtype=dtype, checks=False)
        for dtype in ("float32", "bfloat16")
    )
    (name,) = fast.outcomes
    assert 0 < fast.accuracy(name) < 1
    np.testing.assert_array_equal(fast.robust[name], plain.robust[name])
    assert "float32_sample" not in fast.outcomes[name].details


def test_what_only_the_copy_calls_broken_is_attacked_again(examples, monkeypatch, tmp_path):
    """The search sees a model that calls everything broken; the judge knows better."""
    model = tiny_network()
    labels = np.argmax(model(examples[0]), axis=1)

    def wrong(network, dtype):
        twin = copy_in(network, dtype)
        if dtype == "bfloat16":
            twin.classifier.layers[-1].kernel.assign(-twin.classifier.layers[-1].kernel)
        return twin

    attack = attacks.PGD(eps=0.05, step_size=0.02, steps=5)
    plain = evaluate(model, (examples[0], labels), [attack], checks=False, search_dtype="float32")
    monkeypatch.setattr(target_model, "copy_in", wrong)
    state = EvaluationState(images=str(tmp_path))
    fast = evaluate(
        model,
        (examples[0], labels),
        [attack],
        state=state,
        checks=False,
        search_dtype="bfloat16",
        search_sample=0,
    )
    (name,) = fast.outcomes
    numbers, x_adv = evaluation.load_adversarial(tmp_path, name)
    right = np.argmax(model(x_adv), axis=1) == labels[numbers]
    np.testing.assert_array_equal(right, fast.robust[name][numbers])
    assert fast.accuracy(name) <= plain.accuracy(name) + 0.05


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_copies_compute_as_they_should(dtype, rng):
    network = tiny_network(batch_norm=True)
    x = rng.random((5, *SHAPE)).astype("float32")
    twin = copy_in(network, dtype)
    expected, found = np.asarray(network(x)), np.asarray(twin(x))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6 if dtype == "float32" else 0.1)
    assert (found == expected).all() == (dtype == "float32")
    sequential = keras.Sequential(
        [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
    )
    np.testing.assert_allclose(copy_in(sequential, dtype)(x), sequential(x), atol=0.1)


def skip_block(x):
    h = keras.layers.Conv2D(4, 3, padding="same")(x)
    h = keras.layers.BatchNormalization()(h)
    return keras.layers.Add()([keras.layers.ReLU()(h), x])


def functional():
    """A skip connection, an operator between layers, and a cast that says its own type."""
    inputs = keras.Input(SHAPE)
    x = keras.layers.Conv2D(4, 3)(2 * inputs - 1)
    x = keras.layers.Activation("relu", dtype="float32")(skip_block(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(x))


def nested():
    inner = keras.Input((6, 6, 4))
    block = keras.Model(inner, skip_block(inner))
    inputs = keras.Input(SHAPE)
    x = keras.layers.Flatten()(block(keras.layers.Conv2D(4, 3)(inputs)))
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(x))


def halves():
    return models.SplitClassifier(*halves_of(SHAPE, CLASSES))


def halves_of(shape, classes):
    inputs = keras.Input(shape)
    x = skip_block(keras.layers.Conv2D(4, 3)(inputs))
    generator = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    features = keras.Input((4,))
    hidden = keras.layers.Dense(4, activation="relu")(features)
    joined = keras.layers.Concatenate()([features, hidden])
    return generator, keras.Model(features, keras.layers.Dense(classes)(joined))


def mobile_net():
    return keras.applications.MobileNetV2(
        (32, 32, 3), 0.35, weights=None, classes=CLASSES, classifier_activation=None
    )


def convolution_last():
    """A classifier of which the layer with the last kernel is not the last layer."""
    inputs = keras.Input(SHAPE)
    x = keras.layers.Conv2D(CLASSES, 3)(keras.layers.Conv2D(4, 3)(inputs))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


def compiled():
    """With a loss that only this program knows."""
    model = functional()
    model.compile("sgd", lambda y, z: keras.losses.sparse_categorical_crossentropy(y, z, True))
    return model


FUNCTIONAL = {
    "functional": functional,
    "nested": nested,
    "split": halves,
    "MobileNetV2": mobile_net,
    "convolution last": convolution_last,
    "compiled": compiled,
    "ResNet": lambda: models.ResNet((16, 16, 3), CLASSES, (2, 2, 2, 2), units=1),
    "ResNet18": lambda: models.ResNet18((16, 16, 3), CLASSES),
    "WideResNet": lambda: models.WideResNet((16, 16, 3), CLASSES, depth=10, width=1),
}


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_functional_networks_have_copies(name, rng):
    network = FUNCTIONAL[name]()
    shape = getattr(network, "image_shape", None) or network.input_shape[1:]
    x = rng.random((5, *shape)).astype("float32")
    expected = np.asarray(network(x, training=False))
    np.testing.assert_array_equal(copy_in(network, "float32")(x, training=False), expected)
    fast = copy_in(network, "bfloat16")
    logits = np.asarray(fast(x, training=False))
    scale = np.abs(expected).max()
    assert logits.dtype == np.float32 and 0 < np.abs(logits - expected).max() < 0.1 * scale + 0.01
    kernels = [layer for layer in compat.layers_of(fast) if hasattr(layer, "kernel")]
    (last,) = [layer for layer in kernels if layer.compute_dtype == "float32"]
    assert last.kernel.shape[-1] == CLASSES and len(kernels) > 1
    assert {layer.compute_dtype for layer in kernels} == {"bfloat16", "float32"}
    assert {compat.raw(v).dtype for v in fast.weights} == {tf.float32}


def test_a_functional_network_is_searched_in_bfloat16(rng):
    network = functional()
    images = rng.random((20, *SHAPE)).astype("float32")
    labels = np.argmax(network(images), axis=1)
    attack = attacks.PGD(eps=0.1, step_size=0.03, steps=4)
    plain, fast = (
        evaluate(network, (images, labels), attack, search_dtype=dtype, checks=False)
        for dtype in (None, "bfloat16")
    )
    assert fast.natural_accuracy == 1 and abs(plain.worst_case.sum() - fast.worst_case.sum()) <= 2


@dataclasses.dataclass(frozen=True)
class Twice(attacks.Attack):
    """Two stages, the second with a wider ball."""

    def stages(self):
        yield "near", attacks.BIM(eps=0.02, step_size=0.01, steps=3)
        yield "far", attacks.BIM(eps=0.05, step_size=0.02, steps=4)

    def get_config(self):
        return {}


def test_what_the_repeat_breaks_is_off_the_stage_that_broke_it(examples, monkeypatch, tmp_path):
    """The search is stuck, so that only what is attacked again in float32 is broken."""
    model = tiny_network()
    examples = examples[0], np.argmax(model(examples[0]), axis=1)
    plain = evaluate(model, examples, {"a": Twice()}, checks=False, search_dtype="float32")

    def stuck(network, dtype):
        twin = copy_in(network, dtype)
        if dtype == "bfloat16":  # its cross-entropy rounds to 0
            twin.classifier.layers[-1].kernel.assign(1e5 * twin.classifier.layers[-1].kernel)
        return twin

    monkeypatch.setattr(target_model, "copy_in", stuck)
    path = str(tmp_path / "partial")
    settings = {"checks": False, "search_dtype": "bfloat16", "search_sample": 14}
    sampled = np.arange(41) % 2 == 0
    for _ in range(2):  # the second time from the record
        result = evaluate(model, examples, {"a": Twice()}, state=EvaluationState(path), **settings)
        outcome = result.outcomes["a"]
        for name, verdict in plain.outcomes["a"].stages.items():
            np.testing.assert_array_equal(outcome.stages[name], verdict | ~sampled)
            assert outcome.details["stages"][name] == outcome.stages[name].sum()
        np.testing.assert_array_equal(outcome.stages["far"], outcome.robust)
        lost = outcome.details["float32_sample"]["broken"]
        assert 0 < 41 - outcome.stages["near"].sum() < lost == 41 - outcome.robust.sum()


FAST, SLOW = (precision.Measurement(1.0, other, "a processor") for other in (0.5, 16.0))


def test_auto_is_the_faster_precision_and_stays_so(examples, monkeypatch, tmp_path):
    model = tiny_network()
    arguments = model, examples, attacks.FGSM(eps=0.05)
    path = str(tmp_path / "partial")
    for found, dtype, state in (
        (SLOW, "float32", None),
        (FAST, "bfloat16", EvaluationState(path)),
        (SLOW, "bfloat16", EvaluationState(path)),  # continues
    ):
        monkeypatch.setattr(precision, "measured", lambda found=found: found)
        result = evaluate(*arguments, search_dtype="auto", checks=False, state=state)
        assert result.settings["search_dtype"] == dtype
    named = evaluate(*arguments, search_dtype="float32", checks=False)
    monkeypatch.setattr(precision, "measured", lambda: SLOW)
    auto = evaluate(*arguments, search_dtype="auto", checks=False)
    np.testing.assert_array_equal(*(next(iter(one.robust.values())) for one in (named, auto)))
    other = evaluate(Smooth(), examples, arguments[2], search_dtype="auto", checks=False)
    assert other.settings["search_dtype"] is None
    with pytest.warns(precision.PrecisionWarning, match="takes 16 times as long as float32"):
        evaluate(*arguments, search_dtype="bfloat16", checks=False)
