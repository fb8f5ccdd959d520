"""bin/report --leaderboard: its rows, computed again from the files, and what it leaves out."""

import copy
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from robust_tf import compat, files
from robust_tf.attacks import PGD, AutoAttack
from robust_tf.cli.report import main
from robust_tf.evaluation import Evaluation, Outcome
from robust_tf.report import entries, leaderboard, result_files
from robust_tf.studies.leaderboard import rows_of as rows_of_folder
from tests.report.conftest import CONFIG, HOSTILE
from tests.report.outline import Outline

INFERENCE = Path(__file__).parents[1] / "evaluation/data/version_01_inference.json"
SEED = {"state": "done", "training_seconds": 90.0, "evaluation_seconds": 6.0, "flags": []}
STUDY = {
    "format": 1,
    "study": "table",
    "title": "A table",
    "source": "",
    "notes": "",
    "budget": "paper",
    "changes": [],
    "seeds": [0, 1],
    "columns": {
        "natural": {"attack": "", "examples": 400},
        "PGD-5": {
            "attack": "PGD(0.2, 0.02, 5); PGD(0.1, 0.02, 5); AutoAttack(eps=0.1)",
            "examples": 400,
        },
        "mine": {"attack": "my_lab.Darken(0.9)", "examples": 400},
        "worst case": {"attack": "", "examples": 400},
    },
    "rows": [
        {
            "name": "adv",
            "title": "ADV",
            "recipe": ["a"],
            "bindings": [],
            "of": "",
            "inference": "",
            "command": "bin/train --gin_file=a --run_dir=runs/studies/table/paper/adv/seed-0",
            "about": {"data": "moons", "network": "MLP", "method": "AT", "attack_steps": 5},
            "seeds": {
                "0": {**SEED, "weights": "aa", "accuracy": {"natural": 0.9, "worst case": 0.5}},
                "1": {**SEED, "weights": "bb", "accuracy": {"natural": 0.8, "worst case": 0.35}},
            },
            "mean": {},
            "std": {},
            "paper": {},
        },
    ],
    "differences": [],
    "claims": [],
    "versions": {},
    "device": "",
}


def result(seed, examples=24, eps=(0.1,), flags=(), checks=True):
    """An evaluation with verdicts by lot, and how many images stand under all of its attacks."""
    lot = np.random.default_rng(seed)
    natural = lot.random(examples) < 0.9
    attacks = {f"PGD-3 eps={one}": PGD(one, one / 4, 3) for one in eps}
    robust = {name: natural & (lot.random(examples) < 0.6) for name in attacks}
    settings = {
        "attacks": {name: compat.serialize(one) for name, one in attacks.items()},
        "balls": {name: ["Linf", one.eps] for name, one in attacks.items()},
        "model": f"weights {seed}",
        "num_classes": 4,
        "checks": checks,
    }
    outcomes = {name: Outcome(verdict, seconds=3.0) for name, verdict in robust.items()}
    made = Evaluation(natural, outcomes, settings, [{"title": title} for title in flags])
    return made.to_json(), np.logical_and.reduce(list(robust.values()))


