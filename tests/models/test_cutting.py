"""Any built Keras classifier: cut, taken whole, or refused by a sentence that says what to do."""

import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, compat, export, methods, models
from robust_tf.models import SplitClassifier, WholeClassifier, forward_mode, split
from tests.tiny import CLASSES, SHAPE, labelled, plain_network, same_bits

L = keras.layers
PGD = attacks.PGD(0.1, 0.05, 2)
X = tf.random.stateless_uniform([5, *SHAPE], [0, 1])


def chain(*layers, shape=SHAPE):
    return keras.Sequential([keras.Input(shape), *layers])


def nested(batch_norm=True):
    """A Sequential with a functional model with a skip connection inside, as in fine-tuning."""
    inner = plain_network() if batch_norm else chain(L.Conv2D(2, 3, name="conv"), L.Flatten())
    return chain(L.Rescaling(2.0, -1.0, name="rescaling"), inner, L.Dense(4, name="top"))


def same_weights_shared(network, model):
    own = {id(v) for v in model.weights}
    assert network.weights and all(id(v) in own for v in network.weights)


@pytest.mark.parametrize(
    "make, at, shape",
    [
        (plain_network, None, (8,)),
        (plain_network, "add", (3, 3, 4)),
        (plain_network, "conv", (3, 3, 4)),
        (nested, None, (3,)),
        (nested, "rescaling", SHAPE),
        (nested, "add", (3, 3, 4)),
        (nested, "flatten", (36,)),
        (lambda: nested(False), "conv", (6, 6, 2)),
        (lambda: chain(L.Flatten(), L.Dense(5, name="a"), L.Dense(3)), None, (5,)),
        (lambda: chain(L.Flatten(), L.Dense(5, name="a"), L.Dense(3)), "a", (5,)),
        # The last layer with weights is inside a model.
        (lambda: chain(L.Rescaling(2.0), plain_network(), L.Activation("linear")), None, (8,)),
    ],
)
def test_a_cut_changes_no_bit_and_shares_the_weights(make, at, shape):
    model = make()
    before = model(X).numpy()
    network = split(model, at)
    assert isinstance(network, SplitClassifier)
    assert tuple(network.generator.output_shape[1:]) == shape
    same_bits(network(X), before)
    same_bits(network.classify(network.features(X)), before)
    same_bits(model(X), before)
    same_weights_shared(network, model)
    assert len(network.weights) == len(model.weights)
    for variable in model.trainable_variables:
        compat.raw(variable).assign_add(tf.ones_like(compat.raw(variable)))
    same_bits(network(X), model(X))
    if at is not None:  # a model that is cut can be cut elsewhere
        same_bits(split(network)(X), model(X))
        assert split(network, at).generator.output_shape[1:] == shape


def test_operators_are_part_of_the_graph():
    images = keras.Input(SHAPE)
    x = L.Flatten(name="flat")(images) * 2.0 - 1.0
    model = keras.Model(images, L.Dense(3)(L.Dense(4, name="hidden")(x)))
    same_bits(split(model, "flat")(X), model(X))
    same_bits(split(model, "hidden")(X), model(X))


def skipped(at):
    return rf"at='{at}'\): a connection skips .* can be cut: "


@pytest.mark.parametrize(
    "make, at, message",
    [
        (plain_network, "inner", skipped("inner") + "'elu' before and 'add' behind"),
        (nested, "inner", skipped("inner") + "'elu' before and 'add' behind"),
        (plain_network, "flaten", "no such layer; did you mean 'flatten'.*it can be cut at 'conv'"),
        (plain_network, "logits", "this layer gives the logits themselves"),
    ],
)
def test_places_that_cannot_be_cut(make, at, message):
    with pytest.raises(ValueError, match=message):
        split(make(), at)


def test_a_skip_around_a_model_inside():
    images = keras.Input((8,))
    inner = keras.Sequential([keras.Input((8,)), L.Dense(8, name="deep")], name="inner")
    x = L.Dense(8, name="first")(images)
    model = keras.Model(images, L.Dense(3)(L.Add(name="sum")([inner(x), x])))
    with pytest.raises(ValueError, match="'first' before and 'sum' behind"):
        split(model, "deep")


def test_a_layer_that_is_called_twice():
    images = keras.Input((8,))
    shared = L.Dense(8, name="shared")
    model = keras.Model(images, L.Dense(3)(L.Activation("relu", name="r")(shared(shared(images)))))
    with pytest.raises(ValueError, match="'shared'.* is called 2 times"):
        split(model, "shared")
    x = tf.random.uniform((4, 8))
    same_bits(split(model, "r")(x), model(x))


