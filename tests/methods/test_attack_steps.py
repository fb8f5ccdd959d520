"""How many gradient steps make a method's training images."""

import pytest

from robust_tf import attacks, methods, models
from tests.tiny import tiny_network

PGD3 = attacks.PGD(0.1, 0.05, 3)
SOURCE = tiny_network()


@pytest.mark.parametrize(
    "method, arguments, steps",
    [
        (methods.Standard, {}, 0),
        (methods.AdversarialTraining, {"attack": attacks.FGSM(0.1, random_start=True)}, 1),
        (methods.AdversarialTraining, {"attack": attacks.PGD(0.1, 0.05, 3, restarts=4)}, 3),
        (methods.AdversarialTraining, {"attack": attacks.Transfer(PGD3, SOURCE)}, 3),
        (methods.AdversarialTraining, {"attack": attacks.Square(0.1)}, 0),
        (methods.AdversarialTraining, {"attack": attacks.AutoAttack(0.1)}, 100),
        (methods.FeatureScattering, {"attack": methods.ScatteringAttack(0.1)}, 1),
        (
            methods.ATLD,
            {
                "attack": methods.ManifoldAttack(0.1, steps=2),
                "discriminator": models.MLPDiscriminator,
            },
            2,
        ),
        # The attack on features beside it makes no images.
        (methods.LAT, {"attack": PGD3, "latent_attack": attacks.PGD(0.1, 0.05, 9)}, 3),
        (methods.Bilateral, {"attack": attacks.FGSM(0.1)}, 1),
        (methods.SqueezeTraining, {"attack": attacks.SqueezeAttack(0.1, 0.05, 4)}, 4),
        (methods.ADR, {"attack": PGD3, "virtual": 1.0}, 3),
    ],
)
def test_steps_of_the_attack_that_makes_the_images(method, arguments, steps):
    assert method(tiny_network(), **arguments).attack_steps == steps
