"""Triplets of features by cosine distance: their loss, and whom they are made of (TLA).

The distance is 1 - |cos|, so that opposite features are as near as equal ones.

Source: Mao et al. (2019), "Metric Learning for Adversarial Robustness", and its released program.
"""

import tensorflow as tf

from robust_tf.losses.labels import as_float32, as_labels


def cosine_triplet(
    anchor: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor, margin: float = 0.03
) -> tf.Tensor:
    """max(0, d(a, p) - d(a, n) + margin) with d = 1 - |cos|, per anchor.

    Args:
        anchor: (A, ...) features, any floating type.
        positive: (A, ...) features that should be near.
        negative: (A, ...) features that should be far.
        margin: >= 0.

    Returns:
        (A,) float32 in [0, 1 + margin], with gradients to all three; features that are zero have
            the cosine 0 and no gradient.

    Raises:
        ValueError: not floating, or of different shapes.
    """
    a, p, n = (_units(z, name) for z, name in zip((anchor, positive, negative), "apn", strict=True))
    near, far = (tf.abs(tf.reduce_sum(a * other, axis=1)) for other in (p, n))
    return tf.nn.relu(far - near + margin)


def triplet_norms(anchor: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
    """Mean over the features of a^2 + p^2 + n^2, per anchor.

    Args:
        anchor: (A, ...) features, any floating type.
        positive: (A, ...) features.
        negative: (A, ...) features.

    Returns:
        (A,) float32, >= 0.

    Raises:
        ValueError: not floating.
    """
    parts = [tf.square(_rows(z, name)) for z, name in ((anchor, "a"), (positive, "p"))]
    return tf.reduce_mean(tf.add_n([*parts, tf.square(_rows(negative, "n"))]), axis=1)


def hardest_negative(
    anchor: tf.Tensor, y: tf.Tensor, pool: tf.Tensor, pool_y: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Who of another class is most alike, by the cosine with its sign; without gradient.

    Args:
        anchor: (A, ...) features, any floating type.
        y: (A,) integer class ids.
        pool: (P, ...) features.
        pool_y: (P,) integer class ids.

    Returns:
        int64 (A,) rows of the pool, and bool (A,) whether the pool has another class; where it has
            not, the row is 0.

    Raises:
        ValueError: features not floating; labels one-hot, not integer or too many or few.
    """
    cosines = tf.matmul(_units(anchor, "anchor"), _units(pool, "pool"), transpose_b=True)
    y, pool_y = as_labels(y, anchor.shape[0]), as_labels(pool_y, pool.shape[0], "pool_y")
    return _best(cosines, y[:, None] != pool_y[None])


def other_positive(y: tf.Tensor, pool_y: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Another one of the same class, each with equal chance.

    Args:
        y: (A,) integer class ids of anchors, which are the first A of the pool.
        pool_y: (P,) integer class ids.
        seed: (2,) integers; the same seed gives the same choice.

    Returns:
        int64 (A,) rows of the pool, and bool (A,) whether there is another one; where there is not,
            the row is 0.

    Raises:
        ValueError: labels one-hot or not integer.
    """
    y, pool_y = as_labels(y), as_labels(pool_y, name="pool_y")
    anchors, size = tf.shape(y)[0], tf.shape(pool_y)[0]
    other = tf.range(anchors)[:, None] != tf.range(size)[None]
    draws = tf.random.stateless_uniform([anchors, size], seed)
    return _best(draws, other & (y[:, None] == pool_y[None]))


def _best(scores: tf.Tensor, allowed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where each row is highest among what is allowed, and whether anything is."""
    never = tf.constant(float("-inf"))
    scores = tf.where(allowed, scores, never)
    # A replica's share may be empty, and argmax of no columns is an error.
    scores = tf.pad(scores, [[0, 0], [0, 1]], constant_values=never)
    return tf.argmax(scores, axis=1), tf.reduce_any(allowed, axis=1)


def _units(z: tf.Tensor, name: str) -> tf.Tensor:
    return tf.math.l2_normalize(_rows(z, name), axis=1, epsilon=1e-12)


def _rows(z: tf.Tensor, name: str) -> tf.Tensor:
    """(A, m) float32; the width is a number where it is known: -1 fails for a batch of 0."""
    z = as_float32(z, name)
    width = z.shape[1:].num_elements()
    return tf.reshape(
        z, [tf.shape(z)[0], tf.reduce_prod(tf.shape(z)[1:]) if width is None else width]
    )