def make_run(folder, seed, config, evaluation):
    """What a run of version 0.1 leaves, without its model."""
    folder.mkdir(parents=True)
    (folder / "config.gin").write_text(f"{config}train.seed = {seed}\n")
    data = {"name": "thirds", "fingerprint": "0123"}
    summary = {"method": "ADR", "weights": {"local": 1.0}, "data": data, "training_seconds": 90.0}
    files.write_json(folder / "summary.json", {**summary, "evaluation": evaluation})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder of results, its leaderboard, and the rows of that by their models."""
    place = tmp_path_factory.mktemp("results")
    for seed in (0, 1):
        make_run(place / f"both/seed-{seed}", seed, CONFIG, result(seed)[0])
    other = CONFIG.replace("eps = 0.1", "eps = 0.2")
    make_run(place / "alone", 0, other, result(2, eps=(0.1, 0.2), flags=["<b>A sign</b>"])[0])
    shutil.copy(INFERENCE, place / "alone/behind.json")
    files.write_json(place / "alone/notes.json", {"mine": 1})
    about = {"run_dir": "somewhere/else", "data": {"name": "thirds", "split": "test"}}
    more, _ = result(3, examples=12)
    more["model"] = "weights 2"  # it joins the run, wherever it was made
    files.write_json(place / "more/of_alone.json", {**about, "evaluation": more})
    about["model"] = f"{about.pop('run_dir')}/{HOSTILE}.keras"
    own, _ = result(4, eps=(0.1,), checks=False)
    files.write_json(place / "file.json", {**about, "evaluation": own})
    files.write_json(place / "study.json", STUDY)
    files.write_json(place / "foreign.json", [1, 2])
    files.write_json(place / "later.json", {**STUDY, "format": 99})
    (place / "cut.json").write_text('{"evaluation": ')
    files.write_json(place / "damaged.json", {"run_dir": "x", "evaluation": {"examples": 3}})
    (place / "unfinished").mkdir()
    (place / "unfinished/identity.json").write_text("{}")
    (place / "unfinished/loop").symlink_to(place)
    assert main([f"--leaderboard={place}"]) == 0
    page = (place / "leaderboard.html").read_text()
    return place, page, rows_of(page)


def rows_of(page):
    outline = Outline(page)
    heads, rows, inside = [], {}, False
    for tag, attributes, text in outline.elements:
        said = "".join(text)
        inside = attributes.get("id") == "table-leaderboard" if tag == "table" else inside
        if inside and tag == "th" and attributes["scope"] == "col":
            heads.append(said)
        elif inside and tag == "th":
            cells = rows.setdefault(said, [said])
        elif inside and tag == "td":
            cells.append(said)
    return {name: dict(zip(heads, cells, strict=True)) for name, cells in rows.items()}


def test_a_run_has_the_worst_case_of_its_files(written):
    row = written[2]["alone"]
    stand = int(result(2, eps=(0.1, 0.2))[1].sum())
    assert row["Worst case, %"] == f"{100 * stand / 24:.2f}"
    low, high = stats.binomtest(stand, 24).proportion_ci(method="wilson")
    assert row["95 % interval"] == f"{100 * low:.1f} to {100 * high:.1f}"
    said = {"Images": "24", "Data": "thirds", "Network": "CNN", "Threat": "Linf eps 0.2"}
    said |= {"Measured": "here", "AutoAttack": "no", "Attacks": "PGD-3", "Seeds": "0"}
    said |= {"Training, minutes": "1.5", "Evaluation, minutes": "0.1", "Method": "ADR LC"}
    assert said.items() <= row.items() and row["Flags"] == "<b>A sign</b>"
    assert "<b>A sign" not in written[1] and "again_of_alone.json" in written[1]


def test_runs_that_differ_in_their_seed_are_one_row(written):
    _, page, rows = written
    row = rows["both"]
    shares = [100 * result(seed)[1].mean() for seed in (0, 1)]
    mean, std = statistics.mean(shares), statistics.stdev(shares)
    assert row["Worst case, %"] == f"{mean:.2f} ± {std:.2f}"
    assert row["Seeds"] == "0, 1" and not [name for name in rows if "seed-" in name]
    assert page.count("both/seed-1/config.gin") == 1  # in its command


def test_a_model_file_and_a_defense_have_rows(written):
    _, page, rows = written
    assert rows["file"]["Threat"] == "Linf eps 0.1" and rows["file"]["Images"] == "24"
    assert rows["file"]["Flags"] == entries.NOT_CHECKED
    assert "<script>alert" not in page and "--model=" in page
    defended = rows["alone, IMT+"]
    assert defended["Method"] == "ADR LC IMT+" and "oblivious" in defended["Attacks"]
    assert defended["Worst case, %"] == "25.00"  # as the file says


def test_a_study_has_a_row_for_each_of_its_rows(written):
    _, page, rows = written
    row = rows["table: adv"]
    said = {"Data": "moons", "Network": "MLP", "Method": "AT", "Threat": "Linf eps 0.2"}
    said |= {"Worst case, %": "42.50 ± 10.61", "Natural, %": "85.00 ± 7.07", "Seeds": "0, 1"}
    said |= {"Images": "400", "Attack steps in training": "5", "Flags": "none"}
    said |= {
        "Attacks": "PGD-5, AutoAttack, mine",
        "AutoAttack": "yes",
        "Training, minutes": "1.5",
        "Evaluation, minutes": "0.1",
    }
    assert said.items() <= row.items()
    low, high = stats.binomtest(170, 400).proportion_ci(method="wilson")
    assert row["95 % interval"] == f"{100 * low:.1f} to {100 * high:.1f}"
    assert "bin/study --gin_file=table --budget=paper --seeds=0,1" in page


def test_a_study_beside_its_runs_is_not_shown_twice(tmp_path):
    make_run(tmp_path / "run", 0, CONFIG, result(0)[0])
    study = copy.deepcopy(STUDY)
    del study["rows"][0]["seeds"]["1"]
    study["rows"][0]["seeds"]["0"]["weights"] = "weights 0"
    files.write_json(tmp_path / "study.json", study)
    assert main([f"--leaderboard={tmp_path}"]) == 0
    rows = rows_of((tmp_path / "leaderboard.html").read_text())
    assert "run" in rows and "table: adv" not in rows


def test_published_numbers_are_beside_ours_and_said_to_be(written):
    _, page, rows = written
    row = rows["Gowal et al. 2020 (published)"]
    said = {"Worst case, %": "96.34", "Natural, %": "99.26", "Data": "mnist", "Images": "10,000"}
    said |= {"Threat": "Linf eps 0.3", "Attacks": "AutoAttack", "Measured": "published"}
    assert said.items() <= row.items()
    assert sum(one["Measured"] == "published" for one in rows.values()) == 8
    assert "Croce &amp; Hein" in page and "Flags" in row and row["Flags"] == "–"


def test_what_is_damaged_or_foreign_is_named(written):
    _, page, _ = written
    said = Outline(page).by_id("left-out")[2]
    for name in ("foreign.json", "later.json", "cut.json", "damaged.json", "unfinished"):
        assert name in said, name
    assert "neither a result of bin/evaluate nor of bin/study" in said
    assert "has the format 99" in said and "notes.json" not in said


def test_the_order_goes_by_threat_then_autoattack_then_robustness():
    def entry(name, robust, attacks, eps=0.3):
        return entries.Entry(
            name, {"0": robust}, 10, "mnist", balls=[("Linf", eps)], attacks=attacks
        )

    made = [entry("weakly", 0.9, ["PGD-20"]), entry("low", 0.2, ["AutoAttack"])]
    made += [entry("high", 0.3, ["AutoAttack"]), entry("small", 0.1, ["AutoAttack"], 0.1)]
    page = leaderboard.build(made, [], "results", "bin/report", "today")
    assert list(rows_of(page)) == ["small", "high", "low", "weakly"]
    assert "left-out" not in page
    assert "Nothing here was evaluated" in leaderboard.build([], [], "results", "x", "today")


def test_without_its_script_it_is_a_plain_table(written):
    _, page, _ = written
    body = page.partition("<body>")[2].partition("<script")[0]
    for made_by_script in ("<select", "<button", "<input", "hidden"):
        assert made_by_script not in body
    assert "http://" not in body and "src=" not in body  # self-contained


def test_wrong_arguments_are_one_line(tmp_path, capsys):
    for argv, said in (
        (["--leaderboard=absent"], "there is no folder absent"),
        (["--leaderboard=x", "--run_dir=y"], "--run_dir goes without --leaderboard"),
        (["--leaderboard=x", "--evaluation=y"], "--evaluation goes without --leaderboard"),
    ):
        assert main(argv) == 2
        assert said in capsys.readouterr().err
    own = tmp_path / "leaderboard.html"
    own.write_text("years of work")
    assert main([f"--leaderboard={tmp_path}"]) == 2
    assert own.read_text() == "years of work"


def test_weak_attacks_beside_autoattack_are_no_flag(tmp_path):
    about = {"model": "x.keras", "data": {"name": "thirds", "split": "test"}}
    weak, _ = result(5, flags=["Weak"])
    weak["flags"][0]["name"] = "weak_battery"
    files.write_json(tmp_path / "weak.json", {**about, "evaluation": weak})
    strong, _ = result(5)
    [part] = strong["attacks"].values()
    part["attack"] = compat.serialize(AutoAttack(0.1))
    for names, said in ((["weak"], "Weak"), (["weak", "strong"], "none")):
        if "strong" in names:
            files.write_json(tmp_path / "strong.json", {**about, "evaluation": strong})
        rows, left_out = rows_of_folder(result_files.search(str(tmp_path)))
        assert not left_out and [" ".join(row.flags) or "none" for row in rows] == [said]
