"""Every training method through the harness. A new method is one more line of CASES."""

import dataclasses
import functools

import keras
import pytest
import tensorflow as tf

from robust_tf import attacks, compat, methods, models
from robust_tf.attacks.steps import Start
from tests.harness import METHOD_CHECKS, MethodCase, run_method_test
from tests.tiny import plain_network

FGSM = attacks.FGSM(0.1, batch_norm="training")
PGD = attacks.PGD(eps=0.1, step_size=0.05, steps=2)
KL = attacks.TRADESAttack(0.1, 0.05, 2)
ADR_KL = attacks.TRADESAttack(0.1, 0.05, 2, "adv_clean", "uniform", batch_norm="batch")
# In L2 balls steps are continuous in the gradient, see `check_replicas`.
L2_PAIR = [attacks.FGSM(0.5, norm="L2"), attacks.FGSM(1.0, norm="L2")]
SCATTERING = methods.ScatteringAttack(0.1)


def always_the_same(builder, **arguments):
    """A builder of discriminators with equal weights, as `tiny_network` has them."""

    def build(**sizes):
        keras.utils.set_random_seed(1)
        return builder(**sizes, **arguments)

    return build


class FromAPattern(attacks.SqueezeAttack):
    """Starts without chance, and not where all candidates are equal."""

    def starts(self, bounds, seed):
        pattern = 0.001 * tf.sin(tf.range(64, dtype=tf.float32))
        moved = bounds.center + tf.reshape(pattern, [8, 8, 1])
        return moved, bounds.center + 2 * (bounds.center - moved)


class PatternStart(Start):
    """Without chance, and not where the difference of logits is 0."""

    def __call__(self, threat, bounds, seed):
        return bounds.center + bounds.radius * tf.reshape(tf.sin(tf.range(64.0)), [8, 8, 1])


class FromThePattern(attacks.NuclearAttack):
    start = PatternStart()


def union(choose, **arguments):
    """Training on L-inf and L2 balls."""
    members = [
        attacks.FGSM(eps, random_start=True, norm=n) for n, eps in (("Linf", 0.1), ("L2", 1.0))
    ]
    given = {"attacks": members, "choose": choose}
    return MethodCase(
        methods.UnionTraining, given, without_chance={"attacks": L2_PAIR}, **arguments
    )


CASES = {
    "Standard": lambda: MethodCase(methods.Standard, {}),
    "AdversarialTraining": lambda: MethodCase(methods.AdversarialTraining, {"attack": PGD}),
    "AdversarialTraining half": lambda: MethodCase(
        methods.AdversarialTraining, {"attack": PGD, "clean_weight": 0.5, "label_smoothing": 0.2}
    ),
    "TRADES": lambda: MethodCase(methods.TRADES, {"attack": KL, "beta": 3.0}),
    "ALP": lambda: MethodCase(methods.ALP, {"attack": PGD, "weight": 2.0}),
    "MART": lambda: MethodCase(methods.MART, {"attack": PGD, "beta": 5.0}),
    # What a channel ranges over is the batch of a replica.
    "LAT": lambda: MethodCase(
        methods.LAT,
        {"attack": PGD, "latent_rate": 0.05, "latent_attack": PGD},
        without_chance={"latent_attack": attacks.BIM(0.1, 0.05, 2)},
        independent=False,
    ),
    "LAT batch norm": lambda: MethodCase(
        methods.LAT,
        {"attack": PGD},
        network={"batch_norm": True},
        without_chance={"latent_attack": attacks.BIM(0.1, 0.05, 2, batch_norm="batch")},
        independent=False,
    ),
    "TLA": lambda: MethodCase(
        methods.TLA, {"attack": PGD}, without_chance={"positive": "own"}, independent=False
    ),
    "TLA anchors batch norm": lambda: MethodCase(
        methods.TLA,
        {"attack": PGD, "margin": 0.5, "positive": "both", "anchors": 0.5, "noise": 0.1},
        network={"batch_norm": True},
        without_chance={"positive": "own", "noise": 0.0},
        independent=False,
    ),
    "ADR": lambda: MethodCase(methods.ADR, {"attack": PGD, "preset": "code"}, independent=False),
    "ADR virtual": lambda: MethodCase(
        methods.ADR,
        {"attack": KL, "preset": "none", "local": 0.5, "smoothness": 2.0, "virtual": 1.0},
        without_chance={"virtual": 0.0},
    ),
    "ADR TRADES batch norm": lambda: MethodCase(
        methods.ADR,
        {
            "attack": ADR_KL,
            "preset": "code",
            "compactness": methods.Compactness(pairs="all", detach_clean=True),
        },
        network={"batch_norm": True},
        independent=False,
    ),
    "ATLD": lambda: MethodCase(
        methods.ATLD,
        {
            "attack": methods.ManifoldAttack(0.1),
            "discriminator": always_the_same(models.MLPDiscriminator, batch_norm=False),
        },
        without_chance={"attack": methods.ManifoldAttack(0.1, random_start=False)},
    ),
    "ATLD features batch norm": lambda: MethodCase(
        methods.ATLD,
        {
            "attack": methods.ManifoldAttack(0.1, 0.05, 2, class_weight=0.5),
            "label_smoothing": 0.1,
            "discriminator": always_the_same(models.WideDiscriminator, depth=10, width=1),
            "disc_input": "features",
            "disc_training": methods.DiscriminatorTraining(1, 1e-2, 0.5, hard_labels=True),
            "invariance": "fool_disc",
            "clean_bn_every": 2,
        },
        network={"batch_norm": True},
        without_chance={"attack": methods.ManifoldAttack(0.1, 0.05, 2, random_start=False)},
        independent=False,
    ),
    "FeatureScattering": lambda: MethodCase(
        methods.FeatureScattering, {"attack": SCATTERING}, independent=False
    ),
    "FeatureScattering features batch norm": lambda: MethodCase(
        methods.FeatureScattering,
        {
            "attack": dataclasses.replace(SCATTERING, space="features", steps=2),
            "label_smoothing": 0.2,
        },
        network={"batch_norm": True},
        independent=False,
    ),
    # The rows of a replica go on from its own rows of the batch before.
    "Free": lambda: MethodCase(
        methods.Free,
        {"attack": attacks.FGSM(0.03), "replays": 2},
        without_chance={"attack": attacks.FGSM(1.0, norm="L2")},
        independent=False,
    ),
    "GradAlign": lambda: MethodCase(
        methods.GradAlign,
        {"attack": FGSM, "weight": 0.5},
        without_chance={"attack": attacks.FGSM(1.0, norm="L2"), "weight": 0.0},
    ),
    "NuAT": lambda: MethodCase(
        methods.NuAT,
        {"attack": attacks.NuclearAttack(0.1), "weight": 0.5},
        without_chance={"attack": FromThePattern(0.1)},
        independent=False,
    ),
    "Bilateral": lambda: MethodCase(methods.Bilateral, {"attack": PGD, "gap": 0.1}),
    "Bilateral batch norm": lambda: MethodCase(
        methods.Bilateral,
        {"attack": attacks.FGSM(0.1, random_start=True), "multiplier": 4.0},
        network={"batch_norm": True},
        independent=False,
    ),
    "UnionTraining": lambda: union("average"),
    "UnionTraining max batch norm": lambda: union(
        "max", network={"batch_norm": True}, independent=False
    ),
    "SqueezeTraining": lambda: MethodCase(
        methods.SqueezeTraining,
        {"attack": attacks.SqueezeAttack(0.1, 0.05, 2), "beta": 3.0},
        without_chance={"attack": FromAPattern(0.1, 0.05, 2)},
    ),
    "SqueezeTraining batch norm": lambda: MethodCase(
        methods.SqueezeTraining,
        {
            "attack": attacks.SqueezeAttack(0.1, 0.05, 2, "uniform", "js"),
            "outer_order": "rst",
        },
        network={"batch_norm": True},
        without_chance={"attack": FromAPattern(0.1, 0.05, 2)},
        independent=False,
    ),
}


