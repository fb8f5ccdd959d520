"""Runs that are watched for catastrophic overfitting: what is found, and what is done about it."""

import dataclasses
import functools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, compat, files, runs
from robust_tf.attacks import FGSM, PGD, ProjectedGradient
from robust_tf.methods import AdversarialTraining, Bilateral, FeatureScattering, Standard
from robust_tf.models import MLP
from robust_tf.training import readback
from robust_tf.training.guard import Guard
from robust_tf.training.loop import Loop
from robust_tf.training.overfitting import DIVERGENCE, OVERFITTING, Gap
from robust_tf.training.run_guard import is_watched
from robust_tf.training.softening import described, soften
from robust_tf.training.weight_average import EMA
from tests.tiny import tiny_network, two_replicas
from tests.training.runs import (
    NO_STRATEGY,
    Stopped,
    assert_same_run,
    events,
    model_weights,
    moons,
    points_recipe,
    recipe,
    rows,
    thirds,
    trainer,
)
from tests.training.test_freezing import network as with_batch_norm

STEP = 0.02  # of the training attack


def settings(**changes):
    """3 epochs of 6 steps, a check after every second."""
    method = functools.partial(AdversarialTraining, attack=PGD(0.02, STEP, 1))
    quick = {"validation_attack": None, "evaluation_attacks": (), "network": small}
    return points_recipe(**{"method": method, "epochs": 3, "guard_every": 2, **quick, **changes})


small = functools.partial(MLP, hidden=(4,))


def overfits(patch, at, softer_helps=True, found=(0.9, 0.02)):
    """Has checks measure a training that overfits from a step on, until its attack is softer."""

    def measure(self):
        bad = (step := int(self.model.batches)) >= at
        if softer_helps and getattr(self.model.attack, "step_size", STEP) < STEP:
            bad = False
        return Gap(*(found if bad else (0.8, 0.6 + 0.001 * step)), images=128)

    patch.setattr(Guard, "measure", measure)


@pytest.fixture
def measured(monkeypatch):
    return functools.partial(overfits, monkeypatch)


@pytest.fixture(scope="module", autouse=True)
def no_reading_back():
    """Models are saved and read back before a run, which is tested elsewhere and takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readback, "check", lambda *arguments: None)
        yield


def lines(folder):
    return files.read_lines(folder / "guard.jsonl")


def warned(run):
    """The summary, and what of catastrophic overfitting was said."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        summary = run.train()
    words = (OVERFITTING, DIVERGENCE)
    return summary, [str(one.message) for one in said if str(one.message).startswith(words)]


def test_warn_says_it_once_and_trains_on(measured, tmp_path):
    measured(at=8)
    summary, said = warned(trainer(tmp_path, settings(), moons()))
    assert said == [
        "catastrophic overfitting at step 8 (epoch 2): of 128 validation images 2.0% withstand "
        "PGD-5 (best 60.6%) and 90.0% the training attack; train.on_collapse = 'stop' or "
        "'rollback' would act on it."
    ]
    found = lines(tmp_path)
    assert [row["step"] for row in found] == list(range(2, 19, 2))
    assert [row["check"] for row in found] == list(range(9))
    assert [row.get("verdict") for row in found] == [None] * 3 + [OVERFITTING] * 6
    assert found[3] == {
        "check": 3, "epoch": 2, "step": 8, "training_attack": 0.9, "pgd": 0.02, "images": 128,
        "verdict": OVERFITTING, "action": "warn",
    }  # fmt: skip
    assert [row["guard_pgd_accuracy"] for row in rows(tmp_path)] == [0.606, 0.02, 0.02]
    assert [row["guard_attack_accuracy"] for row in rows(tmp_path)] == [0.8, 0.9, 0.9]
    assert summary["guard"] == {
        "checks": 9, "found": found[3:], "rollbacks": 0, "stopped": False,
    }  # fmt: skip
    shown = {value.tag: event.step for event in events(tmp_path) for value in event.summary.value}
    assert shown["guard/pgd_accuracy"] == shown["guard/training_attack_accuracy"] == 18
    record = runs.read_run(tmp_path).record
    assert record["method"]["attack_steps"] == 1
    assert record["guard"]["every"] == 2 and record["guard"]["images"] == 25
    # 25 images, 3 and 11 passes each, every second step of 16 images and 4 passes each.
    assert record["guard"]["share_of_passes"] == round(25 * 14 / (2 * 16 * 4), 6)


