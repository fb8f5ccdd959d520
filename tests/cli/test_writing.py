"""No command replaces a file that it did not make: every path that a command writes."""

import json

import pytest

from robust_tf import files
from robust_tf.cli import evaluate, evaluate_file, export, figures, report, train

# Each is a command and the arguments before the path that it writes; the path's ending.
PLACES = {
    "evaluate --output": (evaluate, ["--run_dir={run}", "--output={path}"], ".json"),
    "evaluate --merge": (evaluate, ["--merge", "1.json", "--output={path}"], ".json"),
    "report": (report, ["--run_dir={run}", "--no_model", "--output={path}"], ".html"),
    "figures svg": (figures, ["training", "--run_dir={run}", "--output={path}"], ".svg"),
    "figures png": (figures, ["moons", "--output={path}"], ".png"),
    "figures pdf": (figures, ["moons", "--output={path}"], ".pdf"),
}
FOLDERS = {
    "evaluate --save_adversarial": (evaluate, ["--run_dir={run}", "--save_adversarial={path}"]),
    "figures projector": (figures, ["projector", "--run_dir={run}", "--output={path}"]),
    "export": (export, ["--run_dir={run}", "--export_dir={path}"]),
    "export --overwrite": (export, ["--run_dir={run}", "--overwrite", "--export_dir={path}"]),
}
FOREIGN = {
    "recipe": "train.epochs = 3\n",
    "summary": json.dumps({"method": "ADR", "configuration": "", "data": {}, "evaluation": {}}),
    "list": "[1, 2]",
    "page": "<html><body>mine</body></html>",
    "empty": "",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run, every file of which must be left as it is."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    for name in files.RUN_FILES:
        if "." in name:
            files.write_text(folder / name, json.dumps({"name": name, "evaluation": {}}))
        else:
            files.write_text(folder / name / "part", name)
    return folder


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(place, capsys, run, path):
    command, arguments, *_ = {**PLACES, **FOLDERS}[place]
    status = command.main([text.format(run=run, path=path) for text in arguments])
    out, err = capsys.readouterr()
    assert status == 2 and not out, (out, err)
    assert err.startswith("error: ") and str(path) in err and err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("place", PLACES)
def test_a_foreign_file_is_kept(place, kind, run, tmp_path, capsys):
    path = tmp_path / f"mine{PLACES[place][2]}"
    path.write_text(FOREIGN[kind])
    before = content(run)
    said = refused(place, capsys, run, path)
    assert "is there and is not a" in said and "it is left as it is." in said
    assert path.read_text() == FOREIGN[kind] and content(run) == before


@pytest.mark.parametrize("name", files.RUN_FILES)
def test_a_runs_own_files_are_kept(name, run, capsys):
    before = content(run)
    said = refused("evaluate --output", capsys, run, run / name)
    assert "belongs to the run in that folder" in said or "is a folder; name a file" in said
    assert content(run) == before


def test_names_of_a_run_are_kept_free_before_they_are_there(tmp_path, capsys):
    files.write_json(tmp_path / "identity.json", {"identity": "of a run that goes on"})
    for place in ("evaluate --output", "evaluate --merge"):
        refused(place, capsys, tmp_path, tmp_path / "summary.json")
    assert [path.name for path in tmp_path.iterdir()] == ["identity.json"]


@pytest.mark.parametrize("place", FOLDERS)
def test_a_foreign_folder_is_kept(place, run, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "years_of_work.txt").write_text("years of work")
    file = tmp_path / "file"
    file.write_text("a file")
    for path in (tmp_path / "mine", run, file):
        before = content(tmp_path), content(run)
        refused(place, capsys, run, path)
        assert (content(tmp_path), content(run)) == before


def test_training_keeps_what_is_no_run(tmp_path, capsys):
    (tmp_path / "model.keras").write_text("a model of mine")
    for restart in ([], ["--restart"]):
        status = train.main([f"--run_dir={tmp_path}", *restart])
        assert status == 2 and "holds model.keras, but is not the folder of a run" in (
            capsys.readouterr().err
        )
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_results_of_evaluate_are_replaced(tmp_path):
    made = {"run_dir": "runs/a", "data": {"name": "digits"}, "evaluation": {}}
    for result in (made, {**made, "inference": {}, "columns": {}}):
        files.write_json(tmp_path / "a.json", result)
        assert files.check_replaceable(tmp_path / "a.json", "a result", evaluate_file.is_result)
    assert not files.check_replaceable(tmp_path / "new.json", "a result", evaluate_file.is_result)
