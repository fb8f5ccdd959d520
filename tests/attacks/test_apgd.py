"""AutoPGD against loops written out in NumPy, and what is told to the reader of a result."""

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks
from robust_tf.attacks.adaptive_steps import checkpoints
from robust_tf.attacks.dlr import difference_of_logits_ratio, targeted_difference_of_logits_ratio
from robust_tf.attacks.objectives import margin
from tests.attacks import reference_apgd as reference
from tests.tiny import SHAPE, Smooth, images


class Recorder(Smooth):
    """A network of so many classes, images of which it is sure, and all images that it sees."""

    def __init__(self, classes=5, seed=7):
        super().__init__(seed)
        rng = np.random.default_rng(seed)
        self.first *= 2  # curved, so that the step sizes take turns
        self.second = rng.normal(0, 1.0, (16, classes)).astype("float32")
        self.numpy = reference.TanhNetwork(self.first, self.second)
        self.seen = []
        x = images(600)
        logits = super().__call__(x).numpy()
        sure = np.diff(np.sort(logits, axis=1)[:, -2:])[:, 0].argsort()[-16:]
        self.x, self.y = x[sure], np.argmax(logits[sure], axis=1).astype("int32")

    def __call__(self, x):
        def keep(x):
            self.seen.append(x)
            return x

        kept = tf.grad_pass_through(lambda x: tf.numpy_function(keep, [x], tf.float32))(x)
        return super().__call__(tf.ensure_shape(kept, x.shape))


def looked_at(attack, model, seed=3):
    """(images at which the attack looked, in order, (iterations, B, ...); what it returned)."""
    model.seen.clear()
    x_adv = attack(model, model.x, model.y, seed=seed).numpy()
    first, clean, *seen = model.seen  # the first one is seen before the attack, to learn of logits
    np.testing.assert_array_equal(first, clean)
    return np.array(seen), x_adv


OBJECTIVES = {
    "ce": reference.cross_entropy,
    "dlr": reference.difference_of_logits_ratio,
}


def followed(images, along, clean, eps, steps, norm):
    """Whether one run is the reference's, as far as rounding decides nothing; the latter."""
    expected = reference.autopgd(images[0], clean, along, eps, steps, norm)
    clear = slice(expected.clear)
    np.testing.assert_allclose(images[clear], expected.images[clear], rtol=0, atol=1e-5)
    return expected


@pytest.mark.parametrize("norm, eps", [("Linf", 0.04), ("L2", 0.2)])
@pytest.mark.parametrize("loss", OBJECTIVES)
def test_trajectory(loss, norm, eps):
    model, steps = Recorder(), 40
    images, x_adv = looked_at(attacks.APGD(eps, steps, loss, norm), model)
    assert len(images) == steps + 1  # nobody is broken
    third_checkpoint, halvings = 8 + 7 + 6, []
    for n, y in enumerate(model.y):
        along = model.numpy.along(OBJECTIVES[loss](y))
        expected = followed(images[:, n], along, model.x[n], eps, steps, norm)
        if expected.clear > third_checkpoint + 1:
            halvings.append(np.log2(2 * eps / np.array(expected.step_sizes[:3])).tolist())
    assert len(halvings) >= 4, halvings
    assert any(len(set(row)) > 1 for row in zip(*halvings, strict=True)), halvings
    leads = np.array([margin(model(batch), model.y) for batch in images])
    best = images[leads.argmin(0), np.arange(len(model.x))]
    np.testing.assert_allclose(margin(model(x_adv), model.y), leads.min(0), atol=1e-5)
    assert (np.abs(x_adv - best).max((1, 2, 3)) < 1e-3).all()


@pytest.mark.parametrize("norm, eps", [("Linf", 0.025), ("L2", 0.12)])
def test_targeted_trajectory(norm, eps):
    model, steps, targets = Recorder(6), 34, 3
    images, _ = looked_at(attacks.APGDTargeted(eps, steps, targets, norm), model)
    assert len(images) == targets * (steps + 1)
    long = 0
    for n, y in enumerate(model.y):
        order = np.argsort(-model.numpy.logits(model.x[n]))
        for k, target in enumerate(order[1 : targets + 1]):
            run = images[k * (steps + 1) : (k + 1) * (steps + 1), n]
            along = model.numpy.along(reference.targeted_difference_of_logits_ratio(y, target))
            expected = followed(run, along, model.x[n], eps, steps, norm)
            long += expected.clear > 7 + 6 + 1  # beyond the second checkpoint
    assert long >= 16


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_starts_are_at_distance_eps_and_differ(norm):
    model = Recorder()
    x = np.clip(model.x, 0.1, 0.9)
    y = np.argmax(model(x), axis=1).astype("int32")
    model.seen.clear()
    attacks.APGD(1e-3, 1, norm=norm, restarts=2)(model, x, y)
    starts = np.array([model.seen[i] for i in (2, 4)]) - x
    flat = starts.reshape(2, len(x), -1)
    size = np.abs(flat).max(2) if norm == "Linf" else np.linalg.norm(flat, axis=2)
    np.testing.assert_allclose(size, 1e-3, rtol=2e-2)
    assert len(np.unique(flat.reshape(2 * len(x), -1), axis=0)) == 2 * len(x)


def test_checkpoints():
    at = [k for k, allowed in enumerate(checkpoints(100, 0.75)) if allowed >= 0]
    assert np.diff([0, *at]).tolist() == [22, 19, 16, 13, 10, 7, 6, 6]
    assert [checkpoints(100, 0.75)[k] for k in at] == [16, 14, 12, 9, 7, 5, 4, 4]
    assert checkpoints(1, 0.75) == [-1, 0] and checkpoints(3, 1.0) == [-1, 1, 1, 1]


