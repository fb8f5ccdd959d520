"""What the commands say of wrong input, by whatever way it comes in, and by which name they go."""

import json
import os
import subprocess
import sys

import pytest

from robust_tf.cli import command_name, evaluate, export, figures, report, train

EPS = "images are in [0, 1], so eps is a part of that: 8/255?"


def said(capsys, command, *arguments):
    """The one line that a command that was refused has written."""
    assert command.main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and err.count("\n") == 1, (out, err)
    return err


def test_eps_in_pixels_is_one_sentence_by_every_way(capsys, tmp_path):
    recipe = tmp_path / "mine.gin"
    recipe.write_text("include 'adr_digits.gin'\neps = 8\n")
    model = ["--model=m.keras", "--dataset=digits"]
    for command, *arguments in [
        (train, "--dry_run", "--gin_param=PGD.eps=8"),
        (train, "--dry_run", "--gin_param=eps=8"),
        (train, "--dry_run", f"--gin_file={recipe}"),
        (evaluate, *model, "--battery=smoke", "--eps=8"),
        (evaluate, *model, "--attacks=PGD(eps=8, step_size=2, steps=10)"),
    ]:
        message = said(capsys, command, *arguments)
        assert "(eps=8): must be in [0, 1]; " in message and EPS in message


@pytest.mark.parametrize("text", ["abc", "8/", "PGD", "1/0", "'0.3'", ""])
def test_eps_that_is_no_number(capsys, text):
    given = ["--model=m.keras", "--dataset=digits", "--battery=smoke", f"--eps=0.1,{text}"]
    if not text:
        given[-1] = "--eps="
    message = said(capsys, evaluate, *given)
    assert "no eps: give --eps=8/255" in message or repr(text) in message
    assert "strings take quotes" not in message


@pytest.mark.parametrize(
    "command, arguments",
    [
        (evaluate, ["--battery=smoke", "--eps=0.1"]),
        (export, ["--export_dir=out"]),
        (figures, ["training", "--output=a.svg"]),
        (report, []),
    ],
)
def test_a_folder_that_is_no_run(capsys, tmp_path, monkeypatch, command, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    assert "photos" in said(capsys, command, *arguments, "--run_dir=photos")
    assert "nowhere" in said(capsys, command, *arguments, "--run_dir=nowhere")
    assert sorted(os.listdir(tmp_path)) == ["photos"]


@pytest.mark.parametrize("content", ["{", "[1]", ""])
def test_a_damaged_summary_is_named(capsys, tmp_path, content):
    (tmp_path / "summary.json").write_text(content)
    (tmp_path / "identity.json").write_text(json.dumps({"identity": ""}))
    message = said(capsys, evaluate, f"--run_dir={tmp_path}")
    assert f"{tmp_path}/summary.json" in message and "no attacks" not in message


def test_an_import_in_a_recipe_that_fails(capsys, tmp_path):
    recipe = tmp_path / "mine.gin"
    recipe.write_text("import not_there\ninclude 'adr_digits.gin'\n")
    message = said(capsys, train, f"--gin_file={recipe}")
    assert "mine.gin, line 1: import not_there fails: ModuleNotFoundError" in message


# ---- the commands' own names, and a quiet start --------------------------------------------------


@pytest.mark.parametrize(
    "started, name",
    [
        ({"ROBUST_TF_PROG": "bin/train"}, "bin/evaluate"),
        ({"argv": "/usr/bin/robust-tf-train"}, "robust-tf-evaluate"),
        ({"argv": "/x/robust_tf/cli/train.py"}, "python -m robust_tf.cli.evaluate"),
    ],
)
def test_help_names_commands_as_they_were_started(monkeypatch, started, name):
    monkeypatch.delenv("ROBUST_TF_PROG", raising=False)
    if "ROBUST_TF_PROG" in started:
        monkeypatch.setenv("ROBUST_TF_PROG", started["ROBUST_TF_PROG"])
    monkeypatch.setattr(sys, "argv", [started.get("argv", "x")])
    assert command_name("evaluate") == name
    text = evaluate.parser().format_help()
    assert text.startswith(f"usage: {name} ") and f"\n  {name} --run_dir=" in text
    assert f"{name} --merge 1.json 2.json" in text


def test_commands_start_without_lines_of_tensorflow(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_CPP")}
    done = subprocess.run(
        [sys.executable, "-m", "robust_tf.cli.evaluate", f"--run_dir={tmp_path}"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
