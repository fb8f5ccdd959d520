"""The report's section on runs that were trained by one gradient step."""

import json

from robust_tf import evaluation, files
from robust_tf.attacks import FGSM, FGSMRS, PGD
from robust_tf.report import single_step
from robust_tf.report.blocks import Text
from tests.report.conftest import NETWORK, make_run, read_run
from tests.tiny import labelled


def run_of(folder, steps, attacks=None):
    """A run whose record says so many steps, and whose one evaluation is by these attacks."""
    path = make_run(folder)
    run = read_run(path)
    record = {**run.record, "method": {**run.record["method"], "attack_steps": steps}}
    files.write_json(f"{path}/run.json", record)
    summary = json.loads(files.read_text(f"{path}/summary.json"))
    del summary["evaluation"]
    if attacks:
        result = evaluation.evaluate(NETWORK(), labelled(24, 2), attacks, checks=False)
        summary["evaluation"] = result.to_json()
    files.write_json(f"{path}/summary.json", summary)
    return read_run(path)


def test_gap_of_runs_of_one_step(tmp_path):
    """The strongest attack of one step and of several, of the same images, at the run's eps."""
    attacks = {
        "FGSM": FGSM(0.1),
        "random": FGSMRS(0.1),
        "PGD": PGD(0.1, 0.025, 4),
        "larger": PGD(0.2, 0.05, 4),
    }
    run = run_of(tmp_path / "one", 1, attacks)
    assert run.attack_steps == 1
    several, none = run_of(tmp_path / "ten", 10, attacks), run_of(tmp_path / "bare", 1)
    table, text = single_step.single_step([run, several, none])
    robust = {one.name: 100 * one.robust.mean() for one in run.results[0].attacks}
    one = min(robust["FGSM"], robust["random"])
    cells = [getattr(cell, "text", cell) for cell in table.rows[0].cells]
    assert [row.run for row in table.rows] == [0, 2] and isinstance(text, Text)
    assert str(cells[2]) == "1" and str(cells[4]) == f"{one:.2f}"
    assert str(cells[5]) == f"{robust['PGD']:.2f}"
    assert str(cells[6]) == f"{one - robust['PGD']:+.2f}" and str(cells[7]) == "24"
    assert "not evaluated: FGSM(eps=0.1)" in str(table.rows[1].cells[-1])
    assert single_step.single_step([several]) is None


def test_of_one_evaluation(tmp_path):
    run = run_of(tmp_path / "one", 1, {"FGSM": FGSM(0.1)})
    assert single_step.gap(run.results, 0.1) is None
    assert single_step.gap(run.results, None) is None
