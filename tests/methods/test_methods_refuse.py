"""Settings of methods: presets, gin names, and what is refused with which words."""

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, methods
from tests.tiny import CLASSES, labelled, same_bits, tiny_network, weights_of

BIM = attacks.BIM(0.1, 0.05, 2)
X, Y = labelled()


@pytest.mark.parametrize("method", [methods.AdversarialTraining, methods.TRADES, methods.ADR])
def test_an_adversary_is_needed(method):
    with pytest.raises(ValueError, match="give the training adversary"):
        method(tiny_network(), None)


ONE_POINT = attacks.PGD(0.0, 0.05, 2)
KL_ONE_POINT = attacks.TRADESAttack(0.0, 0.05, 2)


@pytest.mark.parametrize(
    "method, attack, settings, zero",
    [
        (methods.AdversarialTraining, ONE_POINT, {}, ()),
        (methods.AdversarialTraining, ONE_POINT, {"clean_weight": 0.5}, ()),
        (methods.TRADES, KL_ONE_POINT, {}, ("divergence",)),
        (methods.ALP, ONE_POINT, {}, ("pairing",)),
        (methods.MART, ONE_POINT, {}, ("divergence",)),
        (methods.TLA, ONE_POINT, {}, ()),
        (methods.LAT, ONE_POINT, {}, ()),
        (methods.Bilateral, ONE_POINT, {}, ()),
        (methods.FeatureScattering, methods.ScatteringAttack(0.0), {}, ()),
        (methods.ADR, ONE_POINT, {"preset": "code"}, ("local", "smoothness")),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_eps_0_trains_on_the_clean_images(method, attack, settings, zero):
    """A ball of one point; ATLD and squeeze training refuse it."""
    model = method(tiny_network(), attack, **settings)
    model.compile(keras.optimizers.SGD(0.1))
    images, generate = tf.Variable(tf.zeros_like(X)), model.generate_adversarial

    def watched(*arguments):
        adversarial = generate(*arguments)
        images.assign(getattr(adversarial, "x_adv", adversarial))
        return adversarial

    model.generate_adversarial = watched
    before = weights_of(model)
    logs = model.train_on_batch(X, Y, return_dict=True)
    same_bits(images, X)
    assert all(np.isfinite(value) for value in logs.values())
    assert all(logs[name] == pytest.approx(0, abs=1e-6) for name in zero)
    for old, new in zip(before, weights_of(model), strict=True):
        assert np.isfinite(new).all() and (new != old).any()


@pytest.mark.parametrize(
    "preset, weights",
    [
        ("table3", {"local": 1.0, "global_": 1.0, "entropy": 1.0}),
        ("table3_cifar10_cnn", {"local": 1.0, "global_": 1.0, "entropy": 1.0, "smoothness": 1.0}),
        ("code", {"local": 1.0, "global_": 1.0, "entropy": 1.0, "smoothness": 1.0}),
        ("none", {}),
    ],
)
def test_presets(preset, weights):
    model = methods.ADR(tiny_network(), BIM, preset)
    assert model.term_weights == {"clean": 0.5, "adversarial": 0.5, **weights}
    model = methods.ADR(tiny_network(), BIM, preset, local=0.0, smoothness=0.25)
    weights = {**weights, "smoothness": 0.25}
    weights.pop("local", None)
    assert model.term_weights == {"clean": 0.5, "adversarial": 0.5, **weights}


def test_gin_binds_constructors():
    gin.parse_config("""
        PGD.eps = 0.2
        PGD.step_size = 0.05
        PGD.steps = 3
        ADR.attack = @PGD()
        ADR.preset = 'code'
        ADR.local = 0.25
        ADR.compactness = @Compactness()
        Compactness.alpha = 0.95
        Compactness.pairs = 'all'
        TRADES.attack = @TRADESAttack()
        TRADES.beta = 1.5
        TRADESAttack.eps = 0.2
        TRADESAttack.step_size = 0.05
        TRADESAttack.steps = 3
        AdversarialTraining.attack = @PGD()
        AdversarialTraining.clean_weight = 0.5
    """)
    model = methods.ADR(tiny_network())
    assert model.attack == attacks.PGD(0.2, 0.05, 3)
    assert (model.term_weights["local"], model.term_weights["smoothness"]) == (0.25, 1.0)
    assert model.compactness == methods.Compactness(0.95, "all")
    trades = methods.TRADES(tiny_network())
    assert (trades.beta, trades.attack) == (1.5, attacks.TRADESAttack(0.2, 0.05, 3))
    assert methods.AdversarialTraining(tiny_network()).clean_weight == 0.5
    again = methods.ADR.from_config(model.get_config())
    assert (again.compactness, again.term_weights) == (model.compactness, model.term_weights)
    with pytest.raises(ValueError, match="'ADR' doesn't have a parameter named 'lokal'"):
        gin.parse_config("ADR.lokal = 1.0")


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda n: methods.ADR(n, BIM, "table4"), ValueError, r"preset='table4'\): must be one of"),
        (lambda n: methods.ADR(n, BIM, local=-1.0), ValueError, r"ADR\(local=-1.0\): weights must"),
        (lambda n: methods.ADR(n, BIM, virtual=float("nan")), ValueError, r"ADR\(virtual=nan\)"),
        (lambda n: methods.TRADES(n, BIM, beta=-6), ValueError, r"TRADES\(beta=-6\)"),
        (
            lambda n: methods.AdversarialTraining(n, attacks.PGD(0.1, 0.1, 1, targeted=True)),
            ValueError,
            "it is targeted, and training gives no classes",
        ),
        (lambda n: methods.AdversarialTraining(n, BIM, 1.0), ValueError, r"must be in \[0, 1\)"),
        (lambda n: methods.Standard(n, BIM), ValueError, "it takes no attack"),
        (
            lambda n: methods.Standard("model.keras"),
            TypeError,
            "Standard: the network is a str; give a built Keras model",
        ),
        (lambda n: methods.Compactness(alpha=1.0), ValueError, r"alpha=1.0\): must be in \(0, 1\)"),
        (
            lambda n: methods.Compactness(pairs="some"),
            ValueError,
            r"pairs='some'\): must be one of",
        ),
        (lambda n: methods.Compactness(norm=0.5), ValueError, r"norm=0.5\): must be >= 1"),
    ],
)
def test_constructors_refuse(make, error, message):
    with pytest.raises(error, match=message):
        make(tiny_network())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"loss": "mse"}, r"compile\(loss=...\): Standard has its own loss and metrics"),
        ({"metrics": ["accuracy"]}, r"compile\(metrics=...\)"),
        ({"weight_decay": -0.1}, r"compile\(weight_decay=-0.1\): must be >= 0"),
        ({"eps_warmup_steps": -1}, r"compile\(eps_warmup_steps=-1\): must be >= 0"),
    ],
)
def test_compile_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        methods.Standard(tiny_network()).compile("sgd", **arguments)