def test_stop_ends_the_run_and_keeps_the_best(measured, tmp_path):
    measured(at=8)
    attack = PGD(0.02, 0.01, 2)
    what = settings(on_collapse="stop", checkpoint_minutes=9.0, validation_attack=attack)
    summary, said = warned(trainer(tmp_path, what, moons()))
    assert len(said) == 1 and said[0].endswith("the training is stopped.")
    assert [(row["epoch"], row["step"]) for row in rows(tmp_path)] == [(1, 6), (2, 8)]
    assert summary["guard"]["stopped"] and summary["selected"] == "best"
    assert summary["best_epoch"] in (1, 2) and summary["evaluation"]["examples"] == 16
    best = keras.models.load_model(tmp_path / "best.keras", compile=False).get_weights()
    for a, b in zip(best, model_weights(tmp_path), strict=True):
        np.testing.assert_array_equal(a, b)
    again = trainer(tmp_path, what, moons())
    assert again.finished and again.train() == summary


def test_divergence_is_only_told(measured, tmp_path):
    measured(at=8, found=(0.02, 0.01))
    run = trainer(tmp_path, settings(on_collapse="stop", epochs=2), moons())
    summary, said = warned(run)
    assert len(said) == 1 and said[0].startswith("divergence at step 8 (epoch 2): of 128")
    assert not summary["guard"]["stopped"] and rows(tmp_path)[-1]["step"] == 12


