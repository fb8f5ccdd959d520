"""Labels between classes, as mixup and CutMix make them: the loss, the attack, and who refuses."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, losses, methods
from robust_tf.attacks import BIM, CW, FGSM, PGD, TRADESAttack
from robust_tf.data import Mixup
from tests.tiny import CLASSES, labelled, tiny_network, weights_of

ABLE = {
    "standard": functools.partial(methods.Standard),
    "smoothed": functools.partial(methods.Standard, label_smoothing=0.3),
    "adversarial": functools.partial(
        methods.AdversarialTraining, attack=BIM(0.1, 0.05, 2), clean_weight=0.4, label_smoothing=0.2
    ),
    "trades": functools.partial(methods.TRADES, attack=TRADESAttack(0.1, 0.05, 2)),
    "adr": functools.partial(methods.ADR, attack=BIM(0.1, 0.05, 2), preset="code"),
}
OF_LABELS = ("cross_entropy", "clean", "adversarial")


def _mixed(seed=0, count=6):
    """Images, two class ids of each, the share of the first, and the labels between them."""
    x, y = labelled(count, seed)
    other = (y + 1 + np.arange(count) % (CLASSES - 1)) % CLASSES
    share = np.linspace(0.55, 0.95, count).astype(np.float32)
    rows = np.eye(CLASSES, dtype=np.float32)
    soft = share[:, None] * rows[y] + (1 - share[:, None]) * rows[other]
    return tf.constant(x), y.astype(np.int32), other.astype(np.int32), share, tf.constant(soft)


@pytest.mark.parametrize("name", ABLE)
def test_loss_is_that_of_both_labels(name):
    """s L(y) + (1 - s) L(y') for cross-entropies; what takes no label stays."""
    x, y, other, share, soft = _mixed()
    model = ABLE[name](tiny_network())
    made = methods.base.AdversarialBatch(tf.clip_by_value(x + 0.05, 0, 1))

    def values(labels):
        terms = model.terms(model.forward(x, tf.constant(labels), made, tf.constant([1, 2])))
        return {term: terms[term]().numpy() for term in model.term_weights}

    one, two, got = values(y), values(other), values(soft)
    for term, value in got.items():
        expected = share * one[term] + (1 - share) * two[term] if term in OF_LABELS else one[term]
        np.testing.assert_allclose(value, expected, atol=2e-5, err_msg=term)


@pytest.mark.parametrize("name", ["smoothed", "adr"])
def test_certain_labels_are_class_ids(name):
    """Training on one-hot rows is training on the ids: weights and accuracies."""
    x, y, *_ = _mixed(count=8)

    def trained(labels):
        keras.utils.set_random_seed(1)
        model = ABLE[name](tiny_network())
        model.compile(keras.optimizers.SGD(0.1), seed=2)
        step = tf.function(model.train_step)
        for _ in range(2):
            logs = step((x, labels))
        return weights_of(model), {key: float(value) for key, value in logs.items()}

    weights, logs = trained(tf.constant(y))
    soft_weights, soft_logs = trained(tf.one_hot(y, CLASSES))
    assert logs == pytest.approx(soft_logs, abs=1e-5)
    for one, other in zip(weights, soft_weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("attack", [FGSM(0.05), BIM(0.05, 0.05, 1)])
def test_attack_ascends_the_mixed_loss(attack):
    x, y, other, share, soft = _mixed()
    network = tiny_network()
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = network(x, training=False)
        loss = share * keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
        loss += (1 - share) * keras.losses.sparse_categorical_crossentropy(
            other, logits, from_logits=True
        )
    expected = np.clip(x + 0.05 * np.sign(tape.gradient(loss, x)), 0, 1)
    got = tf.function(lambda x, y: attack(network, x, y))(x, soft)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_accuracy_is_of_the_larger_label():
    x, y, _, _, soft = _mixed()
    logits = tf.one_hot(y, CLASSES)
    assert methods.batch.correct(logits, soft).numpy().tolist() == [1.0] * 6
    np.testing.assert_array_equal(losses.class_ids(soft), y)
    with pytest.raises(ValueError, match="one-hot"):  # where ids are needed it is still a mistake
        losses.cross_entropy(logits, soft)


def test_who_cannot_says_who_can():
    model = methods.MART(tiny_network(), attack=PGD(0.1, 0.05, 1))
    with pytest.raises(ValueError, match=r"Mixup.*MART.*ADR, Adv.* or UnionTraining"):
        model.check_soft_labels(repr(Mixup()))
    x, _, _, _, soft = _mixed()
    model.compile(seed=0)
    with pytest.raises(ValueError, match="one-hot"):
        model.train_step((x, soft))


@pytest.mark.parametrize(
    "attack",
    [CW(0.1, 0.05, 1), PGD(0.1, 0.05, 1, restarts=2), PGD(0.1, 0.05, 1, keep="best")],
    ids=["margin", "restarts", "best"],
)
def test_attacks_that_judge_by_class_are_refused(attack):
    model = methods.AdversarialTraining(tiny_network(), attack=attack)
    with pytest.raises(ValueError, match="training attack .* takes class ids alone: give one"):
        model.check_soft_labels("Mixup()")
    assert not attacks.AutoAttack.takes_soft_labels and PGD(0.1, 0.05, 1).takes_soft_labels


@pytest.mark.parametrize("change", [lambda y: y * 2, lambda y: y - 0.2, lambda y: y[:, :2]])
def test_rows_that_are_no_distributions_are_refused(change):
    x, *_, soft = _mixed()
    model = methods.Standard(tiny_network())
    model.compile(seed=0)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="distributions"):
        model.train_step((x, change(soft)))
