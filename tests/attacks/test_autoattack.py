"""AutoAttack: its stages and their settings, and how they follow each other in one graph."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, registration
from robust_tf.attacks.objectives import margin
from robust_tf.evaluation import evaluate
from robust_tf.evaluation.state import EvaluationState, load_adversarial
from tests.harness import ATTACK_CHECKS, AttackCase, run_attack_test
from tests.tiny import SHAPE, Smooth, images

# What the released program runs, by version: name, class, and all settings but eps and norm.
APGD = {"steps": 100, "rho": 0.75, "restarts": 1, "eot": 1}
APGDT = ("APGD-T", "APGDTargeted", {**APGD, "targets": 9})
FAB = {"steps": 100, "alpha_max": 0.1, "eta": 1.05, "beta": 0.9, "restarts": 1}
FABT = ("FAB-T", "FAB", {**FAB, "targeted": True, "targets": 9})
SQUARE = {"queries": 5000, "p_init": 0.8, "restarts": 1, "rescale_schedule": False}
STAGES = {
    "standard": [
        ("APGD-CE", "APGD", {**APGD, "loss": "ce"}),
        APGDT,
        FABT,
        ("Square", "Square", SQUARE),
    ],
    "plus": [
        ("APGD-CE", "APGD", {**APGD, "loss": "ce", "restarts": 5}),
        ("APGD-DLR", "APGD", {**APGD, "loss": "dlr", "restarts": 5}),
        ("FAB", "FAB", {**FAB, "targeted": False, "restarts": 5}),
        ("Square", "Square", SQUARE),
        APGDT,
        FABT,
    ],
    "rand": [
        ("APGD-CE", "APGD", {**APGD, "loss": "ce", "eot": 20}),
        ("APGD-DLR", "APGD", {**APGD, "loss": "dlr", "eot": 20}),
    ],
}


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("version", STAGES)
def test_stages_and_settings(version, norm):
    stages = list(attacks.AutoAttack(0.25, norm, version, batch_norm="batch").stages())
    assert [name for name, _ in stages] == [name for name, _, _ in STAGES[version]]
    for (_, attack), (_, kind, settings) in zip(stages, STAGES[version], strict=True):
        assert type(attack).__name__ == kind
        settings = {**settings, "eps": 0.25, "norm": norm, "batch_norm": "batch"}
        assert {k: v for k, v in dataclasses.asdict(attack).items() if k in settings} == settings


def test_notes_carry_the_stage():
    assert not attacks.AutoAttack(0.1).notes(10)
    notes = attacks.AutoAttack(0.1).notes(3)
    assert [n for n in notes if n.startswith("APGD-T: z_t - z_y")], notes
    assert [n for n in attacks.AutoAttack(0.1, version="rand").notes(2) if "APGD-DLR: " in n]


def test_refused():
    for arguments, said in (({"version": "best"}, "standard"), ({"norm": "L3"}, "norm")):
        with pytest.raises(ValueError, match=said):
            attacks.AutoAttack(0.1, **arguments)


@registration.serializable
@dataclasses.dataclass(frozen=True)
class Short(attacks.AutoAttack):
    """The standard stages, with few steps."""

    def stages(self):
        few = {"APGD-CE": {"steps": 6}, "APGD-T": {"steps": 5}, "FAB-T": {"steps": 4}}
        for name, attack in super().stages():
            yield name, dataclasses.replace(attack, **few.get(name, {"queries": 20}))


SHORT = {
    "Linf": lambda: AttackCase(Short, exact=False),
    "L2": lambda: AttackCase(
        lambda eps, **kwargs: Short(eps, "L2", **kwargs), norm="L2", exact=False
    ),
}


L2_CHECKS = ("check_ball", "check_raises_loss")


@pytest.fixture(scope="module")
def built():
    return {}


# The parts keep every promise in either norm by tests of their own; the L2 ball is what is left.
PROMISES = [("Linf", check) for check in ATTACK_CHECKS]
PROMISES += [("L2", check) for check in ATTACK_CHECKS if check.__name__ in L2_CHECKS]


@pytest.mark.parametrize(
    ("norm", "check"), PROMISES, ids=lambda part: getattr(part, "__name__", part)
)
def test_promises(norm, check, built):
    case = built.setdefault(norm, None) or SHORT[norm]()
    built[norm] = case
    run_attack_test(case, [check])


class LateBreaker(Short):
    """The first stage has a smaller ball, so that the second one finds something to break."""

    def stages(self):
        for name, attack in super().stages():
            share = 0.25 if name == "APGD-CE" else 1.0
            yield name, dataclasses.replace(attack, eps=share * self.eps)


def test_run_is_its_stages_each_on_what_stands():
    model, attack, x = Smooth(4), LateBreaker(0.05), images(40)
    y = np.argmax(model(x), axis=1).astype("int32")
    y[:2] = (y[:2] + 1) % 3  # wrong before any attack
    seeds = np.stack([np.zeros(40), np.arange(40)], axis=1).astype("int32")
    x_adv = attack(model, x, y, seed=seeds).numpy()
    standing, x_best = np.arange(40), x.copy()
    lead = np.full(40, np.inf)
    left = [40]
    for _, stage in attack.stages():
        found = stage(model, x[standing], y[standing], seed=seeds[standing]).numpy()
        reached = margin(model(found), tf.constant(y[standing])).numpy()
        take = reached < lead[standing]
        x_best[standing[take]], lead[standing[take]] = found[take], reached[take]
        standing = standing[reached >= 0]
        left.append(len(standing))
    assert 0 < left[-1] and left[1] < 38 and len(set(left)) >= 3, left
    np.testing.assert_allclose(x_adv, x_best, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(x_adv[:2], x[:2])


def test_what_the_first_stage_breaks_costs_the_others_nothing():
    model = Smooth()
    x = np.full((16, *SHAPE), 0.5, "float32")
    x += np.random.default_rng(0).uniform(-0.05, 0.05, x.shape).astype("float32")
    y = np.argmax(model(x), axis=1).astype("int32")
    attack = attacks.AutoAttack(0.5)
    x_adv = attack(model, x, y)
    assert (np.argmax(model(x_adv), axis=1) != y).all()
    assert attack.passes(model)[1] <= 16 * 20


@dataclasses.dataclass(frozen=True)
class Drawn(attacks.AutoAttack):
    """Stages whose results all hang on their draws."""

    def stages(self):
        yield "PGD", attacks.PGD(self.eps / 4, self.eps / 8, 2)
        yield "APGD", attacks.APGD(self.eps / 2, 2)
        yield "Square", attacks.Square(self.eps, 30)


def test_alone_it_draws_what_an_evaluation_draws(tmp_path):
    """The same seed: the same verdicts and images, at once or stage by stage in batches."""
    model, x = Smooth(), images(24, seed=5)
    y = np.argmax(model(x), axis=1).astype("int32")
    attack = Drawn(0.06)
    whole = attack(model, x, y, seed=9)
    robust = np.argmax(model(whole), axis=1) == y
    for size in (24, 7):
        folder = tmp_path / str(size)
        result = evaluate(
            model,
            (x, y),
            {"AutoAttack": attack},
            seed=9,
            batch_size=size,
            checks=False,
            progress=False,
            state=EvaluationState(None, str(folder)),
        )
        outcome = result.outcomes["AutoAttack"]
        np.testing.assert_array_equal(outcome.robust, robust)
        stages = list(outcome.stages.values())  # each of them turns some, so each is compared
        assert len(x) > stages[0].sum() > stages[1].sum() > stages[2].sum() > 0
        numbers, made = load_adversarial(folder, "AutoAttack")
        turned = np.isin(numbers, np.flatnonzero(~robust))
        np.testing.assert_allclose(made[turned], whole.numpy()[numbers[turned]], atol=1e-6)