@pytest.mark.parametrize(
    "data, error, message",
    [
        ((X, np.eye(CLASSES, dtype="int32")[Y]), ValueError, "looks one-hot; give class ids"),
        ((X, Y[:, None]), ValueError, r"labels have shape \(None, 1\), a column; .*squeeze"),
        (
            (X[:, 1:], Y),
            ValueError,
            r"images have shape \(7, 8, 1\), the network takes \(8, 8, 1\): resize the images",
        ),
        (
            (X.squeeze(-1), Y),
            ValueError,
            r"images have shape \(8, 8\), the network takes \(8, 8, 1",
        ),
        ((X, Y.astype("float32")), TypeError, "labels are float32; expected integer class ids"),
        (((X * 255).astype("uint8"), Y), TypeError, "images are uint8; .* divided by 255"),
    ],
)
def test_fit_refuses(data, error, message):
    model = methods.AdversarialTraining(tiny_network(), BIM)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=False)
    with pytest.raises(error, match=message):
        model.fit(*data, verbose=0)


@pytest.mark.parametrize(
    "data, message",
    [
        ((X * 255, Y), r"images must be finite and in \[0, 1\], divided by 255"),
        ((np.full_like(X, np.nan), Y), r"images must be finite and in \[0, 1\]"),
        ((X, Y + CLASSES), f"labels must be class ids in 0..{CLASSES - 1}"),
        ((X, Y - 1), f"labels must be class ids in 0..{CLASSES - 1}"),
    ],
)
@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_values_are_checked_as_the_step_runs(call, data, message):
    model = methods.AdversarialTraining(tiny_network(), BIM)
    model.compile(keras.optimizers.SGD(0.1))
    before = weights_of(model)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        getattr(model, call)(*data, verbose=0)
    for old, new in zip(before, weights_of(model), strict=True):
        same_bits(old, new)
