import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf.models import CNN, SplitClassifier


def small(last):
    generator = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    return generator, keras.Sequential([keras.Input((3,)), *last])


@pytest.mark.parametrize(
    "last",
    [
        [keras.layers.Dense(2, activation="softmax")],
        [keras.layers.Dense(2), keras.layers.Softmax()],
        [keras.layers.Dense(2), keras.layers.Activation("softmax")],
    ],
    ids=["dense", "layer", "activation"],
)
def test_a_classifier_that_ends_in_a_softmax_is_refused(last):
    with pytest.raises(ValueError, match="softmax.*must return logits"):
        SplitClassifier(*small(last))


def test_halves_that_do_not_fit_are_refused():
    generator, _ = small([keras.layers.Dense(2)])
    classifier = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"\(3,\).*\(5,\)"):
        SplitClassifier(generator, classifier)


def test_the_two_halves_are_the_whole(rng):
    model = SplitClassifier(*small([keras.layers.Dense(2)]))
    x = tf.constant(rng.normal(0, 1, (5, 4)), tf.float32)
    logits, features = model.forward(x)
    np.testing.assert_array_equal(features, model.features(x))
    np.testing.assert_array_equal(logits, model.classify(features))
    np.testing.assert_array_equal(logits, model(x))
    assert (model.image_shape, model.num_classes, model.has_batch_norm) == ((4,), 2, False)


def test_training_reaches_both_halves():
    model = CNN((18, 18, 1), 3, filters=2, hidden=50, cut="2conv")
    model.classifier.get_layer("logits").kernel.assign(tf.random.normal((50, 3)))
    x = tf.random.uniform((2, 18, 18, 1))
    assert np.abs(model(x, training=True) - model(x, training=True)).max() > 0
    np.testing.assert_array_equal(model(x), model(x, training=False))