class Subclassed(keras.Model):
    def __init__(self, head=None, **kwargs):
        super().__init__(**kwargs)
        self.flatten, self.norm = L.Flatten(), L.BatchNormalization(name="bn")
        self.drop, self.head = L.Dropout(0.5), head or L.Dense(CLASSES)

    def build(self, input_shape):
        size = int(np.prod(input_shape[1:]))
        self.norm.build((None, size))
        self.head.build((None, size))
        super().build(input_shape)  # where Keras 2 notes the shape

    def call(self, x, training=False):
        x = self.norm(self.flatten(x), training=training)
        return self.head(self.drop(x, training=training))


@keras.saving.register_keras_serializable("tests")
class Saved(Subclassed):
    def get_config(self):
        return {"name": self.name}


@pytest.mark.parametrize(
    "make, hint",
    [
        (lambda: keras.Sequential([L.Flatten(), L.Dense(3)]), r"keras.Input\(.*model.build\("),
        (Subclassed, r"call it on images once, model\(tf.zeros.*WholeClassifier"),
    ],
)
def test_unbuilt_models_are_told_how_to_be_built(make, hint):
    for call in (lambda m: methods.TRADES(m, PGD), split):
        with pytest.raises(ValueError, match="is not built.*" + hint):
            call(make())
    model = make()
    model.build((None, *SHAPE))
    assert methods.TRADES(model, PGD).network.image_shape == SHAPE


@pytest.mark.parametrize("built", ["by a call", "by build", "hint"])
def test_a_subclassed_model_is_trained_whole(built, tmp_path):
    model = Saved()
    if built == "by a call":
        model(X)
    elif built == "by build":
        model.build((None, *SHAPE))
    given = WholeClassifier(model, image_shape=SHAPE) if built == "hint" else model
    trained = methods.TRADES(given, attacks.PGD(0.1, 0.05, 2, batch_norm="batch"))
    network = trained.network
    assert isinstance(network, WholeClassifier) and network.forward(X).features is None
    assert (network.image_shape, network.num_classes) == (SHAPE, CLASSES)
    assert network.has_batch_norm
    trained.compile(keras.optimizers.SGD(0.1))
    x, y = labelled()
    before = [compat.raw(v).numpy() for v in model.trainable_variables]
    trained.fit(x, y, epochs=2, verbose=0)
    for old, new in zip(before, model.trainable_variables, strict=True):
        assert (old != compat.raw(new).numpy()).any()
    with forward_mode(seed=(1, 2)):
        same_bits(network(X, training=True), network(X, training=True))
    trained.save(tmp_path / "model.keras")
    same_bits(keras.models.load_model(tmp_path / "model.keras")(X), trained(X))


@pytest.mark.parametrize("method", ["LAT", "TLA", "ADR"])
def test_methods_of_features_refuse_a_model_without(method):
    model = Subclassed()
    model(X)
    with pytest.raises(ValueError, match=f"{method} works on the features.*models.split"):
        getattr(methods, method)(model, PGD)
    with pytest.raises(ValueError, match="called by code of its own, which cannot be cut"):
        split(model)


def test_needs_follow_the_weights_of_terms():
    model = Subclassed()
    model(X)
    methods.ADR(model, PGD, "none", smoothness=1.0)
    methods.TLA(model, PGD, triplet=0.0, norms=0.0)


def test_a_functional_model_without_a_cut_is_taken_whole():
    images = keras.Input(SHAPE)
    x = L.Flatten()(images)
    two = keras.Input((2,))
    model = keras.Model(images, L.Add()([L.Dense(3)(x), L.Dense(3)(x * 2.0)]))
    # The cut behind Flatten has all weights behind it, and is one.
    assert split(model).generator.output_shape == (None, 64)
    bare = keras.Model(two, L.Dense(3, activation="softmax")(two))
    with pytest.raises(ValueError, match="cannot be cut: before its last layer with weights"):
        split(bare)
    network = methods.Standard(bare).network
    assert isinstance(network, WholeClassifier)
    np.testing.assert_allclose(tf.nn.softmax(network(tf.ones((1, 2)))), bare(tf.ones((1, 2))))


