"""KL terms against NumPy, and virtual adversarial loss against a model of known Hessian."""

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import losses

RANDOM = np.random.default_rng(2)
P = RANDOM.normal(size=(6, 4), scale=2.0)
Q = P + RANDOM.normal(size=P.shape)
WEIGHTS = tf.constant(RANDOM.normal(size=(12, 3)), tf.float32)
X = tf.constant(RANDOM.uniform(size=(8, 2, 2, 3)), tf.float32)


def numpy_probabilities(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def numpy_kl(logits_p, logits_q):
    p, q = numpy_probabilities(logits_p), numpy_probabilities(logits_q)
    return np.array(
        [sum(p[i, c] * np.log(p[i, c] / q[i, c]) for c in range(p.shape[1])) for i in range(len(p))]
    )


def logistic(x, weights=WEIGHTS):
    return tf.reshape(x, [-1, 12]) @ weights


class Recorder:
    """A network that keeps the images it was shown."""

    def __init__(self, network):
        self.network, self.seen = network, []

    def __call__(self, x):
        self.seen.append(x)
        return self.network(x)

    def last_perturbation(self):
        return np.reshape(self.seen[-1] - X, (len(X), -1))


def hessian(x):
    """Of KL(p(x) || p(x + r)) at r = 0 for the logistic model: W (diag p - p p^T) W^T."""
    p = numpy_probabilities(logistic(x[None]).numpy().astype("float64"))[0]
    w = WEIGHTS.numpy().astype("float64")
    return w @ (np.diag(p) - np.outer(p, p)) @ w.T


def test_kl_divergence_has_gradients_to_both_sides():
    p, q = tf.constant(P, tf.float32), tf.constant(Q, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([p, q])
        value = losses.kl_divergence(p, q)
    expected = numpy_kl(P, Q)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)
    to_p, to_q = tape.gradient(value, [p, q])
    probabilities_p, probabilities_q = numpy_probabilities(P), numpy_probabilities(Q)
    ratio = np.log(probabilities_p / probabilities_q)
    reference = probabilities_p * (ratio - expected[:, None])
    np.testing.assert_allclose(to_p, reference, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(to_q, probabilities_q - probabilities_p, rtol=1e-3, atol=1e-6)


def test_smoothness_is_the_released_cross_entropy_less_a_constant():
    clean, adversarial = tf.constant(P, tf.float32), tf.constant(Q, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([clean, adversarial])
        value = losses.smoothness(clean, adversarial)
    np.testing.assert_allclose(value, numpy_kl(P, Q), rtol=1e-4, atol=1e-6)
    to_clean, to_adversarial = tape.gradient(value, [clean, adversarial])
    assert to_clean is None
    with tf.GradientTape() as tape:
        tape.watch(adversarial)
        soft = tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(clean), adversarial)
    released = tape.gradient(soft, adversarial)
    np.testing.assert_allclose(to_adversarial, released, rtol=1e-4, atol=1e-6)


def test_kl_is_zero_for_equal_and_finite_for_saturated_logits():
    p = tf.constant([[1.0, 2, 3], [1e4, -1e4, 0], [0, 0, 1e4]])
    q = tf.constant([[1.0, 2, 3], [-1e4, 1e4, 0], [0, 0, 1e4]])
    with tf.GradientTape() as tape:
        tape.watch([p, q])
        value = losses.kl_divergence(p, q)
    np.testing.assert_allclose(value, [0, 2e4, 0], atol=1e-6)
    assert all(np.isfinite(g).all() for g in tape.gradient(value, [p, q]))


def test_kl_of_bfloat16_is_float32():
    p, q = tf.cast(P, tf.bfloat16), tf.cast(Q, tf.bfloat16)
    value = losses.smoothness(p, q)
    assert value.dtype == tf.float32
    expected = losses.smoothness(tf.cast(p, tf.float32), tf.cast(q, tf.float32))
    np.testing.assert_array_equal(value, expected)


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="same batch and classes"):
        losses.kl_divergence(tf.zeros([6, 4]), tf.zeros([1, 4]))


def test_virtual_direction_is_the_top_eigenvector():
    network = Recorder(logistic)
    value = losses.virtual_adversarial(network, X, eps=0.5, power_iterations=30, seed=(3, 4))
    perturbation = network.last_perturbation()
    np.testing.assert_allclose(np.linalg.norm(perturbation, axis=1), 0.5, rtol=1e-5)
    for i, x in enumerate(X):
        top = np.linalg.eigh(hessian(x))[1][:, -1]
        assert abs(perturbation[i] @ top) / 0.5 > 0.99
    expected = numpy_kl(logistic(X).numpy(), logistic(network.seen[-1]).numpy())
    np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-5)


