"""The report's section on runs that were trained by one gradient step."""

import types

import numpy as np

from robust_tf.attacks import FGSM, FGSMRS, PGD, AutoAttack
from robust_tf.report.single_step import gap, single_step
from robust_tf.runs.results import AttackResult


def result(plain=True, **attacks):
    """An evaluation of ten images: by name an attack, and how many images are robust."""
    found = [
        AttackResult(name, name, "Linf", attack.eps, np.arange(10) < robust, 0.0, 0, 0, attack)
        for name, (attack, robust) in attacks.items()
    ]
    return types.SimpleNamespace(plain=plain, attacks=found)


def run(name, steps, *results):
    about = {"label": "FGSM-RS", "eps": 0.1, "results": results}
    return types.SimpleNamespace(name=name, attack_steps=steps, **about)


ALL = result(
    fgsm=(FGSM(0.1), 8),
    random=(FGSMRS(0.1), 7),
    pgd=(PGD(0.1, 0.01, 20), 3),
    weak=(PGD(0.1, 0.1, 2), 5),
    larger=(PGD(0.2, 0.05, 4), 1),
    autoattack=(AutoAttack(0.1), 0),
)


def test_gap_of_runs_of_one_step():
    """The strongest attacks of one and of several steps at the run's eps, of the same images."""
    runs = [run("one", 1, ALL), run("ten", 10, ALL), run("bare", 1), run("old", None, ALL)]
    table, text = single_step(runs)
    assert [row.run for row in table.rows] == [0, 2]
    cells = [str(getattr(cell, "shown", cell)) for cell in table.rows[0].cells]
    assert cells == [
        *("one", "FGSM-RS", "1", "0.1", "70.00", "30.00", "+40.00", "10"),
        "random; pgd",
    ]
    assert len(table.columns) == len(cells) == len(table.rows[1].cells)
    assert table.rows[1].cells[-1].startswith("not evaluated: FGSM(eps=0.1) and PGD(eps=0.1")
    assert "catastrophic overfitting" in text.text
    assert single_step(runs[1:2]) is None


def test_gap_needs_both_in_one_evaluation():
    one, several = result(fgsm=(FGSM(0.1), 8)), result(pgd=(PGD(0.1, 0.01, 20), 3))
    assert gap([one, several], 0.1) is None
    assert gap([result(False, fgsm=(FGSM(0.1), 8), pgd=(PGD(0.1, 0.01, 20), 3))], 0.1) is None
    assert gap([ALL], None) is None and gap([ALL], 0.3) is None
