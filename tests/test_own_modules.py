"""A user's own module outside the clone: trained, and found again by every command elsewhere."""

import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import robust_tf
from robust_tf import data, evaluation, files, modules, recipes, runs
from robust_tf.cli import evaluate, figures, train
from robust_tf.figures import kinds

USERS = Path(__file__).parent / "users"
ELSEWHERE = """\
import json, sys
from robust_tf.cli import evaluate, export, figures, report, train
import contextlib, io
said = []
for command, arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = globals()[command].main(arguments)
    said.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(said))
"""


def in_a_new_process(folder, *commands):
    """Status, stdout and stderr of commands that run there one after the other."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-P", "-c", ELSEWHERE, json.dumps(commands)],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(robust_tf.__file__).parents[1]),
            "TF_CPP_MIN_LOG_LEVEL": "2",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def printed(line):
    """A command as a document prints it: its name, its arguments."""
    command, *arguments = shlex.split(line)
    return [command.removeprefix("bin/"), arguments]


# Of the session: a process that is given tests of this file twice has imported the first module.
@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """'lab' with the user's files, 'run' that was trained with them from a folder beside them."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copytree(USERS, folder / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    argv = [f"--gin_file={folder / 'lab' / 'mine.gin'}", f"--run_dir={folder / 'run'}"]
    assert train.main(argv) == 0
    return folder


@pytest.fixture(scope="session")
def used(place):
    """What the commands said from another folder, by what they did."""
    run, lab, away = place / "run", place / "lab", place / "away"
    named = "Darken(eps=0.1); my_lab.Darken(0.3, share=0.5); Brighten(eps=0.25)"
    commands = {
        "own attacks": ["evaluate", [f"--run_dir={run}", "--no_checks"]],
        "named": [
            "evaluate",
            [
                f"--run_dir={run}",
                f"--import={lab / 'other_lab.py'}",
                f"--attacks={named}",
                "--no_checks",
                "--max_examples=12",
                f"--output={run / 'named.json'}",
            ],
        ],
        "battery": [
            "evaluate",
            [f"--run_dir={run}", f"--battery={lab / 'dark.gin'}", "--eps=0.2", "--no_checks"],
        ],
        "figure": ["figures", ["mean_logits", f"--run_dir={run}", "--output=mean.svg"]],
        "export": [
            "export",
            [f"--run_dir={run}", "--export_dir=exported", "--formats=saved_model,keras"],
        ],
        "report": ["report", [f"--run_dir={run}", "--no_model", "--output=report.html"]],
    }
    return dict(zip(commands, in_a_new_process(away, *commands.values()), strict=True))


@pytest.fixture
def forgotten(place, monkeypatch):
    """This process as one that has not imported the user's module."""
    monkeypatch.delitem(sys.modules, "my_lab")
    # Also not where another `place` of this process had it.
    paths = [path for path in sys.path if not Path(path, "my_lab.py").exists()]
    monkeypatch.setattr(sys, "path", paths)
    for name in [name for name in keras.saving.get_custom_objects() if name.startswith("my_lab>")]:
        monkeypatch.delitem(keras.saving.get_custom_objects(), name)


def test_the_run_records_the_name_and_the_folder_and_no_copy(place):
    record = files.read_json(place / "run" / "run.json")
    assert record["modules"] == [{"name": "my_lab", "folder": str(place / "lab")}]
    assert record["data"]["source"]["module"] == "my_lab"
    assert record["data"]["source"]["folder"] == str(place / "lab")
    assert not [name for name in os.listdir(place / "run") if name.endswith(".py")]


def test_every_command_finds_the_module_again_and_says_so(place, used):
    assert [status for status, *_ in used.values()] == [0] * len(used)
    said = "".join(err for *_, err in used.values())
    note = f"note: imported my_lab from {place / 'lab' / 'my_lab.py'}: {place / 'run'} records it"
    assert said.count(note) == 1 and said.count("my_lab.py") == 1  # it is one process
    own = files.read_json(place / "run" / "summary.json")
    natural = next(line for line in used["own attacks"][1].splitlines() if "natural" in line)
    assert f" {100 * own['natural_accuracy']:.2f} %" in natural
    assert "darker" in used["own attacks"][1] and "on bright_thirds" in used["own attacks"][2]
    for name in ("Darken eps=0.1", "Darken eps=0.3 share=0.5", "Brighten eps=0.25"):
        assert name in used["named"][1]
    assert "Darken eps=0.2" in used["battery"][1] and "PGD-3 eps=0.2" in used["battery"][1]
    assert "HalfAndHalf 18 0.1" in used["figure"][1]  # what the user's function says
    assert (place / "away" / "mean.svg").read_text().count("<svg") == 1
    assert "HalfAndHalf" in (place / "away" / "report.html").read_text()


