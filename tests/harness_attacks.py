"""What every attack promises (WORKSPACE.md, *Contracts*), one function for each promise."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import compat
from robust_tf.attacks.randomness import as_seed, fold
from robust_tf.models import convert
from tests.tiny import (
    CLASSES,
    SHAPE,
    Smooth,
    cross_entropies,
    images,
    log_probabilities,
    plain_network,
    same_bits,
    tiny_network,
    weights_of,
)

# Of steps (B, n), by norm.
LENGTHS = {
    "Linf": lambda step: np.abs(step).max(1, initial=0),
    "L2": lambda step: np.sqrt((step**2).sum(1)),
    "L1": lambda step: np.abs(step).sum(1),
}


@dataclasses.dataclass
class AttackCase:
    """An attack and what is expected of it.

    make: (eps, batch_norm) -> attack, of at least 2 eps in steps if `exact`. norm: of its ball.
    random: other seeds give other images. targeted: labels are aims. objective: what it raises
    (`gains`). exact: reaches the worst point of a linear model's Linf ball.
    """

    make: Callable[..., Any]
    norm: str = "Linf"
    random: bool = True
    targeted: bool = False
    objective: str = "cross_entropy"
    exact: bool = True

    def __post_init__(self):
        self.model, self.x = Smooth(), images()
        self.y = np.argmax(self.model(self.x), axis=1).astype("int32")
        self.aim = (self.y + 1) % CLASSES if self.targeted else self.y
        self.eps = 0.3 if self.norm == "Linf" else 1.5

    @property
    def follows_labels(self) -> bool:
        """Whether the objective is one of the labels."""
        return not self.objective.startswith("kl")


def gains(case: AttackCase, model: Callable[..., Any], x_adv: Any, aim: np.ndarray) -> np.ndarray:
    """By how much `x_adv` is better than the clean image, in what the attack raises; in NumPy.

    cross_entropy: of the labels; of their opposite, if those are aims. margin: of the best other
    class over the label's. kl_clean_adv, kl_adv_clean: the divergence from the clean prediction;
    as any move raises it, above its mean over random points of the ball.
    """
    if case.objective == "cross_entropy":
        gain = cross_entropies(model, x_adv, aim) - cross_entropies(model, case.x, aim)
        return -gain if case.targeted else gain
    clean, adversarial = log_probabilities(model, case.x), log_probabilities(model, x_adv)
    if case.objective == "margin":
        others = np.where(np.eye(CLASSES, dtype=bool)[aim], -np.inf, 0.0)
        rows = np.arange(len(aim))
        before, after = (
            (values + others).max(1) - values[rows, aim] for values in (clean, adversarial)
        )
        return after - before

    def divergence(other: np.ndarray) -> np.ndarray:
        p, q = (clean, other) if case.objective == "kl_clean_adv" else (other, clean)
        return (np.exp(p) * (p - q)).sum(1)

    rng = np.random.default_rng(0)
    somewhere = [
        np.clip(case.x + rng.uniform(-case.eps, case.eps, case.x.shape), 0, 1) for _ in range(8)
    ]
    usual = [divergence(log_probabilities(model, x.astype("float32"))) for x in somewhere]
    return divergence(adversarial) - np.mean(usual, axis=0)


def assert_inside(case: AttackCase, x: np.ndarray, x_adv: Any, eps: float) -> None:
    """To the last bit, in float64."""
    assert x_adv.dtype == tf.float32 and x_adv.shape == x.shape
    after, before = np.asarray(x_adv, "float64"), np.asarray(x, "float64")
    assert np.isfinite(after).all() and (after >= 0).all() and (after <= 1).all()
    step = np.abs(after - before).reshape(len(x), int(np.prod(x.shape[1:])))
    length = LENGTHS[case.norm](step)
    assert (length <= eps).all(), length - eps


def check_ball(case: AttackCase) -> None:
    """Inside the ball and the box to the last bit; moved."""
    for eps in (0.3, 8 / 255, 0.1 if case.norm == "Linf" else 1.5):
        x_adv = case.make(eps)(case.model, case.x, case.aim)
        assert_inside(case, case.x, x_adv, eps)
        assert (np.abs(x_adv - case.x).reshape(len(case.x), -1).max(1) > 0).all()


def check_graph(case: AttackCase) -> None:
    """The eager call, with a graph of its own, is the call inside a tf.function bit for bit.

    For batches of any size in both; where a size is fixed, TensorFlow may fold and round otherwise.
    """
    attack = case.make(case.eps)
    any_size = [tf.TensorSpec([None, *SHAPE], tf.float32), tf.TensorSpec([None], tf.int32)]

    @tf.function(input_signature=any_size)
    def inside(x, y):
        return attack(case.model, x, y, seed=7)

    x, y = tf.constant(case.x), tf.constant(case.aim)
    same_bits(attack(case.model, x, y, seed=7), inside(x, y))


def check_traces(case: AttackCase) -> None:
    """One trace for batches of every size, every seed, every scale and every radius."""
    model, attack = Smooth(), case.make(case.eps)
    attack(model, case.x[:5], case.aim[:5])
    traces = model.traces
    for batch, seed, scale in ((3, 1, 1.0), (1, 2, 0.5), (5, 3, tf.constant(0.1))):
        x_adv = attack(model, case.x[:batch], case.aim[:batch], seed=seed, scale=scale)
        assert_inside(case, case.x[:batch], x_adv, case.eps * float(scale))
    case.make(case.eps)(model, case.x, case.aim)  # an equal attack is the same attack
    smaller = case.make(case.eps / 4)(model, case.x, case.aim)
    assert_inside(case, case.x, smaller, case.eps / 4)
    same_bits(smaller, case.make(case.eps / 4)(model, case.x, case.aim, eps=case.eps / 4))
    assert model.traces == traces


def check_seeds(case: AttackCase) -> None:
    """Same seed, same bits; other seed, other bits if the attack is random."""
    attack = case.make(case.eps)
    first, again, other = (attack(case.model, case.x, case.aim, seed=s) for s in (1, 1, 2))
    same_bits(first, again)
    assert bool((first.numpy() != other.numpy()).any()) == case.random


def check_eps_zero(case: AttackCase) -> None:
    """eps 0, and scale 0, are the identity."""
    same_bits(case.make(0.0)(case.model, case.x, case.aim), case.x)
    same_bits(case.make(case.eps)(case.model, case.x, case.aim, scale=0.0), case.x)


def check_raises_loss(case: AttackCase) -> None:
    """The objective rises, one of labels in every example; a model known to break breaks."""
    x_adv = case.make(case.eps)(case.model, case.x, case.aim)
    gain = gains(case, case.model, x_adv, case.aim)
    assert np.mean(gain) > 0.3, gain
    assert (gain > 0).all() or not case.follows_labels, gain
    accuracy = np.mean(np.argmax(case.model(x_adv), axis=1) == case.y)
    assert accuracy <= 0.5, accuracy


def check_linear(case: AttackCase) -> None:
    """On a linear model the worst point is known: x - eps * sign(w), or x - eps * w / ||w||.

    In L1 the pixels of the greatest |w| are at the border of the box.
    """
    w = np.random.default_rng(3).normal(0, 0.1, (*SHAPE, 1)).astype("float32")

    def model(x):
        lead = tf.reshape(x - 0.5, [-1, 64]) @ w.reshape(64, 1)
        return tf.concat([lead, -lead], axis=1)  # class 0 while w (x - 0.5) > 0

    x = case.x if case.norm == "Linf" else np.full_like(case.x, 0.5)
    y = np.arange(len(x), dtype="int32") % 2
    attack = case.make(case.eps)
    x_adv = attack(model, x, 1 - y if case.targeted else y).numpy()
    side = (2.0 * y - 1)[:, None, None, None]  # class 1 is left by raising w x
    if not case.follows_labels:  # a divergence grows to either side: to that of the random start
        start = attack.start(attack.threat, attack.threat.bounds(x), fold(as_seed(0), 0))
        side = np.sign(((start.numpy() - x) * w[..., 0]).sum((1, 2, 3), keepdims=True))
    if case.norm == "L1":
        few = np.sort(np.abs(w).ravel())[-int(case.eps / 0.5)]
        unit = np.where(np.abs(w) >= few, np.sign(w) * 0.5 / case.eps, 0.0)[..., 0]
    else:
        unit = np.sign(w[..., 0]) if case.norm == "Linf" else w[..., 0] / np.linalg.norm(w)
    worst = np.clip(x + case.eps * side * unit, 0, 1)
    if case.exact and case.norm == "Linf":
        np.testing.assert_allclose(x_adv, worst, rtol=0, atol=1e-7)
    elif case.exact and case.norm == "L1":  # projected, a step is shared out among more pixels
        gain, most = (((to - x) * side * w[..., 0]).sum((1, 2, 3)) for to in (x_adv, worst))
        assert (gain > 0.85 * most).all(), gain / most
    elif case.exact:
        distance = np.linalg.norm((x_adv - worst).reshape(len(x), -1), axis=1)
        assert (distance < 0.25 * case.eps).all(), distance


def check_batches(case: AttackCase) -> None:
    """Batches of one, and of none; examples do not see each other."""
    attack = case.make(case.eps)
    whole = attack(case.model, case.x, case.aim)
    one = attack(case.model, case.x[:1], case.aim[:1])
    assert_inside(case, case.x[:1], one, case.eps)
    if not case.random:  # a matrix product of another size may be rounded otherwise
        np.testing.assert_allclose(one, whole[:1], rtol=0, atol=1e-5)
    assert attack(case.model, case.x[:0], case.aim[:0]).shape == (0, *SHAPE)


def check_examples_alone(case: AttackCase) -> None:
    """With a seed for each example, its result is the same in any company, but for rounding."""
    attack, count = case.make(case.eps), len(case.x)
    seeds = np.stack([np.full(count, 5), 100 * np.arange(count)], axis=1).astype("int32")
    whole = attack(case.model, case.x, case.aim, seed=seeds).numpy()
    for rows in ([1, 3], [count - 1]):
        alone = attack(case.model, case.x[rows], case.aim[rows], seed=seeds[rows]).numpy()
        # A sign turns where a gradient is zero but for rounding.
        assert np.mean(np.abs(alone - whole[rows]) > 1e-4) < (0.02 if case.follows_labels else 0.2)
    if case.random:
        same = attack(case.model, case.x[[0, 0]], case.aim[[0, 0]], seed=seeds[:2]).numpy()
        assert (same[0] != same[1]).any()


def check_bfloat16(case: AttackCase) -> None:
    """A model that computes in bfloat16 is attacked in float32.

    How bfloat16 rounds differs between processors: so the gain is compared with what rounding can
    do, 2^-8 of logits of about 1 or the square of that in a divergence, in the attack's own
    objective, and on average.
    """
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    network = tiny_network()
    attack = case.make(case.eps)
    y = np.argmax(network(case.x), axis=1).astype("int32")
    aim = (y + 1) % CLASSES if case.targeted else y
    x_adv = attack(network, case.x, aim)
    assert_inside(case, case.x, x_adv, case.eps)
    gain = np.mean(gains(case, network, x_adv, aim))
    assert gain > 0.01, gain


def check_gradient(case: AttackCase) -> None:
    """Nothing flows back through an attack, neither to the images nor to the network."""
    network, attack = tiny_network(), case.make(case.eps)
    x, y = tf.constant(case.x), tf.constant(case.aim)
    variables = [compat.raw(v) for v in network.trainable_variables]
    for call in (attack, tf.function(attack.__call__)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(call(network, x, y))
        gradients = tape.gradient(total, [x, *variables])
        assert all(g is None or not np.any(g) for g in gradients)


def check_config(case: AttackCase) -> None:
    """Through JSON and back it is an equal attack."""
    attack = case.make(case.eps)
    config = json.loads(json.dumps(compat.serialize(attack)))
    assert compat.deserialize(config) == attack
    assert type(attack).from_config(attack.get_config()) == attack


def check_callables(case: AttackCase) -> None:
    """Function, lambda, bound method and a foreign Keras model, whose averages stay as they are."""
    attack, smooth = case.make(case.eps), case.model
    expected = attack(smooth, case.x, case.aim)
    same_bits(attack(lambda x: smooth(x), case.x, case.aim), expected)
    same_bits(attack(smooth.__call__, case.x, case.aim), expected)
    foreign = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Conv2D(2, 3),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES),
        ]
    )
    before = weights_of(foreign)
    if attack.batch_norm != "running":  # of which layers that were not converted know nothing
        attack = case.make(case.eps, batch_norm="running")
    x_adv = attack(foreign, case.x, case.aim)
    assert_inside(case, case.x, x_adv, case.eps)
    same_bits(attack(foreign, case.x, case.aim), x_adv)
    for old, new in zip(before, weights_of(foreign), strict=True):
        same_bits(old, new)


def check_batch_norm(case: AttackCase) -> None:
    """Only mode 'training' moves moving averages, ours and those of Keras' layer, converted."""
    for network in (tiny_network(batch_norm=True), convert(plain_network())):
        for mode in ("running", "batch", "training"):
            before = weights_of(network)
            case.make(case.eps, batch_norm=mode)(network, case.x, case.aim)
            pairs = zip(before, weights_of(network), strict=True)
            changed = sum((old != new).any() for old, new in pairs)
            assert changed == (2 if mode == "training" else 0), mode
    if case.make(case.eps, batch_norm="batch").batch_norm == "batch":
        with pytest.raises(ValueError, match="cannot set the mode of the layer 'bn'"):
            case.make(case.eps, batch_norm="batch")(plain_network(), case.x, case.aim)


ATTACK_CHECKS = [
    check_ball,
    check_graph,
    check_traces,
    check_seeds,
    check_eps_zero,
    check_raises_loss,
    check_linear,
    check_batches,
    check_examples_alone,
    check_bfloat16,
    check_gradient,
    check_config,
    check_callables,
    check_batch_norm,
]


def run_attack_test(case: AttackCase, checks: Sequence[Callable] = ATTACK_CHECKS) -> None:
    """Every promise of `ATTACK_CHECKS`."""
    for check in checks:
        check(case)
