"""ATLD's step against one written out in float64, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, compat, methods, models
from robust_tf.methods.atld import ManifoldImages
from tests.methods import reference_step
from tests.methods.atld_reference import EPS, ReferenceStep, Setting, X, Y, disc_weights
from tests.tiny import CLASSES, tiny_network, two_replicas, weights_of

ATTACK = methods.ManifoldAttack(EPS)

SETTINGS = {
    "program": Setting(),
    "paper": Setting(
        random_start=False,
        hard=True,
        updates=1,
        inputs="features",
        invariance="fool_disc",
        kappa=1.0,
    ),
    "longer attack": Setting(
        steps=3, step_size=0.04, class_weight=0.5, kappa=10.0, smoothing=0.2, updates=3
    ),
    "batch": Setting(steps=2, attack_mode="batch", kappa=0.5),
}
every_setting = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())


def same(got, want, atol=2e-5):
    assert set(got) == set(want)
    for name in got:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=atol, err_msg=name)


@every_setting
def test_step_against_one_by_hand(setting):
    model = setting.build()
    reference = ReferenceStep(model, setting)
    x_adv = reference_step.generated(setting.build(), X, Y).x_adv
    np.testing.assert_allclose(x_adv, reference.generate_adversarial(), atol=1e-6)
    network = reference.classify()
    discriminator = reference.learn()
    logs = model.train_on_batch(X, Y, return_dict=True)
    same(reference_step.weights(model.network), network)
    same(disc_weights(model), discriminator)
    assert set(logs) == {*reference.values, "loss", "natural_accuracy", "robust_accuracy"}
    for name, value in reference.values.items():
        assert logs[name] == pytest.approx(value, rel=1e-4), name
    total = reference.values["adversarial"] + reference.values["invariance"] / setting.kappa
    assert logs["loss"] == pytest.approx(total, rel=1e-4)
    assert logs["natural_accuracy"] == pytest.approx(np.mean(np.argmax(reference.n, 1) == Y))
    assert logs["robust_accuracy"] == pytest.approx(np.mean(np.argmax(reference.a, 1) == Y))


@every_setting
def test_gradient_of_each_term_for_each_variable(setting):
    model = setting.build()
    reference = ReferenceStep(model, setting)
    reference.generate_adversarial()
    reference.classify()
    adversarial = reference_step.generated(model, X, Y)
    seed = tf.constant([0, 0])
    ours = [compat.raw(v) for v in model.network.trainable_variables]
    theirs = [compat.raw(v) for v in model.discriminator.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        batch = model.forward(tf.constant(X), tf.constant(Y), adversarial, seed)
        values = {name: tf.reduce_mean(term()) for name, term in model.terms(batch).items()}
    for name, value in values.items():
        gradients = tape.gradient(value, [*ours, *theirs], unconnected_gradients="zero")
        expected = [reference.gradients[name][key] for key in reference_step.TRAINED]
        for got, want in zip(gradients, expected, strict=False):
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5)
        if setting.invariance == "mse_logits":
            assert all((gradient == 0).numpy().all() for gradient in gradients[len(ours) :])


@pytest.mark.parametrize("inputs", ["logits", "features"])
def test_the_papers_invariance_is_a_zero_sum_game(inputs):
    """Equation 7: the network lowers, with weight 1, what the discriminator raises."""
    model = Setting(invariance="fool_disc", kappa=1.0, inputs=inputs).build()
    logs = model.train_on_batch(X, Y, return_dict=True)
    assert logs["invariance"] == pytest.approx(-logs["manifold"], rel=1e-5)
    assert logs["loss"] == pytest.approx(logs["adversarial"] - logs["manifold"], rel=1e-5)


def test_images_stay_in_ball_and_box_to_the_last_bit():
    adversarial = reference_step.generated(Setting(steps=2).build(), X, Y).x_adv.numpy()
    assert (np.abs(np.float64(adversarial) - np.float64(X)) <= EPS).all()
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    assert (adversarial != X).mean() > 0.5


def test_labels_play_no_part_in_the_perturbation():
    one, other = (
        reference_step.generated(Setting().build(), X, y).x_adv for y in (Y, (Y + 1) % CLASSES)
    )
    np.testing.assert_array_equal(one, other)


def test_scale_is_kept_in_its_range():
    """Without batch statistics and at the clean image the distance has no gradient."""
    model = Setting(random_start=False).build(tiny_network())
    adversarial = ManifoldImages(tf.constant(X), model._running(tf.constant(X)))
    batch = model.forward(tf.constant(X), tf.constant(Y), adversarial, tf.constant([0, 0]))
    assert float(batch.scale) in (0.0, 1000.0)
    np.testing.assert_array_equal(model.terms(batch)["invariance"](), np.zeros(len(X)))


def test_clean_images_reach_the_averages_every_nth_step():
    def averages(model):
        return reference_step.weights(model.network)

    plain, shown = Setting().build(), Setting().build(clean_bn_every=2)
    for step in range(3):
        plain.network.set_weights(shown.network.get_weights())
        plain.discriminator.set_weights(shown.discriminator.get_weights())
        for model in (plain, shown):
            model.train_on_batch(X, Y)
        w = averages(plain)
        if step % 2 == 0:
            w.update(reference_step.forward(w, X, training=True)[2])
        same(averages(shown), w)


def test_a_dead_discriminator_is_seen_and_warned_of():
    """Units below zero for every input: no gradient, and the odds of its bias alone."""
    discriminator = models.MLPDiscriminator(CLASSES, CLASSES, hidden=(4,), batch_norm=False)
    kernel, bias, *rest = discriminator.get_weights()
    discriminator.set_weights([kernel, bias - 1e3, *rest])
    model = Setting().build(discriminator=discriminator)
    logs = model.train_on_batch(X, Y, return_dict=True)
    assert logs["zero_gradient"] == 1.0
    assert logs["discriminator_accuracy"] == 0.0  # its bias is 0: not one of the two, for any image
    assert logs["manifold"] == pytest.approx(2 * np.log(2))
    unable, dead = model.diagnose(logs)
    assert "cannot tell natural from adversarial images: manifold is 1.386" in unable
    assert "no gradient at 100% of the images" in dead
    assert model.diagnose({**logs, "manifold": 1.2, "zero_gradient": 0.04}) == []


def test_the_discriminator_of_small_networks_does_not_die():
    """On logits far from 0 that drift, as those of a network in training, it keeps a gradient."""

    def shares(**arguments):
        keras.utils.set_random_seed(0)
        network = tiny_network()
        model = Setting(updates=2).build(
            network,
            discriminator=models.MLPDiscriminator(CLASSES, CLASSES, **arguments),
            disc_training=methods.DiscriminatorTraining(learning_rate=0.05),
        )
        offset = tf.linspace(20.0, 40.0, 60)
        for shift in offset:
            network.classifier.weights[-1].assign(tf.fill([CLASSES], shift))
            logs = model.train_on_batch(X, Y, return_dict=True)
        return float(logs["zero_gradient"])

    assert shares() == 0.0
    assert shares(batch_norm=False) > 0.5


def test_replicas_hold_one_discriminator():
    """Of unlike shares, too, both replicas make the same network and discriminator."""
    strategy = two_replicas()
    with strategy.scope():
        model = Setting(random_start=False).build(
            tiny_network(), discriminator=models.MLPDiscriminator
        )
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(len(X)).repeat(2)
    run = tf.function(lambda batch: strategy.run(model.train_step, (batch,)))
    for batch in strategy.experimental_distribute_dataset(data):
        run(batch)
    for variable in model.trainable_variables:
        copies = strategy.experimental_local_results(compat.raw(variable))
        assert len(copies) == 2
        np.testing.assert_array_equal(*copies)
    assert all(np.isfinite(w).all() for w in weights_of(model))


def test_runs_eagerly_and_with_a_low_precision_network(mixed_bfloat16):
    model = Setting().build(tiny_network(batch_norm=True), discriminator=models.MLPDiscriminator)
    logs = model.train_step((tf.constant(X), tf.constant(Y)))
    assert all(np.isfinite(value) for value in logs.values())


def test_files_restore_the_discriminators_momentum(tmp_path):
    model = Setting().build(discriminator=models.MLPDiscriminator)
    model.train_on_batch(X, Y)
    model.save(str(tmp_path / "model.keras"))
    again = keras.models.load_model(str(tmp_path / "model.keras"))
    assert again.disc_training == model.disc_training
    before, after = (optimizer_variables(m) for m in (model, again))
    assert sum(np.abs(compat.raw(v)).max() > 0 for v in before) > len(weights_of(model)) / 4
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(compat.raw(one), compat.raw(other))


def optimizer_variables(model):
    """Of the discriminator's optimiser."""
    variables = model.disc_optimizer.variables
    return variables() if callable(variables) else variables