def of_keras(name):
    """The first case of a method, on a functional model of Keras' own layers, as a user has it."""
    case = CASES[name]()
    return dataclasses.replace(case, network={}, builder=plain_network, independent=False)


CASES |= {
    f"{name} of Keras": functools.partial(of_keras, name) for name in CASES if " " not in name
}


# What these tell of a method they tell by its first case.
ONCE = ("check_keras", "check_seed", "check_composed", "check_half", "check_export")
# Keras' own layers: the step, and the bits of a run that is continued. All checks for one method.
OF_KERAS = ("check_learns", "check_trainer")
OF_THE_BASE = ("check_keras", "check_export", "check_seed", "check_composed")
# Keras 2 is another Keras, not another method: there every method learns, trains on after a stop,
# is saved, exported and fitted, and these, with the most in them, pass all.
ON_KERAS_2 = ("check_learns", "check_trainer", "check_saved_midway", "check_keras", "check_export")
WHOLE_ON_KERAS_2 = (
    "TRADES",
    "TRADES of Keras",
    "ADR TRADES batch norm",
    "ATLD features batch norm",
)


def slow(name, check):
    """Whether this check of this case would tell nothing that others do not."""
    further = " " in name
    # What Keras asks of a method they leave to the base class, as AdversarialTraining does.
    if name.startswith(("Free", "GradAlign", "NuAT")) and check in OF_THE_BASE:
        return True
    if name.endswith(" of Keras"):
        if check not in OF_KERAS and not name.startswith("TRADES"):
            return True
    elif further and check in ONCE:
        return True
    if compat.KERAS_3 or name in WHOLE_ON_KERAS_2:
        return False
    return check not in ON_KERAS_2 or (further and not name.endswith(" of Keras"))


def cases():
    """Every check of every case; those that would tell nothing new are slow."""
    for name in CASES:
        for check in METHOD_CHECKS:
            # There TRADES' start, where the divergence is 0 but for rounding, decides in float16
            # by rounding; see test_keras_contract.
            if check.__name__ == "check_half" and name.endswith(" of Keras"):
                continue
            marks = [pytest.mark.slow] if slow(name, check.__name__) else []
            yield pytest.param(name, check, id=f"{name}-{check.__name__[6:]}", marks=marks)


@pytest.mark.parametrize("name, check", list(cases()))
def test_method(name, check, tmp_path):
    run_method_test(CASES[name](), tmp_path, [check])
