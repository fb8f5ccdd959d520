"""What records tell of an evaluation that runs: bounds on what its result will be."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robust_tf import attacks, evaluation_progress, files
from robust_tf.cli import evaluate as command
from robust_tf.evaluation import EvaluationState, evaluate
from robust_tf.ranges import from_ranges, to_ranges
from tests.tiny import Smooth, plain_network

CLONE = Path(__file__).resolve().parent.parent.parent
BATTERY = {
    "weak": attacks.PGD(eps=0.1, step_size=0.05, steps=1),
    "staged": attacks.QuickEstimate(eps=0.15),
    "last": attacks.FGSM(eps=0.2),
}


class Stopping(EvaluationState):
    """Keeps a copy of its record after each piece."""

    def __init__(self, path):
        super().__init__(path)
        self.copies = []

    def put(self, key, piece):
        super().put(key, piece)
        self.copies.append(json.dumps({"identity": self._identity, "pieces": self._pieces}))


def records(path, *arguments, **settings):
    state = Stopping(str(path))
    result = evaluate(*arguments, state=state, checks=False, progress=False, **settings)
    return result, state.copies


@pytest.mark.parametrize("shard", [None, (2, 3)])
def test_bounds_hold_and_meet(tmp_path, examples, shard):
    settings = {"batch_size": 6, "shard": shard, "max_examples": 30, "draw": "balanced"}
    result, copies = records(tmp_path / "a.partial", Smooth(), examples, BATTERY, **settings)
    parts = []
    for copy in copies:
        (tmp_path / "a.partial").write_text(copy)
        parts.append(evaluation_progress.part(str(tmp_path / "a")))
    for one in parts[1:]:
        np.testing.assert_array_equal(one.natural, result.natural)
        least, most = evaluation_progress.worst_case(one)
        assert (least <= result.worst_case).all() and (result.worst_case <= most).all()
        for name, verdict in result.robust.items():
            attack = one.attacks[name]
            assert (attack.robust >= verdict).all()
            np.testing.assert_array_equal(attack.robust[attack.settled], verdict[attack.settled])
    done = [sum(attack.passes for attack in one.attacks.values()) for one in parts[1:]]
    left = [sum(attack.passes_left for attack in one.attacks.values()) for one in parts[1:]]
    assert done == sorted(done) and left == sorted(left, reverse=True) and left[-1] == 0
    # What has happened: the images of every batch of every stage.
    sizes = {name: outcome.stages for name, outcome in result.outcomes.items()}
    passes = 0
    for stages in sizes.values():
        before = result.natural
        for verdict in stages.values():
            passes, before = passes + int(before.sum()), verdict
    passes += int(result.natural.sum()) * sum(not stages for stages in sizes.values())
    assert done[-1] == passes
    least, most = evaluation_progress.worst_case(parts[-1])
    np.testing.assert_array_equal(least, most)


def test_images_that_are_attacked_again_are_not_settled(tmp_path, examples):
    settings = {"search_dtype": "bfloat16", "search_sample": 5, "batch_size": 50}
    arguments = (plain_network(), examples, {"weak": BATTERY["weak"]})
    result, copies = records(tmp_path / "a.partial", *arguments, **settings)
    found = []
    for copy in copies[-2:]:
        (tmp_path / "a.partial").write_text(copy)
        found.append(evaluation_progress.part(str(tmp_path / "a")).attacks["weak"])
    sampled = found[0].robust & (np.arange(41) % 8 == 0)
    np.testing.assert_array_equal(found[0].settled, ~sampled)
    assert found[1].settled.all()
    np.testing.assert_array_equal(found[1].robust, result.robust["weak"])


def test_distances_are_no_verdicts(tmp_path, examples):
    battery = {"far": attacks.DDN(steps=3), "weak": BATTERY["weak"]}
    result, copies = records(tmp_path / "a.partial", Smooth(), examples, battery)
    (tmp_path / "a.partial").write_text(copies[-1])
    found = evaluation_progress.read(str(tmp_path / "a"))
    assert evaluation_progress.worst_case(found[""]) is None
    [line] = [one for one in evaluation_progress.table(found).splitlines() if "far" in one]
    assert line.split() == ["far", "41"]


def test_the_table_of_shards(tmp_path, examples, capsys):
    """One done, one in the middle of its first attack, one not begun."""
    folder = tmp_path / "all.json.shards"
    files.write_json(folder / "plan.json", {"count": 3, "about": {}})
    settings = {"batch_size": 5, "checks": False, "progress": False}
    first = evaluate(Smooth(), examples, BATTERY, shard=(1, 3), **settings)
    content = {"evaluation": first.to_json()}
    files.write_json(folder / "1-of-3.json", content)
    second, copies = records(
        tmp_path / "x.partial", Smooth(), examples, BATTERY, shard=(2, 3), batch_size=5
    )
    (folder / "2-of-3.json.partial").write_text(copies[2])
    assert command.main(["--status", f"--output={tmp_path}/all.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "shard 1/3: done" and lines[1].startswith("shard 2/3: ")
    assert "record written" in lines[1] and lines[2] == "shard 3/3: not begun"
    cells = {line[:10].strip(): line[10:].split() for line in lines[3:9]}
    right = int(first.natural.sum() + second.natural.sum())
    unseen = 41 - len(first) - len(second)
    assert cells["natural"][0] == str(len(first) + len(second))
    assert cells["natural"][1] == f"{100 * right / 41:.2f}"
    assert cells["natural"][4] == f"{100 * (right + unseen) / 41:.2f}"
    # Of the second shard nothing but its first batch has been attacked, by the first attack.
    batch = np.flatnonzero(second.natural)[:5]
    least = first.robust["weak"].sum() + second.robust["weak"][batch].sum()
    most = first.robust["weak"].sum() + (second.natural.sum() - 5)
    most += second.robust["weak"][batch].sum() + unseen
    assert cells["weak"][1::3] == [f"{100 * one / 41:.2f}" for one in (least, most)]
    worst = first.worst_case.sum()
    assert cells["worst case"][0] == f"{100 * worst / 41:.2f}"
    assert "these are bounds" in lines[-1]


def test_the_end_has_no_bounds(tmp_path, examples):
    result = evaluate(Smooth(), examples, BATTERY, checks=False, progress=False)
    files.write_json(tmp_path / "a.json", {"evaluation": result.to_json()})
    found = evaluation_progress.table(evaluation_progress.read(str(tmp_path / "a.json")))
    assert " to " not in found and "bounds" not in found
    for value in (result.natural_accuracy, result.worst_case_accuracy):
        assert f"{100 * value:.2f} %" in found


@pytest.mark.parametrize("content", ["{", "[]", '{"identity": {}, "pieces": {}}', "\xff"])
def test_damaged_records_are_named(tmp_path, content, capsys):
    (tmp_path / "a.json.partial").write_text(content, encoding="latin-1")
    assert command.main(["--status", f"--output={tmp_path}/a.json"]) == 2
    assert f"{tmp_path}/a.json.partial is not" in capsys.readouterr().err


def test_no_tensorflow_is_started(tmp_path):
    code = (
        "import sys; from robust_tf.cli import evaluate\n"
        f"status = evaluate.main(['--status', '--output={tmp_path}/none'])\n"
        "assert status == 2 and 'tensorflow' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(CLONE)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "there is neither" in done.stderr, done.stderr


def test_ranges_are_inverse(rng):
    for size in (0, 1, 40):
        for mask in (rng.random(size) < 0.5, np.ones(size, bool), np.zeros(size, bool)):
            np.testing.assert_array_equal(from_ranges(to_ranges(mask), size), mask)
    with pytest.raises(ValueError, match="'3-5' is not a range of indices below 5"):
        from_ranges("0 3-5", 5)