def atld(**arguments):
    network = arguments.pop("network", None) or tiny_network()
    settings = {"attack": ATTACK, "discriminator": models.MLPDiscriminator, **arguments}
    return methods.ATLD(network, **settings)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (
            lambda: methods.ManifoldAttack(0.0),
            ValueError,
            r"eps=0.0\): must be a finite number > 0",
        ),
        (lambda: methods.ManifoldAttack(-0.1), ValueError, r"ManifoldAttack\(eps=-0.1\)"),
        (lambda: methods.ManifoldAttack(0.1, 0.0), ValueError, r"step_size=0.0\): must be"),
        (lambda: methods.ManifoldAttack(0.1, steps=0), ValueError, r"steps=0\): must be an int"),
        (lambda: methods.ManifoldAttack(0.1, class_weight=-1.0), ValueError, "class_weight=-1.0"),
        (lambda: atld(attack=None), ValueError, r"attack=None\): must be ManifoldAttack\(eps"),
        (lambda: atld(attack=attacks.FGSM(0.1)), ValueError, "others attack a classifier"),
        (lambda: atld(kappa=0), ValueError, r"ATLD\(kappa=0\): must be a finite number > 0"),
        (lambda: atld(kappa=-2.0), ValueError, r"ATLD\(kappa=-2.0\)"),
        (lambda: atld(label_smoothing=1.0), ValueError, r"label_smoothing=1.0\): must be in"),
        (lambda: atld(disc_input="pixels"), ValueError, r"disc_input='pixels'\): must be one of"),
        (lambda: atld(invariance="kl"), ValueError, r"invariance='kl'\): must be one of"),
        (lambda: atld(clean_bn_every=-1), ValueError, r"clean_bn_every=-1\): must be an integer"),
        (lambda: atld(discriminator="wide"), TypeError, "expected a builder such as"),
        (lambda: atld(discriminator=tiny_network()), TypeError, "expected a builder such as"),
        (
            lambda: atld(discriminator=models.MLPDiscriminator(7, CLASSES)),
            ValueError,
            "takes 7 values and has 3 classes, but the network has 3 logits and 3 classes",
        ),
        (
            lambda: atld(discriminator=models.MLPDiscriminator(CLASSES, 4)),
            ValueError,
            "has 4 classes",
        ),
        (
            lambda: atld(
                discriminator=models.MLPDiscriminator(CLASSES, CLASSES), disc_input="features"
            ),
            ValueError,
            "takes 3 values .* the network has 36 features",
        ),
        (lambda: methods.DiscriminatorTraining(0), ValueError, r"updates=0\): must be an integer"),
        (lambda: methods.DiscriminatorTraining(learning_rate=0.0), ValueError, "learning_rate=0.0"),
        (lambda: methods.DiscriminatorTraining(momentum=1.0), ValueError, r"must be in \[0, 1\)"),
        (lambda: methods.DiscriminatorTraining(weight_decay=-1.0), ValueError, "weight_decay=-1.0"),
    ],
)
def test_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()
