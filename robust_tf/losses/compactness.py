"""Local and global compactness of features (ADR, Bui et al., ECCV 2020, arXiv 2007.05123).

Distances are power means over the m features, (mean_k |z_k - z'_k|^p)^(1/p) = m^(-1/p) ||z -
z'||_p, so that their size does not depend on m. The paper leaves p open (p >= 1); the released code
uses p = 1, the default here.
"""

from typing import Literal, get_args

import tensorflow as tf

from robust_tf.losses.labels import as_float32, as_labels
from robust_tf.validation import check_number

Pairs = Literal["clean_adv", "clean_clean", "adv_adv", "all"]
PAIRS = get_args(Pairs)

# Width of a slice in the pairwise distances: B x B x 128 floats are 8 MB at B = 128. On two cores
# it was the fastest of 11 to 512 at m = 512, and of 64 to 800 at m = 3200.
FEATURES_AT_ONCE = 128


def local_compactness(
    z: tf.Tensor, z_adv: tf.Tensor, norm: float = 1, detach_clean: bool = False
) -> tf.Tensor:
    """Distance between the features of an image and of its adversarial example (ADR, Eq. 1).

    Args:
        z: (B, ...) features of clean images; flattened to (B, m).
        z_adv: features of the adversarial examples, same shape.
        norm: p >= 1: 1 gives the mean absolute difference, 2 the root mean square. Where z equals
            z_adv the gradient is 0 for every p.
        detach_clean: whether the gradient stops at z. The paper has it on both sides (the default);
            the released code detaches, which collapses a network that does not normalise z.

    Returns:
        (B,) float32, >= 0.

    Raises:
        ValueError: norm below 1 or not finite, features not floating or of different shapes.
    """
    _check_norm(norm)
    z, z_adv = _feature_pair(z, z_adv)
    if detach_clean:
        z = tf.stop_gradient(z)
    return _root(tf.reduce_mean(_power(tf.abs(z - z_adv), norm), axis=-1), norm)


def pair_weights(y_a: tf.Tensor, y_b: tf.Tensor, alpha: float = 0.99) -> tf.Tensor:
    """Weights that draw pairs of one class together and push others apart (ADR, Eq. 2).

    w_ij = (alpha - 1[y_i != y_j]) / alpha. The released code divides the label distances by their
    maximum over the batch, which is 0/0 in a batch of one class; the indicator is the same number
    elsewhere and exact there.

    Args:
        y_a: (A,) integer class ids.
        y_b: (B,) integer class ids.
        alpha: in (0, 1); the nearer to 1, the weaker the repulsion. The released code uses 0.99 and
            asserts alpha >= 0.9 (a repulsion of at most 1/9); smaller values can let features grow
            without bound.

    Returns:
        (A, B) float32: 1 where the labels are equal, 1 - 1/alpha < 0 elsewhere.

    Raises:
        ValueError: alpha outside (0, 1), or labels one-hot or not integer.
    """
    hint = "where pairs of different classes repel; use 0.99 as ADR's code does"
    check_number("pair_weights", "alpha", alpha, 0.0, hint, high=1.0, strict=True, strict_high=True)
    same = as_labels(y_a, name="y_a")[:, None] == as_labels(y_b, name="y_b")[None, :]
    return tf.where(same, tf.constant(1.0), tf.constant(1 - 1 / alpha, tf.float32))


def global_compactness(
    z: tf.Tensor,
    z_adv: tf.Tensor,
    y: tf.Tensor,
    alpha: float = 0.99,
    pairs: Pairs = "clean_adv",
    norm: float = 1,
    detach_clean: bool = False,
) -> tf.Tensor:
    """Weighted distances between the features of all pairs in the batch (ADR, Eq. 3).

    The value of example i is the mean over j of w_ij d(z_j, z'_i), so that the mean over i is the
    mean over all ordered pairs, diagonal included, as in the released code. The pairs are those
    within the batch that is given: under tf.distribute, those within one replica.

    Args:
        z: (B, ...) features of clean images; flattened to (B, m).
        z_adv: features of the adversarial examples, same shape.
        y: (B,) integer class ids.
        alpha: in (0, 1), see pair_weights.
        pairs: which pairs are taken: 'clean_adv' (released code), 'clean_clean' (Eq. 3 as written),
            'adv_adv', or 'all' ordered pairs of the 2B clean and adversarial examples, where
            example i has the mean of its two rows.
        norm: p >= 1 of the distance, see local_compactness.
        detach_clean: whether the gradient stops at z, see local_compactness.

    Returns:
        (B,) float32; negative where repulsion outweighs attraction.

    Raises:
        ValueError: unknown pairs; 'clean_clean' with detach_clean, which has no gradient; alpha or
            norm out of range; features not floating or of different shapes; labels one-hot, not
            integer, or of another batch size.
    """
    if pairs not in PAIRS:
        raise ValueError(f"pairs={pairs!r} is unknown; use one of {', '.join(map(repr, PAIRS))}.")
    if pairs == "clean_clean" and detach_clean:
        raise ValueError(
            "pairs='clean_clean' with detach_clean=True has no gradient; "
            "use detach_clean=False or other pairs."
        )
    _check_norm(norm)
    z, z_adv = _feature_pair(z, z_adv)
    y = as_labels(y, z.shape[0])
    if detach_clean:
        z = tf.stop_gradient(z)
    distances = {
        "clean_adv": lambda: _pairwise_distances(z_adv, z, norm),
        "clean_clean": lambda: _pairwise_distances(z, z, norm),
        "adv_adv": lambda: _pairwise_distances(z_adv, z_adv, norm),
        "all": lambda: _mean_of_all_distances(z, z_adv, norm),
    }[pairs]()
    return tf.reduce_mean(pair_weights(y, y, alpha) * distances, axis=1)


