"""Optimal transport between two batches of features (Feature Scattering, Zhang & Wang 2019)."""

import math

import tensorflow as tf

from robust_tf.losses.labels import as_float32
from robust_tf.validation import check_number, check_whole

# In the logarithm of the released program, against log 0.
FLOOR = 1e-6


def sinkhorn_distance(
    z: tf.Tensor,
    z_adv: tf.Tensor,
    regularizer: float = 0.01,
    max_iterations: int = 100,
    tolerance: float = 0.1,
) -> tf.Tensor:
    """Cost of transporting the batch z to the batch z_adv, by entropic optimal transport.

    With costs C_ij = 1 - cos(z_i, z'_j) and the plan T of `transport_plan`, example i has the value
    B sum_j T_ij C_ij, so that the mean over the batch is sum_ij T_ij C_ij. The plan is not
    detached: gradients pass through all iterations, to both sides. The batch is that which is
    given: under tf.distribute, that of one replica. A batch of one has the plan 1, and the cosine
    distance of its pair.

    Args:
        z: (B, ...) features of clean images; flattened to (B, m). The released program takes the
            logits.
        z_adv: features of perturbed images, same shape.
        regularizer: weight of the entropy, > 0; far below 0.01, exp(-C / regularizer) is 0 in
            float32 and the plan takes many iterations.
        max_iterations: of Sinkhorn, an integer >= 1.
        tolerance: stop once the potentials of the rows moved by less in sum, >= 0; 0 never stops
            early.

    Returns:
        (B,) float32, >= 0, the mean of which is at most 2.

    Raises:
        ValueError: a setting outside its range; features not floating, not (B, ...), or of
            different shapes.

    Source: Zhang & Wang (2019), "Defense Against Adversarial Attacks Using Feature
    Scattering-based Adversarial Training", and its released program.
    """
    check_sinkhorn(regularizer, max_iterations, tolerance)
    costs = cosine_costs(z, z_adv)
    plan = transport_plan(costs, regularizer, max_iterations, tolerance)
    return tf.cast(tf.shape(costs)[0], tf.float32) * tf.reduce_sum(plan * costs, axis=1)


def cosine_costs(z: tf.Tensor, z_adv: tf.Tensor) -> tf.Tensor:
    """C_ij = max(0, 1 - cos(z_i, z'_j)), (B, B) float32 in [0, 2]; vectors of length 0 cost 1."""
    z, z_adv = as_float32(z, "z"), as_float32(z_adv, "z_adv")
    if None not in (z.shape.rank, z_adv.shape.rank) and not (
        z.shape.rank >= 2 and z.shape.is_compatible_with(z_adv.shape)
    ):
        raise ValueError(
            f"z has shape {tuple(z.shape)} and z_adv {tuple(z_adv.shape)}; both have to be "
            "(batch, features...), of the same cut of the network and the same size."
        )
    # In float64: a GPU multiplies float32 matrices with 10 bits, too coarse beside 1 - cos of an
    # image and the same image slightly moved.
    rows, columns = (
        tf.math.l2_normalize(tf.cast(_flat(part), tf.float64), axis=1, epsilon=1e-12)
        for part in (z, z_adv)
    )
    costs = tf.maximum(1.0 - tf.matmul(rows, columns, transpose_b=True), 0.0)
    return tf.cast(costs, tf.float32)


def transport_plan(
    costs: tf.Tensor, regularizer: float, max_iterations: int, tolerance: float
) -> tf.Tensor:
    """The plan T, (B, B) float32, of marginals 1 / B, by Sinkhorn's iterations on logarithms.

    T = exp(M) with M_ij = (u_i + v_j - C_ij) / regularizer, where u is raised until the rows, and
    then v until the columns sum to 1 / B, over and over, until sum |u - u_before| is below
    `tolerance`. 1e-6 is added to each sum, so that one raise is of log(1e6) regularizers at most
    and no entry exceeds 1 / B. Columns then hold but for that 1e-6, rows as far as one came.

    Args:
        costs: (B, B) float32, >= 0.
        regularizer: > 0.
        max_iterations: >= 1.
        tolerance: >= 0.
    """
    log_share = -tf.math.log(tf.cast(tf.shape(costs)[0], tf.float32))

    def exponents(u: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
        return (u[:, None] + v[None, :] - costs) / regularizer

    def missing(u: tf.Tensor, v: tf.Tensor, axis: int) -> tf.Tensor:
        sums = tf.reduce_sum(tf.exp(exponents(u, v)), axis=axis)
        return regularizer * (log_share - tf.math.log(sums + FLOOR))

    def moving(u: tf.Tensor, v: tf.Tensor, moved: tf.Tensor) -> tf.Tensor:
        return moved >= tolerance

    def iterate(
        u: tf.Tensor, v: tf.Tensor, moved: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        step = missing(u, v, 1)
        u += step
        return u, v + missing(u, v, 0), tf.reduce_sum(tf.abs(step))

    zeros = tf.zeros_like(tf.linalg.diag_part(costs))
    start = (zeros, zeros, tf.constant(math.inf))
    u, v, _ = tf.while_loop(moving, iterate, start, maximum_iterations=max_iterations)
    return tf.exp(exponents(u, v))


def check_sinkhorn(
    regularizer: float, max_iterations: int, tolerance: float, owner: str = "sinkhorn_distance"
) -> dict[str, float]:
    """Raises ValueError unless these are settings of `sinkhorn_distance`; as Python numbers."""
    hint = "use 0.1, or 0 for all iterations"
    weight = check_number(owner, "regularizer", regularizer, 0.0, "use 0.01", strict=True)
    return {
        "regularizer": weight,
        "max_iterations": check_whole(owner, "max_iterations", max_iterations, 1, "use 100"),
        "tolerance": check_number(owner, "tolerance", tolerance, 0.0, hint),
    }


def _flat(z: tf.Tensor) -> tf.Tensor:
    """(B, ...) -> (B, m), also for a batch of none."""
    return tf.reshape(z, [tf.shape(z)[0], tf.reduce_prod(tf.shape(z)[1:])])
