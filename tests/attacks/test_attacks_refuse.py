"""Wrong input to attacks, and what the errors say; gin names."""

import warnings

import gin
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks
from tests.tiny import Smooth, images

X, Y = images(3), np.array([0, 1, 2], "int32")
PGD = {"eps": 0.3, "step_size": 0.1, "steps": 2}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"eps": -0.1}, r"PGD\(eps=-0.1\): must be in \[0, 1\]; use 8 / 255"),
        ({"eps": -1, "norm": "L2"}, r"PGD\(eps=-1\): must be a finite number >= 0"),
        ({"eps": float("nan")}, r"PGD\(eps=nan\): must be in \[0, 1\]"),
        ({"eps": float("inf"), "norm": "L2"}, r"PGD\(eps=inf\): must be a finite number"),
        ({"eps": "0.3"}, r"PGD\(eps='0.3'\): must be in \[0, 1\]"),
        ({"eps": True}, r"PGD\(eps=True\): must be in \[0, 1\]"),
        ({"eps": 8}, r"PGD\(eps=8\): must be in \[0, 1\]; images are in .*: 8/255\?"),
        ({"eps": np.float32(4)}, r"must be in \[0, 1\]; images are in .*: 4/255\?"),
        ({"step_size": 2}, r"\(step_size=2\): must be in \(0, 1\]; images are in .*: 2/255\?"),
        ({"step_size": 0}, r"PGD\(step_size=0\): must be in \(0, 1\]; common are"),
        ({"step_size": -0.1}, r"PGD\(step_size=-0.1\)"),
        ({"steps": 0}, r"steps=0\): must be an integer >= 1"),
        ({"steps": 2.5}, r"steps=2.5\): must be an integer >= 1"),
        ({"steps": True}, r"steps=True\): must be an integer >= 1"),
        ({"restarts": 0}, r"restarts=0\): must be an integer >= 1"),
        ({"keep": "worst"}, r"keep='worst': must be 'last' or 'best'"),
        ({"norm": "L3"}, r"norm='L3'\): must be one of \('Linf', 'L2', 'L1'\)"),
        ({"batch_norm": "eval"}, r"batch_norm='eval': must be one of \('running', 'batch', 'trai"),
    ],
)
def test_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        attacks.PGD(**{**PGD, **arguments})


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: attacks.MIM(**PGD, decay=-1.0), r"Momentum\(decay=-1.0\): .* the paper uses 1"),
        (
            lambda: attacks.CW(**PGD, confidence=-1.0),
            r"Margin\(confidence=-1.0\): must be a finite",
        ),
        (lambda: attacks.TRADESAttack(**PGD, direction="both"), "must be 'clean_adv' or 'adv_clea"),
        (lambda: attacks.TRADESAttack(**PGD, random_start="no"), r"random_start='no': must be one"),
        (lambda: attacks.MultiTargeted(attacks.TRADESAttack(**PGD)), "it has no labels; use Cross"),
        (
            lambda: attacks.ProjectedGradient(
                attacks.Linf(0.3),
                attacks.Steepest(0.1),
                1,
                attacks.KLDivergence(),
                attacks.CleanStart(),
            ),
            "gradient is zero at the clean image, .* use UniformStart",
        ),
    ],
)
def test_settings_of_others(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "x, y, error, message",
    [
        (X * 255, Y, ValueError, r"images range over \[0, 255\]; expected \[0, 1\]: divide by 255"),
        (X - 0.5, Y, ValueError, r"images range over \[-0.5, 0.5\]; .*: clip or rescale them"),
        (X + np.float32("nan"), Y, ValueError, r"images range over \[nan, nan\]"),
        ((X * 255).astype("uint8"), Y, TypeError, "images are uint8; .* divided by 255"),
        (X.astype("float64"), Y, TypeError, "images are float64; attacks take float32"),
        (X, np.array([0, 1, 3]), ValueError, r"range over \[0, 3\]; the model has 3 .* 0\.\.2"),
        (X, np.array([0, 1, -1]), ValueError, r"labels range over \[-1, 1\]"),
        (X, np.eye(3, dtype="int32"), ValueError, r"one-hot; give class ids .* tf.argmax\(y, axi"),
        (X, np.array([[0], [1], [2]]), ValueError, r"shape \(3, 1\), .* tf.squeeze\(y, axis=1\)"),
        (X, np.array([0.0, 1.0, 2.0]), TypeError, "labels are float64; expected integer class ids"),
        (X, Y[:2], ValueError, "3 images but 2 labels"),
    ],
)
def test_data(x, y, error, message):
    with pytest.raises(error, match=message):
        attacks.PGD(**PGD)(Smooth(), x, y)


def test_what_a_graph_can_know_is_refused_there_too():
    attack, model = attacks.PGD(**PGD), Smooth()
    with pytest.raises(TypeError, match="images are uint8"):
        tf.function(lambda x, y: attack(model, x, y))((X * 255).astype("uint8"), Y)
    with pytest.raises(ValueError, match="one-hot"):
        tf.function(lambda x, y: attack(model, x, y))(X, np.eye(3, dtype="int32"))


def test_model_without_logits():
    with pytest.raises(
        ValueError, match=r"the model returns shape \(3, 8, 8, 1\); expected logits"
    ):
        attacks.PGD(**PGD)(lambda x: x, X, Y)


@pytest.mark.parametrize("model", [None, "model.keras"])
def test_what_is_no_model(model):
    with pytest.raises(TypeError, match="the model is .*; give a Keras model, or any cal"):
        attacks.PGD(**PGD)(model, X, Y)


def test_probabilities_are_warned_of():
    smooth = Smooth()
    with pytest.warns(UserWarning, match="probabilities, not logits: .* models.split"):
        attacks.PGD(**PGD)(lambda x: tf.nn.softmax(smooth(x)), X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        attacks.PGD(**PGD)(smooth, X, Y)


def test_gin_names():
    gin.parse_config("""
        PGD.eps = 0.1
        PGD.step_size = 0.02
        PGD.steps = 3
        MultiTargeted.attack = @PGD()
    """)
    assert attacks.PGD() == attacks.PGD(0.1, 0.02, 3)
    assert attacks.MultiTargeted().attack == attacks.PGD(0.1, 0.02, 3)
    with pytest.raises(ValueError, match="'PGD' doesn't have a parameter named 'stepsize'"):
        gin.parse_config("PGD.stepsize = 0.02")
