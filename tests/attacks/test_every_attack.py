"""Every attack through the harness. A new attack is one more line of CASES."""

import functools

import pytest

from robust_tf import attacks, compat
from tests.harness import ATTACK_CHECKS, AttackCase, run_attack_test


def make(attack, steps=4, **arguments):
    """eps -> attack of steps of 0.7 eps, enough to cross the ball from any start."""

    def of(eps, **kwargs):
        return attack(eps=eps, step_size=0.7 * eps or 0.1, steps=steps, **arguments, **kwargs)

    return of


def fgsm(random_start):
    return lambda eps, **kwargs: attacks.FGSM(eps, random_start, **kwargs)


def apart(batch_norm="running", **arguments):
    """A squeeze attack in which examples do not see each other."""
    return attacks.SqueezeAttack(batch_norm=batch_norm, **arguments)


def multi_targeted(attack, **arguments):
    inner = make(attack)
    return lambda eps, **kwargs: attacks.MultiTargeted(inner(eps, **kwargs), **arguments)


def union(attack, member, **arguments):
    """eps -> attack on an L-inf ball and an L2 ball of five times its radius."""
    linf, l2 = make(member), make(member, norm="L2")
    return lambda eps, **kwargs: attack([linf(eps, **kwargs), l2(5 * eps, **kwargs)], **arguments)