def ended(how):
    """The model's end by its name: (model, what its logits are to give)."""
    images = keras.Input(SHAPE)
    x = L.Dense(4, activation="tanh")(L.Flatten()(images))
    if how == "dense":
        y = L.Dense(3, activation="softmax", name="end")(x)
    elif how == "function":
        y = L.Dense(3, activation=tf.nn.softmax, name="end")(x)
    elif how == "layer":
        y = L.Softmax(name="end")(L.Dense(3)(x))
    elif how == "activation":
        y = L.Activation("softmax", name="end")(L.Dense(3)(x))
    elif how == "operator":
        operator = keras.ops.softmax if compat.KERAS_3 else tf.nn.softmax
        y = operator(L.Dense(3)(x))
    elif how == "convolution":
        y = L.Flatten()(L.Conv2D(3, 1)(L.Reshape((1, 1, 4))(x)))
        y = L.Activation("softmax")(y)
    else:  # inside another model
        inner = keras.Input((4,))
        y = keras.Model(inner, L.Dense(3, activation="softmax")(inner))(x)
    return keras.Model(images, y)


@pytest.mark.parametrize(
    "how", ["dense", "function", "layer", "activation", "operator", "convolution", "nested"]
)
def test_a_softmax_is_taken_off(how, tmp_path):
    model = ended(how)
    before = model(X).numpy()
    with pytest.warns(
        UserWarning, match="ends in a softmax .* taken off.* weights are shared"
    ) as w:
        network = split(model)
    assert sum("softmax" in str(one.message) for one in w) == 1
    same_bits(model(X), before)
    logits = network(X).numpy()
    assert np.abs(logits.sum(1) - 1).max() > 1e-3
    np.testing.assert_allclose(tf.nn.softmax(logits), before, rtol=1e-6)
    same_weights_shared(network, model)
    for variable in model.trainable_variables:
        compat.raw(variable).assign_add(0.1 * tf.ones_like(compat.raw(variable)))
    np.testing.assert_allclose(tf.nn.softmax(network(X)), model(X), rtol=1e-6)
    network.save(tmp_path / "network.keras")
    same_bits(keras.models.load_model(tmp_path / "network.keras")(X), network(X))


@pytest.mark.parametrize("layer", [False, True])
def test_one_sigmoid_unit_becomes_two_logits(layer):
    end = [L.Dense(1), L.Activation("sigmoid")] if layer else [L.Dense(1, activation="sigmoid")]
    model = chain(L.Flatten(), L.Dense(4), *end)
    with pytest.warns(UserWarning, match=r"ends in a sigmoid .* two logits \[0, z\]"):
        network = split(model)
    logits, p = network(X).numpy(), model(X).numpy()[:, 0]
    assert network.num_classes == 2
    same_bits(logits[:, 0], np.zeros(5))
    np.testing.assert_allclose(logits[:, 1], np.log(p / (1 - p)), rtol=1e-4, atol=1e-6)
    trained = methods.TRADES(model, PGD)
    trained.compile(keras.optimizers.SGD(0.1))
    x, y = labelled()
    trained.fit(x, y % 2, verbose=0)


