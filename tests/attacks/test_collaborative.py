"""Collaborative examples are those of low loss."""

import numpy as np
import pytest

from robust_tf import attacks
from robust_tf.evaluation import evaluate
from tests.tiny import Smooth, cross_entropies, images, same_bits

MODEL, X = Smooth(), images()
Y = np.array([0, 1, 2, 0, 1, 2], "int32")  # right and wrong


@pytest.mark.parametrize("options", [{}, {"random_start": True}, {"norm": "L2"}])
def test_the_loss_of_every_example_falls(options):
    eps = 1.0 if options.get("norm") else 0.1
    low = attacks.Collaborative(eps, eps / 4, 10, **options)(MODEL, X, Y)
    assert (cross_entropies(MODEL, low, Y) < cross_entropies(MODEL, X, Y)).all()


def test_it_is_bim_with_its_sign_reversed():
    low = attacks.Collaborative(0.1, 0.1, 1)(MODEL, X, Y).numpy()
    high = attacks.FGSM(0.1)(MODEL, X, Y).numpy()
    inside = (X > 0.1) & (X < 0.9)
    np.testing.assert_allclose((low - X)[inside], (X - high)[inside], atol=1e-6)
    same_bits(
        attacks.Collaborative(0.1, 0.03, 3)(MODEL, X, Y),
        attacks.BIM(0.1, 0.03, 3, targeted=True)(MODEL, X, Y),
    )


def test_an_evaluation_refuses_it():
    with pytest.raises(ValueError, match="targeted attack has no target here"):
        evaluate(MODEL, (X, Y), [attacks.Collaborative(0.1, 0.02, 2)])
