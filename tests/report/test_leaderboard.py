"""bin/report --leaderboard: its rows, computed again from the files, and what it leaves out."""

import copy
import json
import shutil
import statistics

import pytest
from scipy import stats

from robust_tf import files
from robust_tf.cli.report import main
from robust_tf.report import entries, leaderboard
from tests.report.conftest import CONFIG, HOSTILE, measure
from tests.report.outline import Outline

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
        "natural": {"attack": "", "examples": 400, "balls": []},
        "PGD-5": {"attack": "PGD(eps=0.2, ...)", "examples": 400, "balls": [["Linf", 0.2]]},
        "worst case": {"attack": "", "examples": 400, "balls": [["Linf", 0.2]]},
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


def broken(part):
    """Images in the ranges of a result file: '3 17-20' are five."""
    pairs = [(one.split("-") * 2)[:2] for one in part.split()]
    return {k for first, last in pairs for k in range(int(first), int(last) + 1)}


@pytest.fixture(scope="module")
def written(folders, tmp_path_factory):
    """A folder of results, and its leaderboard: rows by their models, and the whole page."""
    place = tmp_path_factory.mktemp("results")
    for k, source in enumerate(folders):  # two seeds of one training
        run = place / f"both/seed-{k}"
        shutil.copytree(source, run)
        (run / "config.gin").write_text(f"{CONFIG}train.seed = {k}\n")
        for name in ("several.json", "imt.json", "notes.json"):
            (run / name).unlink(missing_ok=True)
    shutil.copytree(folders[0], place / "alone")
    of_file = {"model": f"{HOSTILE}.keras", "data": {"name": "thirds", "split": "test"}}
    files.write_json(place / "file.json", {**of_file, "evaluation": measure(12, seed=3)})
    files.write_json(place / "study.json", STUDY)
    files.write_json(place / "foreign.json", [1, 2])
    later = {**STUDY, "format": 99}
    files.write_json(place / "later.json", later)
    (place / "cut.json").write_text('{"evaluation": ')
    damaged = {"run_dir": "x", "evaluation": {"natural_accuracy": 1.0}}
    files.write_json(place / "damaged.json", damaged)
    empty = place / "unfinished"
    empty.mkdir()
    (empty / "identity.json").write_text("{}")
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
    place, _, rows = written
    row = rows["alone"]
    summary = json.loads((place / "alone/summary.json").read_text())["evaluation"]
    several = json.loads((place / "alone/several.json").read_text())["evaluation"]
    of_all = broken(summary["misclassified"])
    for attack in summary["attacks"].values():
        of_all |= broken(attack["broken"])
    stand = 24 - len(of_all)
    assert "PGD-3 eps=0.05" in several["attacks"]  # but of 12 images: fewer than the others
    assert row["Worst case, %"] == f"{100 * stand / 24:.2f}"
    low, high = stats.binomtest(stand, 24).proportion_ci(method="wilson")
    assert row["95 % interval"] == f"{100 * low:.1f} to {100 * high:.1f}"
    assert row["Natural, %"] == f"{100 * summary['natural_accuracy']:.2f}"
    said = {"Images": "24", "Data": "thirds", "Network": "CNN", "Threat": "Linf eps 0.1"}
    said |= {"Measured": "here", "AutoAttack": "no", "Attacks": "PGD-3", "Seeds": "0"}
    assert said.items() <= row.items()
    assert float(row["Training, minutes"]) == 1.5
    titles = [flag["title"] for flag in [*summary["flags"], *several["flags"]]]
    assert all(title in row["Flags"] for title in titles)


def test_runs_that_differ_in_their_seed_are_one_row(written):
    place, page, rows = written
    shares = []
    for k in (0, 1):
        one = json.loads((place / f"both/seed-{k}/summary.json").read_text())["evaluation"]
        gone = broken(one["misclassified"])
        for attack in one["attacks"].values():
            gone |= broken(attack["broken"])
        shares.append(100 * (24 - len(gone)) / 24)
    row = rows["both"]
    assert row["Seeds"] == "0, 1" and not [name for name in rows if "seed-" in name]
    mean, std = statistics.mean(shares), statistics.stdev(shares)
    assert row["Worst case, %"] == f"{mean:.2f} ± {std:.2f}"
    assert page.count("both/seed-1/config.gin") == 1  # its command


def test_a_model_file_and_a_defense_have_rows(written):
    _, page, rows = written
    assert rows["file"]["Threat"] == "Linf eps 0.1" and rows["file"]["Images"] == "12"
    assert rows["file"]["Flags"] == entries.NOT_CHECKED
    assert "<script>alert" not in page and "--model=" in page
    defended = rows["alone, IMT+"]
    assert defended["Method"].endswith("IMT+") and "oblivious" in defended["Attacks"]


def test_a_study_has_a_row_for_each_of_its_rows(written):
    _, page, rows = written
    row = rows["table/paper/adv"]
    said = {"Data": "moons", "Network": "MLP", "Method": "AT", "Threat": "Linf eps 0.2"}
    said |= {"Worst case, %": "42.50 ± 10.61", "Natural, %": "85.00 ± 7.07", "Seeds": "0, 1"}
    said |= {"Images": "400", "Attack steps in training": "5", "Flags": "none"}
    said |= {"Attacks": "PGD-5", "Training, minutes": "1.5", "Evaluation, minutes": "0.1"}
    assert said.items() <= row.items()
    low, high = stats.binomtest(170, 400).proportion_ci(method="wilson")
    assert row["95 % interval"] == f"{100 * low:.1f} to {100 * high:.1f}"
    assert "bin/study --gin_file=table --budget=paper --seeds=0,1" in page


def test_a_study_beside_its_runs_is_not_shown_twice(folders, tmp_path):
    shutil.copytree(folders[1], tmp_path / "run")
    weights = json.loads((tmp_path / "run/summary.json").read_text())["evaluation"]["model"]
    study = copy.deepcopy(STUDY)
    del study["rows"][0]["seeds"]["1"]
    study["rows"][0]["seeds"]["0"]["weights"] = weights
    files.write_json(tmp_path / "study.json", study)
    assert main([f"--leaderboard={tmp_path}"]) == 0
    rows = rows_of((tmp_path / "leaderboard.html").read_text())
    assert "run" in rows and "table/paper/adv" not in rows


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