def going_back():
    """A checkpoint after each call of the loop."""
    return settings(on_collapse="rollback", checkpoint_minutes=0.0, weight_average=EMA)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that went back, and was never stopped: its folder, itself, and what it said."""
    folder = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as patch:
        overfits(patch, at=8)
        run = trainer(folder, going_back(), moons())
        return folder, run, *warned(run)


def test_rollback_trains_the_steps_again_with_half_the_step(straight):
    """As if it had been so from the good checkpoint on: same order, same seeds, same schedule."""
    folder, run, summary, said = straight
    assert len(said) == 1 and "going back to the last good checkpoint" in said[0]
    found = lines(folder)
    # Good is the first check of an epoch that is in order: that after step 2.
    assert [row["step"] for row in found] == [2, 4, 6, 8, *range(4, 19, 2)]
    assert [row["check"] for row in found] == list(range(12))
    change = {"action": "rollback", "to_epoch": 1, "to_step_in_epoch": 2, "step_size": STEP / 2}
    assert found[3].items() >= change.items()
    assert summary["guard"]["rollbacks"] == 1 and summary["guard"]["found"] == [found[3]]
    assert [row["epoch"] for row in rows(folder)] == [1, 2, 3]
    assert run.model.attack == PGD(0.02, STEP / 2, 1)

    other = going_back().build(moons(), NO_STRATEGY)
    loop = Loop(other, NO_STRATEGY)
    loop.train(iter(run.batches.of(0, 0)), tf.constant(2))
    other.set_attack(PGD(0.02, STEP / 2, 1))
    loop = Loop(other, NO_STRATEGY)
    loop.train(iter(run.batches.of(0, 2, 3)), tf.constant(16))
    for mine, theirs in ((other.network, run.model.network), (other.averaged, run.model.averaged)):
        for a, b in zip(mine.variables, theirs.variables, strict=True):
            np.testing.assert_array_equal(*(tf.convert_to_tensor(compat.raw(v)) for v in (a, b)))


@pytest.mark.parametrize("call", [4, 5])
def test_a_run_that_rolls_back_continues_to_the_bit(call, straight, measured, stop_after, tmp_path):
    """Stopped just before it went back, and in the first call after that."""
    measured(at=8)
    stop_after("advance", call)
    with pytest.raises(Stopped):
        trainer(tmp_path, going_back(), moons()).train()
    trainer(tmp_path, going_back(), moons()).train()
    assert_same_run(straight[0], tmp_path)
    assert lines(straight[0]) == lines(tmp_path)


def test_rollbacks_are_bounded(measured, tmp_path):
    measured(at=8, softer_helps=False)
    run = trainer(tmp_path, settings(on_collapse="rollback", guard_rollbacks=2), moons())
    summary, said = warned(run)
    assert [row["action"] for row in summary["guard"]["found"]] == ["rollback"] * 2 + ["stop"]
    assert "stopped after as many rollbacks as train.guard_rollbacks allows" in said[-1]
    assert run.model.attack.step_size == STEP / 4 and summary["guard"]["stopped"]


def test_across_unfreezing_layers_are_frozen_again(measured, tmp_path):
    """Found just behind `train.unfreeze_epoch`, while the good checkpoint lies before it."""
    measured(at=10)
    what = recipe(
        network=with_batch_norm,
        validation_attack=None,
        evaluation_attacks=(),
        method=functools.partial(AdversarialTraining, attack=PGD(0.1, STEP, 1)),
        frozen="generator",
        unfreeze_epoch=1,
        epochs=2,
        guard_every=5,  # of 6 steps an epoch
        on_collapse="rollback",
        eps_warmup_epochs=0.0,
    )
    run = trainer(tmp_path / "run", what, thirds())
    before = [w.copy() for w in run.model.network.generator.get_weights()]
    seen = []
    original = run._epoch

    def watched(epoch, *args):
        seen.append((epoch, int(run.progress.step_in_epoch.numpy())))
        went_on = original(epoch, *args)
        if epoch == 0:
            now = run.model.network.generator.get_weights()
            assert all((a == b).all() for a, b in zip(before, now, strict=True))
        return went_on

    run._epoch = watched
    _, said = warned(run)
    assert seen == [(0, 0), (1, 0), (0, 5), (1, 0)] and len(said) == 1
    now = run.model.network.generator.get_weights()
    assert any((a != b).any() for a, b in zip(before, now, strict=True))


@dataclasses.dataclass(frozen=True)
class Careless(PGD):
    """PGD, which a step longer than eps leads back to where it started."""

    def run(self, network, x, y, seed, budget):
        x_adv = super().run(network, x, y, seed, budget)
        return tf.where(budget.step_size > tf.cast(1.01 * budget.eps, tf.float32), x, x_adv)


def test_a_real_collapse_is_found_and_mended(tmp_path):
    """Nothing is made up but the attack: its images are the clean ones while its step is long."""
    attack = Careless(0.2, 0.3, 1)
    what = recipe(
        method=functools.partial(AdversarialTraining, attack=attack),
        network=lambda input_shape, num_classes: tiny_network(),
        epochs=12,
        validation_attack=None,
        evaluation_attacks=(),
        learning_rate=0.02,
        eps_warmup_epochs=0.0,
        guard_every=4,
        on_collapse="rollback",
        steps_per_call=4,
        validate_every=12,
        checkpoint_minutes=9.0,
        schedule=lambda learning_rate, **_: learning_rate,
    )
    summary, said = warned(trainer(tmp_path, what, thirds(validation=90)))
    found = lines(tmp_path)
    first = next(row for row in found if "verdict" in row)
    assert first["verdict"] == OVERFITTING and first["pgd"] < first["training_attack"] / 2
    assert summary["guard"]["rollbacks"] == len(said) == 1
    assert found[-1]["pgd"] > first["pgd"] + 0.3, found


@pytest.mark.parametrize(
    "method, every, watched",
    [
        (functools.partial(AdversarialTraining, attack=FGSM(0.02)), None, True),
        (functools.partial(AdversarialTraining, attack=PGD(0.02, 0.01, 2)), None, True),
        (functools.partial(AdversarialTraining, attack=PGD(0.02, 0.01, 3)), None, False),
        (functools.partial(AdversarialTraining, attack=PGD(0.02, 0.01, 3)), 5, True),
        (functools.partial(AdversarialTraining, attack=FGSM(0.02)), 0, False),
        (functools.partial(AdversarialTraining, attack=FGSM(0.0)), None, False),
        (functools.partial(FeatureScattering, attack=attacks.ScatteringAttack(0.02)), None, True),
        (Standard, None, False),
    ],
)
def test_what_is_watched(method, every, watched):
    assert is_watched(points_recipe(guard_every=every), method(tiny_network())) == watched


@pytest.mark.parametrize(
    "attack, changed",
    [
        (PGD(0.1, 0.2, 1), PGD(0.1, 0.1, 1)),
        (attacks.ManifoldAttack(0.1), attacks.ManifoldAttack(0.1, 0.05)),
        (attacks.ScatteringAttack(0.1), attacks.ScatteringAttack(0.1, 0.05)),
        (
            FGSM(0.1, random_start=True),
            ProjectedGradient(attacks.Linf(0.1), attacks.Steepest(0.05), 1),
        ),
    ],
)
def test_a_softer_attack_has_half_the_step(attack, changed):
    assert soften(attack) == changed
    assert described(changed)["step_size"] == changed.step_size


def test_a_softer_attack_has_more_noise_where_it_has_any():
    @dataclasses.dataclass(frozen=True)
    class Noisy(PGD):
        noise: float = 2.0

    assert soften(Noisy(0.1, 0.1, 1)) == Noisy(0.1, 0.1, 1, noise=3.0)
    assert described(Noisy(0.1, 0.1, 1)) == {"noise": 2.0}


def test_bilateral_aims_the_softer_attack():
    model = Bilateral(tiny_network(), FGSM(0.1))
    model.set_attack(soften(model.attack))
    assert model.aimed.objective.targeted and model.aimed.step_size == 0.05


def test_refuses_what_would_have_no_effect(tmp_path):
    far = functools.partial(AdversarialTraining, attack=PGD(0.02, 0.01, 3))
    with pytest.warns(UserWarning, match="'stop' has no effect.*AdversarialTraining has 3 steps"):
        trainer(tmp_path / "far", points_recipe(method=far, on_collapse="stop"), moons())
    folder = tmp_path / "none"
    with pytest.raises(ValueError, match="train.guard_every: the training attack None"):
        trainer(folder, points_recipe(method=Standard, guard_every=5), moons())
    square = functools.partial(AdversarialTraining, attack=attacks.Square(0.1, queries=2))
    with pytest.raises(ValueError, match="'rollback': the training attack Square.*'stop' or 'wa"):
        what = points_recipe(method=square, guard_every=5, on_collapse="rollback")
        trainer(folder, what, moons())
    assert not folder.exists()


def test_without_validation_images_training_images_are_watched(tmp_path):
    run = trainer(tmp_path, settings(), moons(validation=0))
    assert run.record["guard"]["split"] == "train"
    assert run.guard.guard.measure().images == 96


def test_two_replicas_measure_what_one_does_and_go_back(measured, tmp_path):
    arguments = {"strategy": two_replicas()}
    one = trainer(tmp_path / "one", settings(on_collapse="rollback"), moons())
    what = settings(on_collapse="rollback", epochs=2)
    two = trainer(tmp_path / "two", what, moons(), **arguments)
    gaps = [run.guard.guard.measure() for run in (one, two)]  # 25 images: 13 and 12
    assert gaps[0] == gaps[1] and gaps[0].images == 25
    measured(at=8)
    summary, said = warned(two)
    assert summary["guard"]["rollbacks"] == len(said) == 1
    assert two.model.attack.step_size == STEP / 2