def test_log_softmax_may_stay():
    model = chain(L.Flatten(), L.Dense(3, activation="log_softmax"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        same_bits(split(model)(X), model(X))


@pytest.mark.parametrize(
    "end, message",
    [
        ([L.Dense(3, activation="sigmoid")], "3 sigmoid units .* one class"),
        ([L.Dense(1)], "one number for each image and no sigmoid"),
        ([L.Dense(3), L.Softmax(), L.Reshape((3,))], "ends in a softmax behind which"),
        ([L.Dense(6), L.Reshape((2, 3))], r"gives \(None, 2, 3\); a classifier gives logits"),
        ([L.Dense(3), L.Softmax(), L.Lambda(lambda p: p * 1.0)], "gives probabilities"),
    ],
)
def test_other_ends_are_refused(end, message):
    with pytest.raises(ValueError, match=message):
        split(chain(L.Flatten(), L.Dense(2), *end))


def test_probabilities_of_a_subclassed_model_are_refused():
    model = Subclassed(L.Dense(3, activation="softmax"))
    model(X)
    with pytest.raises(ValueError, match="gives probabilities .* end it before the softmax"):
        methods.TRADES(model, PGD)


@pytest.mark.parametrize("end", ["sigmoid", "operator", "reshaped"])
def test_split_classifier_looks_at_its_end_alike(end):
    generator = keras.Sequential([keras.Input((4,)), L.Dense(3)])
    z = keras.Input((3,))
    y = L.Dense(3, activation="sigmoid")(z)
    if end != "sigmoid":
        y = L.Activation(tf.nn.softmax)(L.Dense(3)(z))
    if end == "reshaped":
        y = L.Reshape((3,))(y)
    with pytest.raises(ValueError, match="ends in a (softmax|sigmoid); it must return logits"):
        SplitClassifier(generator, keras.Model(z, y))


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_several_outputs(kind):
    images = keras.Input(SHAPE)
    x = L.Flatten()(images)
    made = {"logits": L.Dense(3)(L.Dense(4)(x)), "rest": L.Dense(7)(x)}
    model = keras.Model(images, made if kind == "dict" else list(made.values()))
    key = "logits" if kind == "dict" else 0
    shown = rf"models.split\(model, output={key!r}\).*lambda x: model\(x\)\[{key!r}\]"
    for call in (split, lambda m: methods.TRADES(m, PGD)):
        with pytest.raises(ValueError, match=shown):
            call(model)
    with pytest.raises(ValueError, match="output='other' is none of them"):
        split(model, output="other")
    same_bits(split(model, output=key)(X), model(X)[key])


def test_several_inputs_and_no_models():
    a, b = keras.Input((4,)), keras.Input((4,))
    with pytest.raises(ValueError, match="takes 2 inputs"):
        split(keras.Model([a, b], L.Dense(3)(L.Add()([a, b]))))
    with pytest.raises(TypeError, match="the network is a function; give a built Keras model"):
        split(lambda x: x)
    with pytest.raises(TypeError, match="the network is a TRADES; give its network"):
        split(methods.TRADES(plain_network(), PGD))


@pytest.mark.parametrize("shape, classes", [((9, 7, 3), 3), ((8, 8, 4), 3), ((8, 8, 3), 1000)])
def test_odd_sides_four_channels_and_many_classes(shape, classes):
    model = chain(
        L.Conv2D(3, 3, 2, padding="same"),
        L.BatchNormalization(),
        L.GlobalAveragePooling2D(),
        L.Dropout(0.1),
        L.Dense(classes, activation="softmax"),
        shape=shape,
    )
    rng = np.random.default_rng(0)
    x = rng.random((6, *shape)).astype("float32")
    y = rng.integers(0, classes, 6).astype("int32")
    with pytest.warns(UserWarning, match="softmax"):
        network = split(model)
    trained = methods.TRADES(network, attacks.TRADESAttack(0.1, 0.05, 2))
    trained.compile(keras.optimizers.SGD(0.1), evaluation_attack=PGD)
    trained.fit(x, y, verbose=0)
    x_adv = PGD(network, x, y)
    assert np.abs(x_adv - x).max() == pytest.approx(0.1, abs=1e-6)
    assert np.isfinite(trained.evaluate(x, y, verbose=0)).all()


def test_a_whole_model_exports_without_features(tmp_path):
    model = Subclassed()
    model(X)
    with pytest.raises(TypeError, match="give models.split.model., or models.WholeClassifier"):
        export.export(model, tmp_path / "saved")
    export.export(WholeClassifier(model), tmp_path / "saved")
    signatures = tf.saved_model.load(str(tmp_path / "saved")).signatures
    assert "features" not in signatures
    given = signatures["serving_default"](images=X)["logits"]
    np.testing.assert_allclose(given, model(X), rtol=1e-5, atol=1e-6)


def test_cut_and_converted_it_loads_elsewhere_and_exports(tmp_path):
    model = plain_network(dropout=0.3)
    wrapped = models.with_input_range(keras.Model(model.input, L.Softmax()(model.output)), (-1, 1))
    with pytest.warns(UserWarning, match="softmax"):
        network = split(wrapped, "add")
    network.save(tmp_path / "network.keras")
    np.save(tmp_path / "x.npy", X)
    code = (
        "import numpy as np, keras, robust_tf.models; "
        f"m = keras.models.load_model({str(tmp_path / 'network.keras')!r}); "
        f"np.save({str(tmp_path / 'y.npy')!r}, m(np.load({str(tmp_path / 'x.npy')!r})))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    same_bits(np.load(tmp_path / "y.npy"), network(X))
    export.export(network, tmp_path / "saved")
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    given = loaded.signatures["serving_default"](images=X)
    np.testing.assert_allclose(given["logits"], network(X), rtol=1e-5, atol=1e-6)
    features = loaded.signatures["features"](images=X)["features"]
    np.testing.assert_allclose(features, network.features(X), rtol=1e-5, atol=1e-6)