def test_ratios_against_numpy_and_few_classes():
    rng = np.random.default_rng(0)
    for _ in range(20):
        z = rng.normal(0, 3, 6)
        y, t = rng.permutation(6)[:2]
        logits, label, target = tf.constant(z[None], tf.float32), tf.constant([y]), tf.constant([t])
        for values, objective in (
            (
                lambda z, y=label: difference_of_logits_ratio(z, y),
                reference.difference_of_logits_ratio(y),
            ),
            (
                lambda z, y=label, t=target: targeted_difference_of_logits_ratio(z, y, t),
                reference.targeted_difference_of_logits_ratio(y, t),
            ),
        ):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                value = values(logits)
            gradient = tape.gradient(value, logits)
            expected = objective(z)
            np.testing.assert_allclose(value[0], expected[0], rtol=1e-5)
            np.testing.assert_allclose(gradient[0], expected[1], rtol=1e-4, atol=1e-5)
    logits = tf.constant([[1.0, 4.0, 2.5], [7.0, 7.0, 7.0]])
    np.testing.assert_allclose(difference_of_logits_ratio(logits[:, :2], [1, 0]), [-3, 0])
    aimed = targeted_difference_of_logits_ratio(logits, [1, 0], [2, 1])
    np.testing.assert_allclose(aimed, [-1.5, 0])
    np.testing.assert_allclose(difference_of_logits_ratio(logits, [0, 0]), [1, 0])


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes(classes):
    model = Recorder(classes)
    for attack in (
        attacks.APGD(0.1, 10, "dlr"),
        attacks.APGDTargeted(0.1, 10),
        attacks.APGDTargeted(0.1, 10, targets=1, norm="L2"),
    ):
        x_adv = attack(model, model.x, model.y)
        before, after = margin(model(model.x), model.y), margin(model(x_adv), model.y)
        assert (after < before).numpy().all()
    assert attacks.APGDTargeted(0.1, 10).passes(model)[1] <= (classes - 1) * 11 * len(model.x)


def test_notes():
    assert not attacks.APGD(0.1).notes(2) and not attacks.APGD(0.1, loss="dlr").notes(3)
    assert "margin" in attacks.APGD(0.1, loss="dlr").notes(2)[0]
    assert not attacks.APGDTargeted(0.1).notes(10)
    (note,) = attacks.APGDTargeted(0.1).notes(9)
    assert "8 targets" in note
    replaced, fewer = attacks.APGDTargeted(0.1).notes(3)
    assert "z_t - z_y" in replaced and "2 targets" in fewer


def test_broken_examples_leave_and_the_others_pay_one_gradient_an_iteration():
    model, steps = Recorder(), 12
    hard, easy = attacks.APGD(0.02, steps), attacks.APGD(0.5, steps, restarts=3)
    hard(model, model.x, model.y)
    assert hard.passes(model) == (len(model.x) * (steps + 2), len(model.x) * (steps + 1))
    x_adv = easy(model, model.x, model.y)
    assert (np.argmax(model(x_adv), axis=1) != model.y).all()
    assert easy.passes(model)[1] < len(model.x) * (steps + 1)
    wrong = (model.y + 1) % 5
    easy = attacks.APGDTargeted(0.5, steps)
    np.testing.assert_array_equal(easy(model, model.x, wrong), model.x)
    assert easy.passes(model) == (len(model.x), 0)


def test_restarts_go_on_with_what_stands():
    model, eps = Recorder(), 0.05
    one, many = (attacks.APGD(eps, 6, restarts=n) for n in (1, 4))
    leads = [margin(model(a(model, model.x, model.y)), model.y).numpy() for a in (one, many)]
    assert (leads[1] <= leads[0] + 1e-6).all() and (leads[1] < leads[0]).any()


def test_expectation_over_a_noisy_network():
    """The verdict is that of the mean: noise alone breaks nothing, a small push does not hide."""
    weights = np.random.default_rng(0).normal(0, 0.3, (64, 1)).astype("float32")

    def noisy(x):
        lead = tf.reshape(x - 0.5, [-1, 64]) @ weights + 0.5
        lead += tf.random.normal(tf.shape(lead), 0, 1.0)
        return tf.concat([lead, -lead], axis=1)

    x, y = np.full((64, *SHAPE), 0.5, "float32"), np.zeros(64, "int32")
    still = attacks.APGD(1e-6, 2, eot=100)
    still(noisy, x, y)
    gradients = still.passes(noisy)[1]
    assert gradients > 0.95 * 64 * 3 * 100
    x_adv = attacks.APGD(0.3, 5, eot=20)(noisy, x, y).numpy()
    assert (((x_adv - 0.5).reshape(64, 64) @ weights)[:, 0] < -0.5).mean() > 0.9


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"eps": -1.0}, "eps"),
        ({"steps": 0}, "steps"),
        ({"restarts": 1.5}, "restarts"),
        ({"eot": 0}, "eot"),
        ({"rho": 1.5}, "rho"),
        ({"norm": "L3"}, "norm"),
        ({"batch_norm": "eval"}, "batch_norm"),
    ],
)
@pytest.mark.parametrize("attack", [attacks.APGD, attacks.APGDTargeted])
def test_refused(attack, arguments, said):
    with pytest.raises(ValueError, match=said):
        attack(**{"eps": 0.1} | arguments)


def test_refused_loss_and_targets():
    with pytest.raises(ValueError, match="loss='cw'"):
        attacks.APGD(0.1, loss="cw")
    with pytest.raises(ValueError, match="targets=0"):
        attacks.APGDTargeted(0.1, targets=0)
