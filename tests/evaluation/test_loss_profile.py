"""Losses along the way, against the attacks stopped at each step."""

import numpy as np
import pytest

from robust_tf import attacks
from robust_tf.evaluation import loss_profile
from tests.tiny import Smooth, cross_entropies, images

MODEL, X = Smooth(), images(7)
Y = np.arange(7, dtype="int32") % 3


def test_rows_are_the_losses_of_attacks_of_so_many_steps():
    profile = loss_profile(MODEL, X, Y, 0.1, 0.03, 5, batch_size=3)
    assert all(part.shape == (6, 7) and part.dtype == np.float32 for part in profile)
    ways = (attacks.Collaborative, profile.collaborative), (attacks.BIM, profile.adversarial)
    for attack, losses in ways:
        np.testing.assert_allclose(losses[0], cross_entropies(MODEL, X, Y), rtol=1e-4)
        for steps in (1, 3, 5):
            images_then = attack(0.1, 0.03, steps)(MODEL, X, Y)
            expected = cross_entropies(MODEL, images_then, Y)
            np.testing.assert_allclose(losses[steps], expected, rtol=1e-3, atol=1e-5)
    assert (profile.collaborative[-1] < profile.collaborative[0]).all()
    assert (profile.adversarial[-1] > profile.adversarial[0]).all()


def test_one_trace_whatever_the_batches_and_none_for_no_images():
    model = Smooth()
    loss_profile(model, X, Y, 0.1, 0.03, 2, batch_size=7)
    calls = model.calls
    loss_profile(model, X, Y, 0.1, 0.03, 2, batch_size=3)
    assert model.calls == 2 * calls
    profile = loss_profile(model, X[:0], Y[:0], 0.1, 0.03, 2)
    assert profile.adversarial.shape == (3, 0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"eps": -1.0}, r"Linf\(eps=-1.0\): must be in \[0, 1\]"),
        ({"step_size": 0.0}, r"step_size=0.0\): must be a finite number > 0"),
        ({"steps": 0}, r"loss_profile\(steps=0\): must be an integer >= 1"),
        ({"batch_size": 0}, r"loss_profile\(batch_size=0\): must be an integer >= 1"),
        ({"x": X * 255}, "divide by 255"),
        ({"y": Y + 3}, "the model has 3 classes"),
    ],
)
def test_refused(arguments, message):
    usual = {"x": X, "y": Y, "eps": 0.1, "step_size": 0.03, "steps": 2}
    with pytest.raises(ValueError, match=message):
        loss_profile(MODEL, **{**usual, **arguments})
