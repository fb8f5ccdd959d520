"""ATLD's step written out in float64, for `reference_step`'s network and its own discriminator."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from robust_tf import compat, methods, models
from robust_tf.attacks import randomness
from tests.methods import reference_step
from tests.tiny import CLASSES, labelled, tiny_network

X, Y = labelled()
EPS, RATE = 0.1, 0.05


@dataclasses.dataclass
class Setting:
    """Of ATLD, as the computation by hand takes it."""

    steps: int = 1
    step_size: float = EPS
    random_start: bool = True
    class_weight: float = 0.0
    attack_mode: str = "training"
    kappa: float = 2.0
    smoothing: float = 0.5
    hard: bool = False
    updates: int = 2
    inputs: str = "logits"
    invariance: str = "mse_logits"

    def build(self, network=None, **arguments):
        keras.utils.set_random_seed(2)
        attack = methods.ManifoldAttack(
            EPS, self.step_size, self.steps, self.random_start, self.class_weight, self.attack_mode
        )
        if network is None:
            network = tiny_network(batch_norm=True)
            reference_step.unlike_new(network)
        training = methods.DiscriminatorTraining(self.updates, 0.03, 0.9, 0.01, self.hard)
        arguments = {"discriminator": discriminator, "disc_training": training, **arguments}
        model = methods.ATLD(
            network,
            attack,
            kappa=self.kappa,
            label_smoothing=self.smoothing,
            disc_input=self.inputs,
            invariance=self.invariance,
            **arguments,
        )
        model.compile(keras.optimizers.SGD(RATE), seed=3)
        return model


def discriminator(inputs, num_classes):
    """Dense, batch normalisation, elu; averages other than those of a new layer."""
    normalisation = models.BatchNormalization(name="bn")
    trunk = keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(5, name="first"),
            normalisation,
            keras.layers.Activation("elu"),
        ]
    )
    rng = np.random.default_rng(4)
    for variable, low in ((normalisation.moving_mean, -1.0), (normalisation.moving_variance, 0.5)):
        compat.raw(variable).assign(rng.uniform(low, low + 1, 5).astype("float32"))
    return models.Discriminator(trunk, num_classes)


LEARNED = ("first", "first_bias", "gamma", "beta", "natural", "natural_bias", "classes", "c_bias")


def disc_weights(model):
    first, bn = (model.discriminator.trunk.get_layer(name) for name in ("first", "bn"))
    variables = [first.kernel, first.bias, bn.gamma, bn.beta, *model.discriminator.heads.weights]
    named = dict(zip(LEARNED, variables, strict=True))
    named.update(mean=bn.moving_mean, variance=bn.moving_variance)
    return {name: tf.constant(compat.raw(v).numpy(), tf.float64) for name, v in named.items()}


def judge(d, z, mode):
    """log-odds of natural (B,), class logits, and the averages afterwards."""
    h = z @ d["first"] + d["first_bias"]
    mean, variance = d["mean"], d["variance"]
    after = {"mean": mean, "variance": variance}
    if mode != "running":
        mean, variance = tf.reduce_mean(h, 0), tf.math.reduce_variance(h, 0)
    if mode == "training":
        unbiased = variance * len(z) / (len(z) - 1)
        after = {"mean": 0.9 * after["mean"] + 0.1 * mean}
        after["variance"] = 0.9 * d["variance"] + 0.1 * unbiased
    h = reference_step.elu(d["gamma"] * (h - mean) / tf.sqrt(variance + 1e-3) + d["beta"])
    natural = h @ d["natural"] + d["natural_bias"]
    return natural[:, 0], h @ d["classes"] + d["c_bias"], after


def bce(log_odds, label):
    """Of sigmoid(log_odds), by its definition."""
    probability = 1 / (1 + tf.exp(-log_odds))
    return -tf.math.log(probability if label else 1 - probability)


def soft_ce(logits, targets):
    return -tf.reduce_sum(targets * reference_step.log_softmax(logits), 1)


def targets(smoothing):
    rest = smoothing / (CLASSES - 1)
    return tf.constant(np.where(np.eye(CLASSES)[Y] == 1, 1 - smoothing, rest))


class ReferenceStep:
    """One step of perturbation, network and discriminator."""

    def __init__(self, model, setting):
        self.setting = setting
        self.w, self.d = reference_step.weights(model.network), disc_weights(model)
        seed = randomness.fold(reference_step.adversary_seed(model), 0)
        noise = tf.cast(randomness.uniform(seed, tf.shape(X), -1.0, 1.0), tf.float64)
        self.x = tf.cast(X, tf.float64)
        self.start = self.x + EPS * noise if setting.random_start else self.x
        self.n, self.z, _ = reference_step.forward(self.w, self.x, training=False)

    def seen(self, logits, features):
        return logits if self.setting.inputs == "logits" else features

    def generate_adversarial(self):
        """x', and the discriminator's averages: clean images first, then perturbed ones."""
        s, x = self.setting, self.start
        for _ in range(s.steps):
            self.d.update(judge(self.d, self.seen(self.n, self.z), s.attack_mode)[2])
            with tf.GradientTape() as tape:
                tape.watch(x)
                logits, z, _ = reference_step.forward(self.w, x, training=False)
                natural, classes, after = judge(self.d, self.seen(logits, z), s.attack_mode)
                value = tf.reduce_sum(bce(natural, 0))
                value -= s.class_weight * tf.reduce_sum(soft_ce(classes, targets(0.0)))
            self.d.update(after)
            x = x - s.step_size * tf.sign(tape.gradient(value, x))
            x = tf.clip_by_value(tf.clip_by_value(x, self.x - EPS, self.x + EPS), 0, 1)
        self.x_adv = x
        return x

    def classify(self):
        """Means of the terms, their gradients, s, and the network after plain SGD."""
        s, labels, x = self.setting, targets(self.setting.smoothing), self.x_adv
        trained = {name: self.w[name] for name in reference_step.TRAINED}
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([x, trained])
            a, z, averages = reference_step.forward({**self.w, **trained}, x, training=True)
            ce = tf.reduce_mean(soft_ce(a, labels))
            inv = tf.reduce_mean((a - self.n) ** 2)
            if s.invariance == "fool_disc":
                n, z_n, _ = reference_step.forward({**self.w, **trained}, self.x, training=False)
                natural, moved = (
                    judge(self.d, self.seen(*outputs), "batch")[0] for outputs in ((n, z_n), (a, z))
                )
                inv = -tf.reduce_mean(bce(natural, 1) + bce(moved, 0))  # Equation 7
        self.a, self.a_features = a, z
        self.scale = 1.0
        if s.invariance == "mse_logits":
            above, below = (np.max(tape.gradient(value, x)) for value in (ce, inv))
            self.scale = float(np.clip(above / (below + 1e-12), 0, 1e3))
        self.values = {"adversarial": float(ce), "invariance": self.scale * float(inv)}
        inv_gradients = tape.gradient(inv, trained, unconnected_gradients="zero")
        self.gradients = {
            "adversarial": tape.gradient(ce, trained),
            "invariance": {name: self.scale * g for name, g in inv_gradients.items()},
        }
        moved = {
            name: trained[name]
            - RATE * self.gradients["adversarial"][name]
            - RATE / s.kappa * self.gradients["invariance"][name]
            for name in trained
        }
        return {**moved, **averages}

    def learn(self):
        """The discriminator after its updates, SGD with momentum on loss and penalty."""
        s, labels = self.setting, targets(0.0 if self.setting.hard else self.setting.smoothing)
        clean, adv = self.seen(self.n, self.z), self.seen(self.a, self.a_features)
        velocity = dict.fromkeys(LEARNED, 0.0)
        for update in range(s.updates):
            learned = {name: self.d[name] for name in LEARNED}
            with tf.GradientTape(persistent=True) as tape:
                tape.watch([learned, adv])
                natural, k, after = judge({**self.d, **learned}, clean, "training")
                moved, k_adv, after = judge({**self.d, **learned, **after}, adv, "training")
                lure = bce(moved, 0)
                manifold = tf.reduce_mean(bce(natural, 1)) + tf.reduce_mean(lure)
                loss = manifold + tf.reduce_mean(soft_ce(k, labels) + soft_ce(k_adv, labels))
                loss += 0.01 / 2 * sum(tf.reduce_sum(v**2) for v in learned.values())
            for name, gradient in tape.gradient(loss, learned).items():
                velocity[name] = 0.9 * velocity[name] - 0.03 * gradient
                self.d[name] = learned[name] + velocity[name]
            self.d.update(after)
            if update == 0:
                self.values["manifold"] = float(manifold)
                right = np.mean([natural.numpy() > 0, moved.numpy() < 0])
                still = np.all(tape.gradient(lure, adv).numpy() == 0, axis=1)
                self.values |= {"discriminator_accuracy": right, "zero_gradient": still.mean()}
        return self.d
