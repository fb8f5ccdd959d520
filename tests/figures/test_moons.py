"""The toy figure on two moons: drawn of untrained networks, and, slow, what they learn."""

import numpy as np
import pytest

from robust_tf.figures import moons


def test_moons_of_networks_that_have_not_learnt():
    """What they learn is a slow test."""
    made = moons.train_moons(steps=0, show=20)
    for name, toy in made.toys.items():
        step = np.abs(toy.adversarial - made.points).max()
        assert step == 0 if name == "Standard" else 0 < step <= made.eps + 1e-6
    figure = moons.draw_moons(made, 20, "title")
    assert len(figure.axes) == 16 and figure.get_suptitle() == "title"
    with pytest.raises(ValueError, match="0 < eps < 0.5"):
        moons.train_moons(eps=0.7)
    with pytest.raises(ValueError, match="no toy 'PGD'; known: Standard"):
        moons.make_method("PGD", 0.1, 0)


@pytest.mark.slow
def test_moons_learn():
    made = moons.train_moons()
    for name, natural, robust in (
        ("Standard", 0.98, 0.0),
        ("AT", 0.85, 0.7),
        ("Feature Scattering", 0.85, 0.65),
        ("ATLD", 0.85, 0.65),
    ):
        assert made.toys[name].natural_accuracy >= natural
        assert made.toys[name].robust_accuracy >= robust
