"""Tables of documents from results/*.json."""

import copy
import glob
import json
import os
from pathlib import Path

import pytest

from robust_tf import files, studies
from robust_tf.cli import study as command
from robust_tf.studies import page, tables
from tests.faults import table as faults

CLONE = Path(__file__).resolve().parents[2]
SEED = {"state": "done", "accuracy": {"natural": 0.9}, "training_seconds": 90.0, "epochs": 5}
SECOND = {**SEED, "training_seconds": 30.0, "epochs": 3, "collapsed": True}
CONTENT = {
    "format": 1,
    "study": "mine",
    "title": "Mine | yours",
    "source": "A paper, Table 1",
    "notes": "",
    "budget": "short",
    "changes": ["train.epochs=1"],
    "seeds": [0, 1],
    "columns": {
        "natural": {"attack": "", "examples": 1000},
        "PGD": {"attack": "PGD(...)", "examples": 1000},
        "AA": {"attack": "AutoAttack(...)", "examples": 200},
    },
    "rows": [
        {
            "name": "adv",
            "title": "ADV | A",
            "recipe": ["a"],
            "bindings": [],
            "of": "",
            "inference": "",
            "command": "bin/train --gin_file=a",
            "seeds": {"0": SEED, "1": SECOND},
            "mean": {"natural": 0.98765, "PGD": 0.5},
            "std": {"natural": 0.01234, "PGD": None},
            "paper": {"PGD": 55.25},
        },
        {
            "name": "imt",
            "title": "IMT",
            "recipe": [],
            "bindings": [],
            "of": "adv",
            "inference": "imt",
            "command": "",
            "seeds": {"0": {"state": "missing", "fault": "it <b>fails</b>"}},
            "mean": {},
            "std": {},
            "paper": {},
        },
    ],
    "differences": [
        {
            "row": "imt",
            "than": "adv",
            "column": "PGD",
            "examples": 1000,
            "difference": 0.0125,
            "low": -0.001,
            "high": 0.02,
            "seeds": {
                "0": {"difference": 0.0125, "standard_error": 0.01, "low": -0.001, "high": 0.02}
                | {"only_first": 30, "only_second": 18, "examples": 1000, "p": 0.111}
            },
        }
    ],
    "claims": [{"text": "it holds", "rule": "r", "verdict": "open", "figures": ""}],
    "versions": {"robust_tf": "0.2"},
    "device": "a processor",
}
TABLE = """\
|  | natural | PGD | AA (200 images) | minutes | seconds an epoch | seeds |
| --- | --- | --- | --- | --- | --- | --- |
| ADV \\| A | 98.77 ± 1.23 | 50.00 (55.25) | – | 1.0 | 14.0 | 0, 1 (collapsed) |
| IMT | – | – | – | – | – | missing |"""
DIFFERENCES = "| IMT − ADV \\| A | PGD | +1.25 | -0.10 to +2.00 | 0.11 | 1,000 |"


def test_table():
    assert tables.table(CONTENT) == TABLE
    assert tables.differences(CONTENT).splitlines()[2] == DIFFERENCES
    assert "| it holds | **open** | – | r |" in tables.claims(CONTENT)
    text = tables.document(CONTENT)
    assert "Source: A paper, Table 1. Budget 'short', on top of each row: train.epochs=1." in text
    assert "* IMT, seed 0: it <b>fails</b>." in text


def test_guard():
    """Where a run was watched, the first find of each seed stands in both tables."""
    content = copy.deepcopy(CONTENT)
    healthy, overfit = content["rows"][0]["seeds"].values()
    healthy["guard"] = {"checks": 17, "found": []}
    found = [
        {"verdict": "catastrophic overfitting", "epoch": 3, "step": step} for step in (1240, 9)
    ]
    overfit["guard"] = {"checks": 20, "found": found}
    lines = tables.table(content).splitlines()
    said = "no (17 checks); epoch 3, step 1,240"
    assert lines[0].endswith("| seconds an epoch | guard | seeds |")
    assert f"| {said} | 0, 1 (collapsed) |" in lines[2] and lines[3].endswith("| – | – | missing |")
    assert said in page.build(content) and "Guard: where" in tables.document(content)


def test_page_escapes():
    text = page.build(CONTENT)
    assert "it &lt;b&gt;fails&lt;/b&gt;" in text and "<b>" not in text
    assert "55.25" in text and "98.77 ± 1.23" in text


def test_rewriting(tmp_path, capsys):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/mine.json").write_text(json.dumps(CONTENT))
    document = tmp_path / "R.md"
    mark = "<!-- table: results/mine.json -->"
    document.write_text(
        f"# R\n\n{mark}\nstale\n<!-- end -->\n\nbetween\n\n"
        "<!-- claims: results/mine.json -->\n<!-- end -->\nlast\n"
    )
    assert studies.rewrite(document, write=False) and "stale" in document.read_text()
    assert command.main([f"--tables={document}"]) == 0
    assert "tables rewritten" in capsys.readouterr().out
    text = document.read_text()
    assert text.startswith(f"# R\n\n{mark}\n\n{TABLE}\n\n<!-- end -->\n\nbetween\n\n<!-- claims:")
    assert text.endswith("\n\n<!-- end -->\nlast\n") and "stale" not in text
    assert not studies.rewrite(document) and document.read_text() == text
    document.write_text(f"{mark}\n")
    with pytest.raises(ValueError, match="has no <!-- end --> after it"):
        studies.rewrite(document)


@pytest.mark.parametrize(
    "change, say",
    [({"format": 2}, "has the format 2"), ({"rows": None}, "not the result of a study")],
)
def test_other_files_are_refused(change, say, tmp_path):
    content = {**copy.deepcopy(CONTENT), **change}
    content = {key: value for key, value in content.items() if value is not None}
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=say):
        tables.read(tmp_path / "x.json")


def test_results_has_what_the_files_say():
    """RESULTS.md as the command leaves it: `bin/study --tables=RESULTS.md`."""
    assert not studies.rewrite(CLONE / "RESULTS.md", write=False)


def test_results_are_small_and_of_studies_or_tables():
    for path in glob.glob(str(CLONE / "results" / "*.json")):
        assert os.path.getsize(path) < 200_000
        content = files.read_json(path)
        stands = {"head", "lines"} <= set(content) or path == str(faults.RESULTS)
        assert stands or tables.read(path)["study"] in studies.names()


def test_a_file_with_a_head_and_lines_gives_its_own_table(tmp_path):
    content = {"head": ["what", "tried"], "lines": [["a|b", 12], ["c", "none"]]}
    (tmp_path / "mine.json").write_text(json.dumps(content))
    document = tmp_path / "R.md"
    document.write_text("<!-- table: mine.json -->\n<!-- end -->\n")
    assert studies.rewrite(document)
    assert (
        "\n| what | tried |\n| --- | --- |\n| a\\|b | 12 |\n| c | none |\n" in document.read_text()
    )
    document.write_text("<!-- claims: mine.json -->\n<!-- end -->\n")
    with pytest.raises(ValueError, match="not the result of a study"):
        studies.rewrite(document)
