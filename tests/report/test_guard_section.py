"""The section on catastrophic overfitting: each run with a guard, and what came of it."""

import json

from robust_tf import files
from robust_tf.report import guard_section
from robust_tf.report.blocks import Chart, Group, Items, Table, Text
from robust_tf.report.charts import Charts
from tests.report.conftest import make_run, read_run

ROWS = [
    {"check": 0, "epoch": 1, "step": 100, "training_attack": 0.7, "pgd": 0.6, "images": 128},
    {
        "check": 1, "epoch": 1, "step": 200, "training_attack": 0.9, "pgd": 0.05, "images": 128,
        "verdict": "catastrophic overfitting", "action": "rollback", "to_epoch": 1,
        "to_step_in_epoch": 100, "step_size": 0.375,
    },
    {"check": 2, "epoch": 1, "step": 200, "training_attack": 0.8, "pgd": 0.75, "images": 128},
    {
        "check": 3, "epoch": 2, "step": 300, "training_attack": 0.9, "pgd": 0.1, "images": 128,
        "verdict": "catastrophic overfitting", "action": "stop",
    },
]  # fmt: skip


def folder(tmp_path, name, lines="", steps=1):
    path = make_run(tmp_path / name)
    run = read_run(path)
    record = {**run.record, "guard": {"every": 100}}
    record["method"] = {**record["method"], "attack_steps": steps}
    files.write_json(f"{path}/run.json", {"format": 1, **record})
    if lines:
        files.write_text(f"{path}/guard.jsonl", lines)
    return read_run(path)


def as_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_shows_the_gap_and_what_was_done(tmp_path):
    found = folder(tmp_path, "found", as_lines(ROWS))
    unseen, far = folder(tmp_path, "unseen"), folder(tmp_path, "far", steps=10)
    charts = Charts([found, unseen, far])
    hint, table, group, events = guard_section.overfitting([found, unseen, far], charts)
    assert isinstance(hint, Text) and isinstance(table, Table)
    cells = [[cell.shown for cell in row] for row in table.cells]
    then = "catastrophic overfitting: went back, catastrophic overfitting: stopped"
    assert cells == [
        ["found", "1", "4", "90.00", "10.00", "80.0", "200", then],
        ["unseen", "1", "0", "–", "–", "–", "–", "no check was due"],
    ]
    assert isinstance(group, Group) and isinstance(group.blocks[0], Chart)
    pgd, training = charts.specs[0]["data"]
    assert pgd["x"].tolist() == [100, 200, None, 200, 300]
    assert pgd["y"].tolist() == [60, 5, None, 75, 10]
    assert training["y"].tolist() == [70, 90, None, 80, 90]
    (items,) = events.blocks
    assert isinstance(items, Items)
    assert items.texts == [
        "Catastrophic overfitting at step 200 (epoch 1): of 128 images 5.0% withstood PGD-5, and "
        "90.0% the training attack. The run went back to step 100 of epoch 1 and trained on from "
        "there with step size 0.375.",
        "Catastrophic overfitting at step 300 (epoch 2): of 128 images 10.0% withstood PGD-5, and "
        "90.0% the training attack. The training was stopped; what is evaluated is the network of "
        "the end.",
    ]


def test_nothing_of_runs_with_many_steps_and_damaged_lines_are_named(tmp_path):
    far = folder(tmp_path, "far", steps=10)
    assert guard_section.overfitting([far], Charts([far])) is None
    damaged = folder(tmp_path, "damaged", as_lines(ROWS[:1]) + "{")
    assert damaged.guard == ROWS[:1]
    assert "guard.jsonl cannot be read in 1 of 2 lines." in damaged.left_out
