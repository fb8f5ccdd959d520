"""Recipes of single-step training hold their programs' numbers; read from bindings, nothing big."""

import functools

import pytest

from robust_tf import recipes
from robust_tf.attacks import FGSMRS

PLACES = ("digits", "mnist", "cifar10", "images")
METHODS = ("fgsm_rs", "n_fgsm", "free", "grad_align", "nuat")


@functools.cache
def loaded(name):
    """A recipe, with its `settings` and `text`."""
    return recipes.load(f"gin/{name}.gin")


def schedule_of(name, steps=10):
    """Its schedule, at so many updates an epoch."""
    settings = loaded(name).settings
    arguments = {"steps_per_epoch": steps, "epochs": settings.epochs}
    with loaded(name).bindings.in_force():
        return settings.schedule(learning_rate=settings.learning_rate, **arguments)


def values(name, steps=10):
    """The rate at each of so many updates of an epoch."""
    schedule = schedule_of(name, steps)
    return [float(schedule(step)) for step in range(steps * loaded(name).settings.epochs)]


def test_all_are_there():
    assert {f"{method}_{place}" for method in METHODS for place in PLACES} <= set(recipes.names())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("place", PLACES)
def test_attack(method, place):
    """One step at the eps of the place, in the mode of batch normalization of the program."""
    text = loaded(f"{method}_{place}").text
    attack = {"fgsm_rs": "FGSMRS", "n_fgsm": "NFGSM", "nuat": "NuclearAttack"}.get(method)
    attack = attack or "training/FGSM"
    assert f"{attack}.eps = %eps" in text and "validation/PGD.eps = %eps" in text
    trained = method in ("fgsm_rs", "n_fgsm", "grad_align")
    assert (f"{attack}.batch_norm = 'training'" in text) == trained


@pytest.mark.parametrize(
    "name, epochs, peak, at",
    [("fgsm_rs", 15, 0.2, 1 / 2), ("n_fgsm", 30, 0.2, 1 / 2), ("grad_align", 30, 0.3, 2 / 5)],
)
def test_cyclic_rates_of_cifar10(name, epochs, peak, at):
    settings = loaded(f"{name}_cifar10").settings
    assert settings.epochs == epochs and settings.batch_size == 128
    assert (settings.weight_decay, settings.decay_all) == (5e-4, True)
    got = values(f"{name}_cifar10")
    assert got[0] == 0 and max(got) == pytest.approx(peak)
    assert got.index(max(got)) == 10 * epochs * at
    assert got[-1] == pytest.approx(peak / (10 * epochs * (1 - at)), rel=1e-3)
    assert "PreActResNet18.shortcut = 'raw'" in loaded(f"{name}_cifar10").text


def test_free_on_cifar10():
    """80,000 updates by batches of 8, drops after 40,000 and 60,000; decay of kernels alone."""
    settings, text = loaded("free_cifar10").settings, loaded("free_cifar10").text
    assert "Free.replays = 8" in text and "WideResNet.depth = 34" in text
    steps = 45000 // 128
    assert abs(settings.epochs * 8 * steps - 80000) < 8 * steps / 2
    schedule = schedule_of("free_cifar10", 8 * steps)
    got = [float(schedule(step)) for step in (39998, 40000, 59998, 60000)]
    assert got == pytest.approx([0.1, 0.01, 0.01, 0.001])
    assert (settings.weight_decay, settings.decay_all) == (2e-4, False)


def test_nuat_on_cifar10():
    settings, text = loaded("nuat_cifar10").settings, loaded("nuat_cifar10").text
    assert (settings.epochs, settings.batch_size, settings.select) == (100, 64, "best")
    assert settings.term_warmup_epochs == 90 and "NuAT.weight = 4.5" in text
    assert settings.validation_attack.steps == 7 and "data.validation_size = 1000" in text
    got = values("nuat_cifar10", 1)
    expected = {0: 0, 20: 0.05, 40: 0.1, 60: 0.06, 80: 0.02, 84: 0.02, 85: 0.002, 89: 0.002}
    expected |= {90: 0.0002, 99: 0.0002}
    assert [got[epoch] for epoch in expected] == pytest.approx([*expected.values()])
    got = values("nuat_wa_cifar10", 1)
    assert [got[epoch] for epoch in (25, 75, 80)] == pytest.approx([0.1, 0.02, 0.02])
    text = loaded("nuat_wa_cifar10").text
    assert "NuAT.weight = 4.0" in text and "EMA.decay = 0.9998" in text


def test_fgsm_rs_on_mnist():
    """Adam to 5e-3 after 4 of 10 epochs, batches of 100, a step of 0.375, the start not boxed."""
    settings, text = loaded("fgsm_rs_mnist").settings, loaded("fgsm_rs_mnist").text
    assert (settings.epochs, settings.batch_size, settings.eps_warmup_epochs) == (10, 100, 0)
    got = values("fgsm_rs_mnist")
    assert max(got) == pytest.approx(5e-3) and got.index(max(got)) == 40
    assert "FGSMRS.boxed_start = False" in text and "FGSMRS.step_size" not in text
    assert FGSMRS(0.3).step.step_size == pytest.approx(0.375)
    assert loaded("n_fgsm_mnist").settings.eps_warmup_epochs == 3
    assert loaded("free_mnist").settings.eps_warmup_epochs == 1


@pytest.mark.parametrize("place, most", [("digits", 8), ("mnist", 10), ("images", 60)])
def test_epochs_of_free_and_of_the_weight_of_nuat(place, most):
    assert loaded(f"free_{place}").settings.epochs <= most / 2
    assert loaded(f"nuat_{place}").settings.epochs == most
    assert loaded(f"nuat_{place}").settings.term_warmup_epochs == pytest.approx(0.9 * most)
