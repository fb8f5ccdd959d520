"""Recipes of single-step training hold their programs' numbers; read from bindings, nothing big."""

import pytest

from robust_tf import recipes
from robust_tf.attacks import FGSM, FGSMRS, NFGSM, NuclearAttack

PLACES = ("digits", "mnist", "cifar10", "images")
METHODS = ("fgsm_rs", "n_fgsm", "free", "grad_align", "nuat")


def loaded(name):
    """Settings, the text of the bindings, and the training attack."""
    recipe = recipes.load(f"gin/{name}.gin")
    return recipe.settings, recipe.text


def rates(settings, epochs, steps=10):
    """Of each tenth of an epoch."""
    schedule = settings.schedule(settings.learning_rate, steps_per_epoch=steps, epochs=epochs)
    return [float(schedule(step)) for step in range(steps * epochs)]


def test_all_are_there():
    assert {f"{method}_{place}" for method in METHODS for place in PLACES} <= set(recipes.names())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("place", PLACES)
def test_attack(method, place):
    """One step at the eps of the place, in the mode of batch normalization of the program."""
    text = loaded(f"{method}_{place}")[1]
    attack = {"fgsm_rs": FGSMRS, "n_fgsm": NFGSM, "nuat": NuclearAttack}.get(method, FGSM)
    scope = "training/" * (attack is FGSM)
    assert f"{scope}{attack.__name__}.eps = %eps" in text
    trained = method in ("fgsm_rs", "n_fgsm", "grad_align")
    assert (f"{scope}{attack.__name__}.batch_norm = 'training'" in text) == trained
    assert "validation/PGD.eps = %eps" in text


@pytest.mark.parametrize(
    "name, epochs, peak, at",
    [("fgsm_rs", 15, 0.2, 1 / 2), ("n_fgsm", 30, 0.2, 1 / 2), ("grad_align", 30, 0.3, 2 / 5)],
)
def test_cyclic_rates_of_cifar10(name, epochs, peak, at):
    settings, text = loaded(f"{name}_cifar10")
    assert settings.epochs == epochs and settings.batch_size == 128
    assert (settings.weight_decay, settings.decay_all) == (5e-4, True)
    values = rates(settings, epochs)
    assert values[0] == 0 and max(values) == pytest.approx(peak)
    assert values.index(max(values)) == 10 * epochs * at
    assert values[-1] == pytest.approx(peak / (10 * epochs * (1 - at)), rel=1e-3)
    assert "PreActResNet18.shortcut = 'raw'" in text


def test_free_on_cifar10():
    """80,000 updates by batches of 8, drops after 40,000 and 60,000; decay of kernels alone."""
    settings, text = loaded("free_cifar10")
    assert "Free.replays = 8" in text and "WideResNet.depth = 34" in text
    steps = 45000 // 128
    assert abs(settings.epochs * 8 * steps - 80000) < 8 * steps / 2
    schedule = settings.schedule(settings.learning_rate, steps_per_epoch=8 * steps, epochs=28)
    values = [float(schedule(step)) for step in (39999, 40000, 59999, 60000)]
    assert values == pytest.approx([0.1, 0.01, 0.01, 0.001])
    assert (settings.weight_decay, settings.decay_all) == (2e-4, False)


def test_nuat_on_cifar10():
    settings, text = loaded("nuat_cifar10")
    assert (settings.epochs, settings.batch_size, settings.select) == (100, 64, "best")
    assert settings.term_warmup_epochs == 90 and "NuAT.weight = 4.5" in text
    assert settings.validation_attack.steps == 7 and "data.validation_size = 1000" in text
    values = rates(settings, 100)
    assert [values[10 * epoch] for epoch in (0, 20, 40, 60, 80, 84, 85, 89, 90, 99)] == (
        pytest.approx([0, 0.05, 0.1, 0.06, 0.02, 0.02, 0.002, 0.002, 0.0002, 0.0002])
    )
    settings, text = loaded("nuat_wa_cifar10")
    values = rates(settings, 100)
    assert [values[10 * epoch] for epoch in (25, 75, 80)] == pytest.approx([0.1, 0.02, 0.02])
    assert settings.weight_average(steps_per_epoch=10).decay == 0.9998
    assert "NuAT.weight = 4.0" in text


def test_fgsm_rs_on_mnist():
    """Adam to 5e-3 after 4 of 10 epochs, batches of 100, a step of 0.375, the start not boxed."""
    settings, text = loaded("fgsm_rs_mnist")
    assert (settings.epochs, settings.batch_size, settings.eps_warmup_epochs) == (10, 100, 0)
    values = rates(settings, 10)
    assert max(values) == pytest.approx(5e-3) and values.index(max(values)) == 40
    assert "FGSMRS.boxed_start = False" in text and "FGSMRS.step_size" not in text
    assert FGSMRS(0.3).step.step_size == pytest.approx(0.375)


@pytest.mark.parametrize("place, most", [("digits", 8), ("mnist", 10), ("images", 60)])
def test_free_has_fewer_epochs(place, most):
    settings, text = loaded(f"free_{place}")
    assert settings.epochs <= most / 2 and "Free.replays = " in text
    assert loaded(f"nuat_{place}")[0].term_warmup_epochs == pytest.approx(0.9 * most)
