"""TRADES, its step written out in float64 with batch normalisation."""

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, methods
from robust_tf.attacks import randomness
from tests.methods import reference_step
from tests.tiny import labelled

EPS, SIZE, STEPS, RATE = 0.1, 0.06, 2, 0.1
X, Y = labelled()
# The official program's adversary, and that of ADR's program.
OFFICIAL = attacks.TRADESAttack(EPS, SIZE, STEPS)
OTHER = attacks.TRADESAttack(EPS, SIZE, STEPS, "adv_clean", "uniform", batch_norm="batch")


def divergence(logits, logits_of_other):
    """KL of the one prediction from the other, (B,)."""
    log_p, log_q = reference_step.log_softmax(logits), reference_step.log_softmax(logits_of_other)
    return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), 1)


def start(attack, seed):
    """x + 0.001 N(0, I), or a uniform draw from the ball, within the box."""
    seed = randomness.fold(seed, 0)
    noise = 0.001 * randomness.normal(seed, tf.shape(X))
    if attack is OTHER:
        noise = EPS * randomness.uniform(seed, tf.shape(X), -1.0, 1.0)
    return np.clip(X.astype("float64") + noise.numpy().astype("float64"), 0, 1)


def perturbed(model, attack):
    """Two signed steps up the divergence, by running averages or by those of the batch."""
    w, of_batch = reference_step.weights(model.network), attack is OTHER
    clean = reference_step.forward(w, X, training=of_batch)[0]

    def loss_of(x):
        pair = [clean, reference_step.forward(w, x, training=of_batch)[0]]
        return divergence(*(pair[::-1] if attack is OTHER else pair))

    low, high = np.clip(X - EPS, 0, 1), np.clip(X + EPS, 0, 1)
    first = start(attack, reference_step.adversary_seed(model))
    bounds = low.astype("float64"), high.astype("float64")
    return reference_step.ascend(loss_of, first, SIZE, STEPS, *bounds)


def terms_of(outputs, outputs_adv):
    """Each (B,)."""
    clean, adv = outputs[0], outputs_adv[0]
    entropy = -tf.gather(reference_step.log_softmax(clean), Y, batch_dims=1)
    return {"clean": entropy, "divergence": divergence(clean, adv)}


@pytest.mark.parametrize(
    "attack, weights",
    [
        (OFFICIAL, {"clean": 1.0}),
        (OFFICIAL, {"clean": 1.0, "divergence": 6.0}),
        (OTHER, {"clean": 1.0, "divergence": 1.5}),
    ],
    ids=["without divergence", "official", "ADR's adversary"],
)
def test_step(attack, weights):
    beta = weights.get("divergence", 0.0)
    model = reference_step.built(methods.TRADES, attack, beta, rate=RATE)
    x_adv = perturbed(model, attack)
    np.testing.assert_allclose(reference_step.generated(model, X, Y), x_adv, rtol=0, atol=1e-6)
    reference_step.check_step(model, X, Y, x_adv, terms_of, weights, RATE)