def test_the_printed_commands_give_the_same_numbers_elsewhere(place, used):
    named = files.read_json(place / "run" / "named.json")
    assert named["modules"] == [{"name": "other_lab", "folder": str(place / "lab")}]
    card = files.read_json(place / "away" / "exported" / "model_card.json")
    assert card["training"]["modules"] == [{"name": "my_lab", "folder": str(place / "lab")}]
    lines = {one["file"]: one["command"] for one in card["training"]["results"]}
    assert f"--import={place / 'lab' / 'other_lab'}" in lines["named.json"]
    assert "my_lab.Darken(eps=0.3, share=0.5)" in lines["named.json"]
    page = (place / "away" / "report.html").read_text()
    assert shlex.quote(f"--import={place / 'lab' / 'other_lab'}") in page
    again = f"bin/train --gin_file={place / 'run' / 'config.gin'} --run_dir={place}/run_again"
    assert again in page
    recipe = shutil.copy(place / "lab" / "mine.gin", place / "the_same.gin")
    said = in_a_new_process(
        place / "third",
        printed(f"{again} --dry_run"),
        printed(f"{lines['named.json']} --output=again.json"),
        printed(lines["summary.json"]),
        ["train", [f"--gin_file={recipe}", f"--run_dir={place / 'run'}"]],
    )
    assert [status for status, *_ in said] == [0, 0, 0, 0], said
    assert "finished earlier" in said[3][1]  # the same run, wherever its recipe lies
    assert "my_lab.py" in said[0][2] and "HalfAndHalf: adversarial 1" in said[0][1]
    first = evaluation.Evaluation.from_json(named["evaluation"])
    again = files.read_json(place / "third" / "again.json")
    second = evaluation.Evaluation.from_json(again["evaluation"])
    assert list(first.outcomes) == list(second.outcomes) and again["modules"] == named["modules"]
    for name, outcome in first.outcomes.items():
        np.testing.assert_array_equal(outcome.robust, second.outcomes[name].robust)
    assert len(first) == 12 and first.worst_case_accuracy == second.worst_case_accuracy
    own = files.read_json(place / "run" / "summary.json")
    assert f"{100 * own['robust_accuracy']['darker']:.2f} %" in said[2][1]


def test_a_run_that_goes_on_looks_where_its_module_lay(place, forgotten, capsys, monkeypatch):
    moved, run = place / "moved", place / "moved_run"
    moved.mkdir()
    shutil.copy(place / "lab" / "mine.gin", moved)
    shutil.copytree(place / "run", run)
    gone = [{"name": "my_lab", "folder": "/gone"}]
    files.write_json(run / "run.json", {**files.read_json(run / "run.json"), "modules": gone})
    monkeypatch.chdir(moved)
    assert train.main(["--gin_file=mine.gin", f"--run_dir={run}"]) == 2
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith(f"note: {run} needs the module my_lab, which is not in the current")
    assert first.endswith(f"{moved} or in /gone, where it lay; give --import=FOLDER/my_lab.")
    assert last.startswith("error: mine.gin, line 2: import my_lab fails: ModuleNotFoundError")


