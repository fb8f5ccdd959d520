"""A part of a batch draws the rows that the whole draws."""

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import draws
from robust_tf.attacks.randomness import each
from tests.tiny import same_bits

SEED = tf.constant([3, 5])


def in_parts(draw, sizes, total):
    """What each part draws."""
    firsts = np.cumsum([0, *sizes[:-1]])
    found = []
    for first, rows in zip(firsts, sizes, strict=True):
        with draws.part_of_batch(*map(tf.constant, (int(first), rows, total))):
            found.append(draw(rows))
    return found


@pytest.mark.parametrize("draw", [draws.uniform, draws.normal])
def test_rows_of_the_whole(draw):
    whole = draw([7, 2, 3], SEED)
    parts = in_parts(lambda rows: draw([rows, 2, 3], SEED), [3, 3, 1], 7)
    same_bits(tf.concat(parts, 0), whole)


def test_batches_behind_each_other():
    """Clean and adversarial images of a part, and a few more of the latter than a batch has."""
    whole = draws.uniform([14, 2], SEED).numpy()
    parts = in_parts(lambda rows: draws.uniform([2 * rows, 2], SEED), [4, 3], 7)
    same_bits(tf.concat([parts[0][:4], parts[1][:3]], 0), whole[:7])
    same_bits(tf.concat([parts[0][4:], parts[1][3:]], 0), whole[7:])
    (first, _) = in_parts(lambda rows: draws.uniform([rows + 1, 2], SEED), [4, 3], 7)
    same_bits(first, whole[[0, 1, 2, 3, 7]])


def test_seeds_of_examples():
    parts = in_parts(lambda rows: each(SEED, rows), [4, 3], 7)
    same_bits(tf.concat(parts, 0), each(SEED, 7))
    same_bits(each(SEED, tf.constant([5, 6])), each(SEED, 7)[5:])