CASES = {
    "FGSM": lambda: AttackCase(fgsm(False), random=False),
    "FGSM random": lambda: AttackCase(fgsm(True), exact=False),
    "FGSM-RS": lambda: AttackCase(attacks.FGSMRS, exact=False),
    "FGSM-RS L2": lambda: AttackCase(
        functools.partial(attacks.FGSMRS, boxed_start=False, norm="L2"), "L2", exact=False
    ),
    # It may leave the ball: noise of 2 eps and a step of eps.
    "N-FGSM": lambda: AttackCase(attacks.NFGSM, exact=False, reach=3.0),
    "BIM": lambda: AttackCase(make(attacks.BIM), random=False),
    "BIM best L2": lambda: AttackCase(
        make(attacks.BIM, keep="best", norm="L2"), "L2", random=False, exact=False
    ),
    "PGD": lambda: AttackCase(make(attacks.PGD)),
    "PGD restarts": lambda: AttackCase(make(attacks.PGD, restarts=2)),
    "PGD restarts best": lambda: AttackCase(
        make(attacks.PGD, restarts=2, keep="best"), exact=False
    ),
    "PGD targeted": lambda: AttackCase(make(attacks.PGD, targeted=True), targeted=True),
    "PGD L2": lambda: AttackCase(make(attacks.PGD, norm="L2"), "L2"),
    "PGD L1": lambda: AttackCase(make(attacks.PGD, norm="L1"), "L1"),
    "Training APGD": lambda: AttackCase(
        functools.partial(attacks.TrainingAPGD, steps=6, share=0.2), "L1", random=False, exact=False
    ),
    "MIM": lambda: AttackCase(make(attacks.MIM), random=False),
    "CW": lambda: AttackCase(make(attacks.CW), objective="margin"),
    "TRADES": lambda: AttackCase(make(attacks.TRADESAttack), objective="kl_clean_adv"),
    "TRADES uniform": lambda: AttackCase(
        make(attacks.TRADESAttack, direction="adv_clean", random_start="uniform"),
        objective="kl_adv_clean",
    ),
    # Labels are what it nears; that they are another class makes it a targeted attack.
    "Collaborative": lambda: AttackCase(make(attacks.Collaborative), random=False, targeted=True),
    "Collaborative random": lambda: AttackCase(
        make(attacks.Collaborative, random_start=True), targeted=True
    ),
    "Squeeze": lambda: AttackCase(make(attacks.SqueezeAttack)),
    "Squeeze uniform": lambda: AttackCase(make(apart, start="uniform")),
    "Squeeze js": lambda: AttackCase(make(apart, regularizer="js")),
    "MultiTargeted": lambda: AttackCase(multi_targeted(attacks.PGD)),
    "MultiTargeted margin": lambda: AttackCase(multi_targeted(attacks.CW), objective="margin"),
    "MultiTargeted logits": lambda: AttackCase(multi_targeted(attacks.PGD, logits=True)),
    "APGD": lambda: AttackCase(functools.partial(attacks.APGD, steps=10), exact=False),
    "APGD L2": lambda: AttackCase(
        functools.partial(attacks.APGD, steps=10, norm="L2"), "L2", exact=False
    ),
    "APGD L1": lambda: AttackCase(
        functools.partial(attacks.APGD, steps=10, norm="L1"), "L1", exact=False
    ),
    "APGD DLR": lambda: AttackCase(
        functools.partial(attacks.APGD, steps=8, loss="dlr", restarts=2, eot=2),
        objective="margin",
        exact=False,
    ),
    "APGD targeted": lambda: AttackCase(
        functools.partial(attacks.APGDTargeted, steps=8), objective="margin", exact=False
    ),
    "APGD targeted L2": lambda: AttackCase(
        functools.partial(attacks.APGDTargeted, steps=8, norm="L2"),
        "L2",
        objective="margin",
        exact=False,
    ),
    "Square": lambda: AttackCase(
        functools.partial(attacks.Square, queries=100), objective="margin", exact=False
    ),
    "Square L2": lambda: AttackCase(
        functools.partial(attacks.Square, queries=60, restarts=2, norm="L2"),
        "L2",
        objective="margin",
        exact=False,
    ),
    "Square L1": lambda: AttackCase(
        functools.partial(attacks.Square, queries=200, norm="L1"),
        "L1",
        objective="margin",
        exact=False,
    ),
    "Square raced": lambda: AttackCase(
        functools.partial(attacks.RacedSquare, queries=120), objective="margin", exact=False
    ),
    "RankedTargets Linf": lambda: AttackCase(
        functools.partial(attacks.RankedTargets, steps=4, runs=3), objective="margin", exact=False
    ),
    "RankedTargets L2": lambda: AttackCase(
        functools.partial(attacks.RankedTargets, steps=4, runs=3, norm="L2"),
        "L2",
        objective="margin",
        exact=False,
    ),
    "CheckedTargets": lambda: AttackCase(
        functools.partial(attacks.CheckedTargets, steps=8, short_steps=4, high=1.01),
        objective="margin",
        exact=False,
    ),
    "RayS": lambda: AttackCase(
        functools.partial(attacks.RayS, queries=200), random=False, objective="margin", exact=False
    ),
    "FAB": lambda: AttackCase(
        functools.partial(attacks.FAB, steps=4), random=False, objective="margin", exact=False
    ),
    "FAB L2": lambda: AttackCase(
        functools.partial(attacks.FAB, steps=4, norm="L2"),
        "L2",
        random=False,
        objective="margin",
        exact=False,
    ),
    "Union": lambda: AttackCase(union(attacks.Union, attacks.PGD), "union", exact=False),
    "MSD": lambda: AttackCase(union(attacks.MSD, attacks.BIM), "union", random=False, exact=False),
    "FAB L1": lambda: AttackCase(
        functools.partial(attacks.FAB, steps=4, norm="L1"),
        "L1",
        random=False,
        objective="margin",
        exact=False,
    ),
    "FAB untargeted": lambda: AttackCase(
        functools.partial(attacks.FAB, steps=4, targeted=False),
        random=False,
        objective="margin",
        exact=False,
    ),
    "DDN": lambda: AttackCase(
        functools.partial(attacks.DDN, steps=20, init_eps=0.1), "L2", random=False, exact=False
    ),
    "FMN": lambda: AttackCase(
        functools.partial(attacks.FMN, steps=20), random=False, objective="margin", exact=False
    ),
    "FMN L2": lambda: AttackCase(
        functools.partial(attacks.FMN, steps=20, norm="L2"),
        "L2",
        random=False,
        objective="margin",
        exact=False,
    ),
    "FMN L1": lambda: AttackCase(
        functools.partial(attacks.FMN, steps=20, norm="L1"),
        "L1",
        random=False,
        objective="margin",
        exact=False,
    ),
}


@pytest.fixture(scope="module")
def built():
    """Cases are made once, so that their attacks are compiled once; not before the first test."""
    return {}


# What these tell of an attack they tell by its first case.
ONCE = ("check_callables", "check_batch_norm", "check_bfloat16", "check_gradient")


# Keras 2 is another model under the same attack: there these are for every attack, all for PGD.
ON_KERAS_2 = ("check_ball", "check_graph", *ONCE)


def slow(name, check):
    """Whether this check of this case would tell nothing that others do not."""
    if " " in name and check in ONCE:
        return True
    return not (compat.KERAS_3 or name == "PGD" or check in ON_KERAS_2)


def cases():
    """Every check of every case; those that would tell nothing new are slow."""
    for name in CASES:
        for check in ATTACK_CHECKS:
            marks = [pytest.mark.slow] if slow(name, check.__name__) else []
            yield pytest.param(name, check, id=f"{name}-{check.__name__[6:]}", marks=marks)


@pytest.mark.parametrize("name, check", list(cases()))
def test_attack(name, check, built):
    case = built.setdefault(name, None) or CASES[name]()
    built[name] = case
    run_attack_test(case, [check])