def test_no_import_refuses_and_names_the_module(place, forgotten, capsys):
    run = place / "run"
    assert evaluate.main([f"--run_dir={run}", "--attacks=FGSM(0.1)", "--no_import"]) == 2
    said = capsys.readouterr().err.splitlines()
    way = "allow it, or give --import=my_lab if you trust it."
    assert said[-1].startswith("error: ") and "model.keras cannot be read: " in said[-1]
    assert f"{run} records the module my_lab" in said[-1] and said[-1].endswith(way)
    assert evaluate.main([f"--run_dir={run}", "--no_import"]) == 2
    assert "cannot rebuild the attack 'darker'" in capsys.readouterr().err.splitlines()[-1]
    argv = [f"--gin_file={place / 'lab' / 'mine.gin'}", f"--run_dir={place / 'new'}", "--no_import"]
    assert train.main(argv) == 2
    assert "it imports my_lab, and --no_import refuses that" in capsys.readouterr().err
    with pytest.raises(ValueError, match="records the module my_lab"), pytest.warns():
        robust_tf.load_run(run, imports=False)
    assert not modules.refused()  # and nothing of it is left
    assert "my_lab" not in sys.modules


def test_data_of_a_module_that_is_refused_are_named(place, forgotten):
    about = files.read_json(place / "run" / "run.json")["data"]
    with modules.scope(), pytest.warns(), pytest.raises(data.DataError, match="my_lab"):
        modules.refuse()
        data.load_recorded(about)


def test_a_folder_that_moved(place, tmp_path, monkeypatch):
    """The current folder, then where it lay, then a sentence with both."""
    monkeypatch.chdir(tmp_path)
    gone = [{"name": "lab_that_moved", "folder": str(tmp_path / "gone")}]
    with pytest.warns(modules.ModuleNote):
        said = modules.import_recorded(gone, "runs/a")
    assert said == (
        "runs/a needs the module lab_that_moved, which is not in the current folder "
        f"{tmp_path} or in {tmp_path / 'gone'}, where it lay; give --import=FOLDER/lab_that_moved."
    )
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "lab_that_moved.py").write_text("HERE = 'gone'\n")
    (tmp_path / "lab_that_moved.py").write_text("HERE = 'current'\n")
    with pytest.warns(modules.ModuleNote, match=f"from {tmp_path / 'lab_that_moved.py'}: runs/a"):
        assert modules.import_recorded(gone, "runs/a") == ""
    assert sys.modules["lab_that_moved"].HERE == "current"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert modules.import_recorded(gone, "runs/a") == ""  # loaded: nothing to be said
    (tmp_path / "lab_that_moved.py").unlink()
    del sys.modules["lab_that_moved"]
    with pytest.warns(modules.ModuleNote, match=f"from {tmp_path / 'gone'}"):
        modules.import_recorded(gone, "runs/a")
    assert sys.modules["lab_that_moved"].HERE == "gone"


def test_a_module_that_fails_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab_misspelt.py").write_text("x = 1\nx = = 2\n")
    (tmp_path / "lab_lacking.py").write_text("import not_there_at_all\n")
    (tmp_path / "lab_ending.py").write_text("raise SystemExit(3)\n")
    here = str(tmp_path / "lab_misspelt.py")
    for name, say in {
        "lab_misspelt": f"import lab_misspelt fails: {here}, line 2: SyntaxError: invalid syntax.",
        "lab_lacking": "fails: ModuleNotFoundError: No module named 'not_there_at_all'.",
        "lab_ending": "import lab_ending fails: SystemExit: 3.",
        "lab_nowhere": "No module named 'lab_nowhere'; is it on PYTHONPATH?",
        "lab/nowhere.py": "there is no lab/nowhere.py.",
        "my-lab": "must be the name of a module",
    }.items():
        assert evaluate.main([f"--import={name}", "--run_dir=none", "--attacks=FGSM(0.1)"]) == 2
        said = capsys.readouterr().err.splitlines()
        assert (
            len(said) == 1
            and said[0].startswith("error: ")
            and said[0].endswith(say)
            or (say in said[0])
        ), said
    with pytest.warns(modules.ModuleNote, match="line 2: SyntaxError"):
        assert "runs/a needs" in modules.import_recorded(["lab_misspelt"], "runs/a")


def test_the_name_of_an_installed_package_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("keras", "pytest", "pip", "this"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not to be imported')\n")
    for name, say in {
        "pytest": "of the package .*pytest.*, which is loaded already; rename yours",
        "keras": "which is loaded already; rename yours",
        "pip": f"{tmp_path}/pip.py has the name of the installed package .*rename yours, or give "
        f"--import={tmp_path}/pip to mean it",
        "this": "has the name of the installed package",
    }.items():
        with pytest.raises(modules.UserModuleError, match=say):
            modules.load(name)
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "this.py").write_text("MEANT = True\n")
    assert modules.load("lab/this.py") == "this" and sys.modules.pop("this").MEANT