def test_one_power_iteration_is_one_hessian_product_and_beats_a_random_direction():
    random, network = Recorder(logistic), Recorder(logistic)
    at_random = losses.virtual_adversarial(random, X, power_iterations=0, seed=(3, 4))
    virtual = losses.virtual_adversarial(network, X, xi=0.01, power_iterations=1, seed=(3, 4))
    start, end = random.last_perturbation(), network.last_perturbation()
    for i, x in enumerate(X):
        product = hessian(x) @ start[i]
        cosine = end[i] @ product / np.linalg.norm(end[i]) / np.linalg.norm(product)
        assert cosine > 0.99
    assert np.mean(virtual) > 2 * np.mean(at_random)


def test_gradient_passes_through_the_last_forward_only():
    weights = tf.Variable(WEIGHTS)
    network = Recorder(lambda x: logistic(x, weights))
    with tf.GradientTape() as tape:
        value = losses.virtual_adversarial(network, X)
    gradient = tape.gradient(value, weights)
    with tf.GradientTape() as tape:
        at_perturbed = logistic(tf.constant(network.seen[-1].numpy()), weights)
        expected = losses.kl_divergence(logistic(X), at_perturbed)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_allclose(gradient, tape.gradient(expected, weights), rtol=1e-5, atol=1e-6)


def test_given_logits_save_the_clean_forward():
    alone, given = Recorder(logistic), Recorder(logistic)
    value = losses.virtual_adversarial(alone, X, seed=(1, 2))
    same = losses.virtual_adversarial(given, X, logistic(X), seed=(1, 2))
    np.testing.assert_array_equal(value, same)
    assert (len(alone.seen), len(given.seen)) == (3, 2)


def test_seed_decides_the_bits_in_one_trace():
    step = tf.function(
        lambda x, seed: losses.virtual_adversarial(logistic, x, seed=seed),
        input_signature=[tf.TensorSpec([None, 2, 2, 3]), tf.TensorSpec([2], tf.int32)],
    )
    first, again, other = step(X, [1, 2]), step(X, [1, 2]), step(X, [1, 3])
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    eager = losses.virtual_adversarial(logistic, X, seed=(1, 2))
    np.testing.assert_allclose(first, eager, rtol=1e-3, atol=1e-5)
    assert step(X[:1], [1, 2]).shape == (1,)
    assert step.experimental_get_tracing_count() == 1


def test_bfloat16_network_finds_nearly_the_same_direction():
    def narrow(x):
        return logistic(tf.cast(x, tf.bfloat16), tf.cast(WEIGHTS, tf.bfloat16))

    wide, network = Recorder(logistic), Recorder(narrow)
    losses.virtual_adversarial(wide, X, seed=(3, 4))
    value = losses.virtual_adversarial(network, X, seed=(3, 4))
    assert value.dtype == tf.float32
    cosine = np.sum(wide.last_perturbation() * network.last_perturbation(), axis=1) / 4
    assert np.median(cosine) > 0.95


@pytest.mark.parametrize(
    "network",
    [
        lambda x: 1e6 * logistic(x),
        lambda x: tf.zeros([tf.shape(x)[0], 3]),
        lambda x: 0.0 * logistic(x),
    ],
    ids=["saturated", "unconnected", "constant"],
)
def test_no_gradient_leaves_the_random_direction_not_nan(network):
    recorder = Recorder(network)
    value = losses.virtual_adversarial(recorder, X)
    assert np.isfinite(value).all()
    np.testing.assert_allclose(np.linalg.norm(recorder.last_perturbation(), axis=1), 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(eps=0.0), "eps=0.0"),
        (dict(xi=-1.0), "xi=-1.0"),
        (dict(power_iterations=-1), "power_iterations=-1"),
        (dict(power_iterations=0.5), "power_iterations=0.5"),
        (dict(x=tf.zeros([2, 2, 2, 3], tf.uint8)), "/ 255"),
        (dict(x=tf.zeros([12])), "rank"),
    ],
)
def test_wrong_input_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        losses.virtual_adversarial(logistic, **(dict(x=X) | arguments))