def _mean_of_all_distances(z: tf.Tensor, z_adv: tf.Tensor, norm: float) -> tf.Tensor:
    """The four blocks of distances among 2B examples, averaged to (B, B).

    The weights of a pair are those of its labels, the same in all four, so they are applied after.
    """
    across = _pairwise_distances(z_adv, z, norm)
    within = _pairwise_distances(z, z, norm) + _pairwise_distances(z_adv, z_adv, norm)
    return 0.25 * (within + across + tf.transpose(across))


def _pairwise_distances(a: tf.Tensor, b: tf.Tensor, norm: float) -> tf.Tensor:
    """Power-mean distances of all rows of `a` to all rows of `b`, without a tensor of A x B x m.

    Features are taken in slices, one after the other, and taken again for the gradient, so that
    A x B x FEATURES_AT_ONCE values are held at a time; this is also faster, for they stay in cache.

    Args:
        a: (A, m) float32.
        b: (B, m) float32.
        norm: p >= 1.

    Returns:
        (A, B) float32, with gradients to both sides, 0 where two rows are equal.
    """
    width = a.shape[1] or b.shape[1]
    if width is None:  # A width that only the run knows cannot be cut while tracing.
        slices = [slice(None)]
    else:
        slices = [slice(k, k + FEATURES_AT_ONCE) for k in range(0, width, FEATURES_AT_ONCE)]
    count = tf.cast(tf.shape(a)[1], tf.float32)

    @tf.custom_gradient
    def distances(a: tf.Tensor, b: tf.Tensor):
        total = tf.zeros([tf.shape(a)[0], tf.shape(b)[0]])
        for part in slices:
            with tf.control_dependencies([total]):  # Else all slices may be in memory at once.
                difference = a[:, None, part] - b[None, :, part]
            total += tf.reduce_sum(_power(tf.abs(difference), norm), axis=-1)
        distance = _root(total / count, norm)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # d distance / d difference = sign(difference) (|difference| / distance)^(p-1) / m
            factor = upstream / count
            scale = tf.where(distance > 0, distance, 1.0)
            if norm == 2:
                factor /= scale
            grads_a: list[tf.Tensor] = []
            grads_b: list[tf.Tensor] = []
            for part in slices:
                # Not on grads_b: they drop out of the graph where b is detached.
                with tf.control_dependencies(grads_a[-1:]):
                    slope = a[:, None, part] - b[None, :, part]
                if norm not in (1, 2):
                    ratio = tf.abs(slope) / scale[:, :, None]
                    slope = tf.sign(slope) * tf.pow(ratio, float(norm) - 1)
                elif norm == 1:
                    slope = tf.sign(slope)
                slope *= factor[:, :, None]
                grads_a.append(tf.reduce_sum(slope, axis=1))
                grads_b.append(-tf.reduce_sum(slope, axis=0))
            return tf.concat(grads_a, axis=1), tf.concat(grads_b, axis=1)

        return distance, gradient

    return distances(a, b)


def _feature_pair(z: tf.Tensor, z_adv: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Both features as (B, m) float32."""
    z, z_adv = as_float32(z, "z"), as_float32(z_adv, "z_adv")
    if not z.shape.is_compatible_with(z_adv.shape):
        raise ValueError(
            f"z has shape {tuple(z.shape)} and z_adv {tuple(z_adv.shape)}; "
            "take both at the same cut of the network, from batches of the same size."
        )
    return _flatten(z, "z"), _flatten(z_adv, "z_adv")


def _flatten(z: tf.Tensor, name: str) -> tf.Tensor:
    if z.shape.rank in (0, 1):
        raise ValueError(f"{name} has shape {tuple(z.shape)}, but (batch, features...) is needed.")
    if z.shape.rank == 2:
        return z
    # The width is given as a number where it is known: reshaping to -1 fails for a batch of 0.
    width = z.shape[1:].num_elements() if z.shape.rank is not None else None
    width = tf.reduce_prod(tf.shape(z)[1:]) if width is None else width
    return tf.reshape(z, [tf.shape(z)[0], width])


def _check_norm(norm: float) -> None:
    check_number("compactness", "norm", norm, 1.0, "use 1 (ADR's code) or 2")


def _power(magnitude: tf.Tensor, norm: float) -> tf.Tensor:
    if norm == 1:
        return magnitude
    return tf.square(magnitude) if norm == 2 else tf.pow(magnitude, float(norm))


def _root(mean: tf.Tensor, norm: float) -> tf.Tensor:
    """mean^(1/p) with gradient 0, not infinity, at mean = 0."""
    if norm == 1:
        return mean
    positive = mean > 0
    safe = tf.where(positive, mean, 1.0)
    root = tf.sqrt(safe) if norm == 2 else tf.pow(safe, 1 / float(norm))
    return tf.where(positive, root, 0.0)
