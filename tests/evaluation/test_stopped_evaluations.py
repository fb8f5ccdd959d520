"""SIGTERM and SIGINT to `evaluate`: what is done is kept, the status says which, and it goes on."""

import os
import signal
import time

import pytest
import tensorflow as tf

from robust_tf import engines, files, stopping
from robust_tf.cli import evaluate
from robust_tf.evaluation.runner import AttackRunner
from tests.evaluation.in_process import InProcess

ATTACKS = "FGSM(eps=0.1); PGD(eps=0.1, step_size=0.05, steps=2)"
SENTENCE = "; the same command continues.\nended by "


def logits(x):
    """A model that a command names by its import path."""
    return tf.reduce_mean(x, axis=[1, 2]) * tf.range(10.0)


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Evaluates the model in an empty folder; the status."""
    monkeypatch.chdir(tmp_path)
    words = [f"--model={__name__}:logits", "--dataset=digits", "--max_examples=40"]
    words += ["--no_checks", f"--attacks={ATTACKS}"]
    return lambda *more: evaluate.main([*words, *more])


@pytest.fixture
def struck(monkeypatch):
    """Sends this process a signal in place of a stage of an attack."""

    def strike(number, stage):
        ran, run = [], AttackRunner.run_stage

        def run_stage(self, *given):
            ran.append(given)
            if len(ran) == stage:
                os.kill(os.getpid(), number)
                time.sleep(10)
            return run(self, *given)

        monkeypatch.setattr(AttackRunner, "run_stage", run_stage)
        return ran

    return strike


def verdicts(path):
    """Of each example, without the seconds that they took."""
    report = files.read_json(path)["evaluation"]
    return {name: attack["broken"] for name, attack in report["attacks"].items()}


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_record_is_kept_and_the_same_command_continues(command, struck, capsys, number, status):
    assert command("--output=whole.json") == 0
    usual = signal.getsignal(number)
    ran = struck(number, stage=2)
    capsys.readouterr()
    assert command("--output=a.json") == status
    assert signal.getsignal(number) is usual
    out, err = capsys.readouterr()
    assert not out and not os.path.exists("a.json")
    assert f"\nkept in a.json.partial{SENTENCE}{signal.Signals(number).name}\n" in err
    pieces = files.read_json("a.json.partial")["pieces"]
    assert sum(key.startswith("FGSM") for key in pieces) == 1
    assert not any(key.startswith("PGD") for key in pieces)
    ran.clear()
    assert command("--output=a.json") == 0
    assert [name for _, name, *_ in ran] == ["PGD-2 eps=0.1"]
    assert verdicts("a.json") == verdicts("whole.json")
    assert not os.path.exists("a.json.partial")


def test_without_an_output_nothing_is_said_to_be_kept(command, struck, capsys):
    struck(signal.SIGTERM, stage=1)
    assert command() == 143
    err = capsys.readouterr().err
    assert "kept in" not in err and err.endswith("\nended by SIGTERM\n")


def test_what_waits_in_tensorflow_has_its_record_written(command, monkeypatch):
    """By another thread, before it ends the process: here it only asks to save."""
    seen = []

    def run_stage(self, *given):
        stopping._save()
        seen.append(files.read_json("a.json.partial")["pieces"])
        raise KeyboardInterrupt

    monkeypatch.setattr(AttackRunner, "run_stage", run_stage)
    assert command("--output=a.json") == 130
    assert set(seen[0]) == {"collapsed", "natural"}


def test_shards_are_kept(command, monkeypatch, capsys):
    class Struck(InProcess):
        def run(self, tasks, *watching):
            super().run(tasks[:1], *watching)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    monkeypatch.setattr(engines, "engine", lambda *given: Struck(2))
    assert command("--output=b.json", "--devices=2") == 143
    assert f"\nkept in b.json.shards{SENTENCE}SIGTERM\n" in capsys.readouterr().err
    assert os.path.exists("b.json.shards/1-of-2.json")
