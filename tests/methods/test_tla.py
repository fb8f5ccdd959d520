"""TLA, its step written out with batch normalisation, one triplet at a time."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, methods
from robust_tf.attacks.randomness import fold
from tests.methods import reference_step
from tests.tiny import labelled, tiny_network

BIM = attacks.BIM(0.1, 0.06, 2)
# Two of each class, so that the other positive leaves no choice.
X, Y = labelled(6)
RATE, TRIPLET, MARGIN, NORMS = 0.1, 2.0, 0.5, 0.3


def built(batch_norm=True, **kwargs):
    arguments = {"triplet": TRIPLET, "margin": MARGIN, "norms": NORMS, **kwargs}
    return reference_step.built(methods.TLA, BIM, rate=RATE, batch_norm=batch_norm, **arguments)


def cosine(a, b):
    return tf.reduce_sum(a * b) / tf.sqrt(tf.reduce_sum(a * a) * tf.reduce_sum(b * b))


def by_hand_terms(pool, adv, log_q, y, positive):
    """Means over the anchors, which are the first of the pool."""
    triplet = norms = entropy = tf.constant(0.0, tf.float64)
    for i in range(len(adv)):
        entropy -= log_q[i, y[i]]
        wrong = [j for j in range(len(y)) if y[j] != y[i]]
        hardest = pool[max(wrong, key=lambda j: float(cosine(adv[i], pool[j])))]
        near = [i] if positive != "other" else []
        if positive != "own":
            near += [j for j in range(len(y)) if y[j] == y[i] and j != i]
        for j in near:
            gap = (1 - abs(cosine(adv[i], pool[j]))) - (1 - abs(cosine(adv[i], hardest)))
            triplet += tf.maximum(gap + MARGIN, 0.0)
            norms += tf.reduce_mean(adv[i] ** 2 + pool[j] ** 2 + hardest**2)
    count = len(adv)
    return {"adversarial": entropy / count, "triplet": triplet / count, "norms": norms / count}


@pytest.mark.parametrize(
    "positive, anchors, weights",
    [
        ("other", 1.0, {"triplet": TRIPLET, "norms": NORMS}),
        ("own", 1.0, {"triplet": TRIPLET}),
        ("both", 0.5, {"triplet": TRIPLET, "norms": NORMS}),
        ("other", 0.4, {"norms": NORMS}),
    ],
)
def test_step(positive, anchors, weights):
    left_out = dict.fromkeys({"triplet", "norms"} - set(weights), 0.0)
    model = built(positive=positive, anchors=anchors, **left_out)
    count = round(anchors * len(X))
    x_adv = reference_step.generated(model, X, Y)
    alone = BIM(model.network, X[:count], Y[:count])
    np.testing.assert_allclose(x_adv, alone, rtol=0, atol=1e-6)
    weights = {"adversarial": 1.0, **weights}

    def terms_of(clean, adv):
        (_, pool, _), (logits, z, _) = clean, adv
        return by_hand_terms(pool, z, reference_step.log_softmax(logits), Y, positive)

    reference_step.check_step(model, X, Y, x_adv, terms_of, weights, RATE)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_without_triplets_it_is_adversarial_training_of_the_anchors(batch_norm):
    model = built(batch_norm, triplet=0.0, norms=0.0, anchors=0.5)
    plain = methods.AdversarialTraining(tiny_network(batch_norm), BIM)
    plain.network.set_weights(model.network.get_weights())
    plain.compile(keras.optimizers.SGD(RATE))
    logs = model.train_on_batch(X, Y, return_dict=True)
    assert set(logs) == {"loss", "adversarial", "robust_accuracy"}
    assert logs == pytest.approx(plain.train_on_batch(X[:3], Y[:3], return_dict=True))
    for one, other in zip(model.network.get_weights(), plain.network.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "x, y, positive, missing",
    [
        (X[:1], Y[:1], "other", True),
        (X[:1], Y[:1], "both", True),
        (X, 0 * Y, "both", True),  # no negative
        (X[:3], Y[:3], "other", True),  # one of each class
        (X[:3], Y[:3], "own", False),
    ],
)
def test_triplets_that_do_not_exist_count_as_zero(x, y, positive, missing):
    model = built(positive=positive, margin=1.5)  # no hinge is met
    logs = model.train_on_batch(x, y, return_dict=True)
    for name in ("triplet", "norms"):
        assert (logs[name] == 0) == missing, name
    if missing:
        assert logs["loss"] == pytest.approx(logs["adversarial"])
    assert all(np.isfinite(w).all() for w in model.network.get_weights())


def forwarded(model, x=X, y=Y):
    seed = fold(tf.constant([1, 2]), 0)
    adversarial = methods.AdversarialBatch(tf.constant(x[: round(model.anchors * len(x))]))
    return model.forward(tf.constant(x), tf.constant(y), adversarial, seed)


def test_noise_is_of_the_anchors_clean_images_alone():
    x = np.clip(X, 0.05, 0.9)
    batch = forwarded(built(positive="both", anchors=0.5, noise=0.1), x)
    quiet = forwarded(built(positive="both", anchors=0.5), x)
    moved = np.abs(batch.x - x[:3])
    assert 0.095 < moved.max() <= 0.1 + 1e-6 and 0.03 < moved.mean() < 0.06
    assert float(tf.reduce_min(batch.x)) >= 0 and float(tf.reduce_max(batch.x)) <= 1
    np.testing.assert_array_equal(quiet.x, x[:3])
    without = built(False, positive="both", anchors=0.5, noise=0.1)
    pool = forwarded(without, x).pool.features
    np.testing.assert_allclose(pool[3:], without.network.features(x[3:]), rtol=0, atol=1e-6)
    assert np.abs(pool[:3] - without.network.features(x[:3])).max() > 1e-2


def test_one_forward_without_batch_statistics_gives_what_two_give():
    model = built(False, anchors=0.5, positive="both")
    batch = forwarded(model)
    np.testing.assert_allclose(batch.clean.logits, model.network(X[:3]), rtol=0, atol=1e-6)
    np.testing.assert_allclose(batch.adv.logits, model.network(X[:3]), rtol=0, atol=1e-6)
    np.testing.assert_allclose(batch.pool.features, model.network.features(X), atol=1e-6)
    np.testing.assert_array_equal(batch.pool.y, Y)


def test_bfloat16_network(mixed_bfloat16):
    logs = built(False, positive="both").train_on_batch(X, Y, return_dict=True)
    assert all(np.isfinite(value) for value in logs.values())
    assert logs["triplet"] > 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"triplet": -1.0}, r"triplet=-1.0\): .* >= 0; 2 for CIFAR-10"),
        ({"margin": float("nan")}, r"margin=nan\)"),
        ({"norms": float("inf")}, r"norms=inf\)"),
        ({"noise": -0.1}, r"noise=-0.1\)"),
        ({"noise": 0.1}, "use positive='own' or 'both', or noise=0"),
        ({"positive": "hard"}, r"positive='hard'\): must be one of \('other', 'own', 'both'\)"),
        ({"anchors": 0.0}, r"anchors=0.0\): must be in \(0, 1\]"),
        ({"anchors": 500}, r"anchors=500\): must be in \(0, 1\]"),
        ({"attack": None}, "give the training adversary"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        methods.TLA(tiny_network(), **{"attack": BIM, **arguments})