def test_only_modules_of_users_are_recorded_or_imported():
    assert modules.record_of(["json", "robust_tf.data", "keras.layers", "__main__", ""]) == []
    assert modules.record_of(["pytest"]) == [{"name": "pytest", "folder": None}]
    recorded = [{"name": "os"}, {"name": "a b"}, {"name": 3}, None, "lab_old", {"folder": "x"}]
    assert modules.entries(recorded) == [{"name": "lab_old", "folder": None}]
    assert modules.entries("lab") == []
    package = {"name": "lab.attacks", "folder": "/a"}
    assert modules.as_option(package) == "/a/lab.attacks"


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("robust_tf.data.recorded", "os.system"), ("subprocess", "call")],
)
def test_the_record_of_data_calls_nothing_but_sources(module, name):
    source = {"module": module, "name": name, "arguments": {"command": "exit 1"}}
    with pytest.raises(data.DataError, match="give --dataset"):
        data.load_recorded({"name": "x", "source": source})


def test_modules_in_packages_and_beside_each_other(tmp_path, monkeypatch):
    (tmp_path / "lab_package").mkdir()
    (tmp_path / "lab_package" / "__init__.py").write_text("")
    (tmp_path / "lab_package" / "parts.py").write_text("from lab_beside import WHERE\n")
    (tmp_path / "lab_beside.py").write_text("WHERE = __name__\n")
    assert modules.load(f"{tmp_path}/lab_package.parts") == "lab_package.parts"
    assert sys.modules["lab_package.parts"].WHERE == "lab_beside"
    assert modules.folder_of("lab_package.parts") == str(tmp_path)
    assert modules.folder_of("lab_package") == str(tmp_path)
    assert sys.path[0] != str(tmp_path) and sys.path[-1] == str(tmp_path)


def test_names_in_attacks(place):
    my_lab = importlib.import_module("my_lab")

    dark = my_lab.Darken(eps=0.1)
    assert evaluation.parse_attack("Darken(0.1)") == dark
    assert evaluation.parse_attack("my_lab.Darken(eps=0.1)") == dark
    assert list(evaluation.parse_attacks("my_lab.Darken(eps=[0.1, 0.2])")) == [
        "Darken eps=0.1",
        "Darken eps=0.2",
    ]
    for text, say in {
        "Darkn(0.1)": "Did you mean my_lab.Darken",
        "other.Darken(0.1)": "no attack 'other.Darken'",
        "my_lab.bright_thirds()": "no attack 'my_lab.bright_thirds'",
        "my_lab.tf.exit()": "no attack",
    }.items():
        with pytest.raises(ValueError, match=say):
            evaluation.parse_attack(text)


def test_a_module_of_import_stands_for_one_in_the_recipe(place, monkeypatch, tmp_path):
    """It makes the names known, is written into the run, and leaves the identity as it is."""
    recipe = tmp_path / "plain.gin"
    text = (place / "lab" / "mine.gin").read_text().replace("import my_lab\n", "")
    recipe.write_text(text)
    loaded = recipes.load(recipe, imports=[str(place / "lab" / "my_lab.py")])
    assert "import my_lab" not in loaded.text
    with loaded.bindings.in_force():
        assert "my_lab" in runs.record.bindings.imported()
    assert "import my_lab" in loaded.bindings.used()


def test_a_kind_of_a_users_own_is_checked(capsys, monkeypatch, place):
    argv = [f"--run_dir={place / 'run'}", "--output=x.svg"]
    assert figures.main(["mean_logitz", *argv]) == 2
    assert "did you mean mean_logits?" in capsys.readouterr().err
    monkeypatch.setitem(kinds.REGISTERED, "numbers", kinds.Kind("", lambda inputs: 3))
    assert figures.main(["numbers", *argv]) == 2
    assert "numbers returned int: must be a matplotlib" in capsys.readouterr().err

    def mean_logits(inputs):
        return None

    with pytest.raises(ValueError, match="'mean_logits' is registered by my_lab already"):
        kinds.kind("another")(mean_logits)
