"""Training on unions of balls: its losses, from images that the attacks make alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import compat, methods
from robust_tf.attacks import BIM, MSD, PGD, Union
from tests.tiny import CLASSES, cross_entropies, labelled, same_bits, tiny_network

# From the clean image, so that a separate call gives the same images.
MEMBERS = [
    BIM(0.1, 0.05, 2),
    BIM(0.6, 0.3, 2, norm="L2"),
    BIM(2.0, 1.0, 2, norm="L1"),
]


def step(model, x, y):
    """The logs of one step on a batch, and the images that it trained on."""
    made = []
    generate = model.generate_adversarial

    def watched(*arguments):
        made.append(generate(*arguments))
        return made[-1]

    model.generate_adversarial = watched
    logs = {name: float(value) for name, value in model.train_step((x, y)).items()}
    return logs, made[0]


def built(choose, members=MEMBERS, batch_norm=False):
    model = methods.UnionTraining(tiny_network(batch_norm), members, choose)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def separate():
    """Labelled images, each member's, and cross-entropies (members, B) by NumPy."""
    network, (x, y) = tiny_network(), labelled()
    candidates = [one(network, x, y).numpy() for one in MEMBERS]
    return x, y, candidates, np.stack([cross_entropies(network, one, y) for one in candidates])


def test_max_trains_on_each_images_worst_candidate(separate):
    x, y, candidates, values = separate
    logs, x_adv = step(built("max"), x, y)
    worst = values.argmax(0)
    assert len(set(worst)) > 1
    for k, which in enumerate(worst):
        np.testing.assert_allclose(x_adv[k], candidates[which][k], rtol=0, atol=1e-6)
    assert logs["loss"] == logs["adversarial"] == pytest.approx(values.max(0).mean(), abs=1e-5)


def test_average_is_the_mean_of_separate_losses(separate):
    x, y, candidates, values = separate
    model, network = built("average"), tiny_network()
    logs, made = step(model, x, y)
    assert len(made.images) == 3
    assert model.term_weights == {"linf": 1 / 3, "l2": 1 / 3, "l1": 1 / 3}
    for name, value in zip(("linf", "l2", "l1"), values, strict=True):
        assert logs[name] == pytest.approx(value.mean(), abs=1e-5)
    assert logs["loss"] == pytest.approx(values.mean(), abs=1e-5)
    right = [np.argmax(network(one), 1) == y for one in candidates]
    assert logs["robust_accuracy"] == pytest.approx(np.logical_and.reduce(right).mean(), abs=1e-6)
    # The gradient is that of the mean, by plain Keras on the images that were made.
    with tf.GradientTape() as tape:
        each = [
            keras.losses.sparse_categorical_crossentropy(y, network(one), from_logits=True)
            for one in candidates
        ]
        loss = tf.reduce_mean(tf.stack(each))
    gradients = tape.gradient(loss, [compat.raw(v) for v in network.trainable_variables])
    variables = network.trainable_variables, model.network.trainable_variables
    pairs = zip(*variables, gradients, strict=True)
    for before, after, gradient in pairs:
        np.testing.assert_allclose(
            np.asarray(after), np.asarray(before) - 0.1 * gradient.numpy(), atol=1e-5
        )


def test_average_of_a_network_with_batch_statistics_forwards_each_attacks_images_alone(separate):
    x, y = separate[:2]
    model, network = built("average", MEMBERS[:2], batch_norm=True), tiny_network(batch_norm=True)
    logs, made = step(model, x, y)
    for name, images in zip(("linf", "l2"), made.images, strict=True):
        value = cross_entropies(lambda x: network(x, training=True), images, y).mean()
        assert logs[name] == pytest.approx(value, abs=1e-5)


def test_msd_trains_on_one_ascent(separate):
    x, y = separate[:2]
    logs, x_adv = step(built("msd"), x, y)
    expected = MSD(MEMBERS)(tiny_network(), x, y)
    np.testing.assert_allclose(x_adv, expected, rtol=0, atol=1e-5)
    value = cross_entropies(tiny_network(), expected, y).mean()
    assert logs["loss"] == pytest.approx(value, abs=1e-4)


def test_labels_may_be_distributions(separate):
    """Those that are sure give what class ids give; members that judge by class are refused."""
    x, y = separate[:2]
    soft = np.eye(CLASSES, dtype="float32")[y]
    for choose in ("max", "average"):
        hard, mixed = (
            {n: float(v) for n, v in tf.function(built(choose).train_step)((x, labels)).items()}
            for labels in (y, soft)
        )
        assert mixed == pytest.approx(hard, abs=1e-5)
    built("max").check_soft_labels("Mixup()")
    by_class = [MEMBERS[0], PGD(0.1, 0.1, 2, restarts=2)]
    with pytest.raises(ValueError, match="takes class ids"):
        built("max", by_class).check_soft_labels("Mixup()")


def test_it_is_adversarial_training_by_the_union_attack(separate):
    x, y = separate[:2]
    ours = built("max")
    plain = methods.AdversarialTraining(tiny_network(), Union(MEMBERS, keep="loss"))
    plain.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    for model in (ours, plain):
        step(model, x, y)
    pairs = zip(ours.network.trainable_variables, plain.network.trainable_variables, strict=True)
    for one, other in pairs:
        same_bits(np.asarray(one), np.asarray(other))


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"choose='mean'\): must be one of"):
        built("mean")
    with pytest.raises(ValueError, match="from the clean image"):
        built("msd", [MEMBERS[0], PGD(0.1, 0.1, 2)])
    assert list(built("average", [MEMBERS[1], MEMBERS[1], MEMBERS[0]]).term_weights) == [
        "l2",
        "l2_2",
        "linf",
    ]
