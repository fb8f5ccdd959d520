"""`evaluate` and `export` from the command line, on a run folder with a tiny network on digits."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, data, evaluation, files, runs
from robust_tf.cli import evaluate, export
from robust_tf.evaluation import loading
from tests.linear import trained

BATTERY = {
    "PGD-3 eps=0.05": attacks.PGD(eps=0.05, step_size=0.02, steps=3),
    "mine": attacks.MultiTargeted(attacks.BIM(eps=0.05, step_size=0.02, steps=2)),
}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", validation_size=100, seed=4)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, digits):
    """What a training run leaves."""
    network = trained(digits)
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    network.save(folder / "model.keras")
    result = evaluation.evaluate(network, digits.test, BATTERY, batch_size=64, seed=5)
    files.write_json(
        folder / "summary.json",
        {
            "data": {
                "name": "digits",
                "validation_size": 100,
                "seed": 4,
                "fingerprint": digits.fingerprint(),
            },
            "evaluation": result.to_json(),
        },
    )
    return folder


def test_a_run_repeats_its_own_evaluation(run_dir, tmp_path, capsys):
    output = tmp_path / "new" / "result.json"
    assert evaluate.main([f"--run_dir={run_dir}", f"--output={output}"]) == 0
    printed = capsys.readouterr()
    assert "warning" not in printed.err
    report = files.read_json(output)
    before = files.read_json(run_dir / "summary.json")["evaluation"]
    for name, attack in report["evaluation"].pop("attacks").items():
        expected = before["attacks"].pop(name)
        assert attack["broken"] == expected["broken"] and attack["attack"] == expected["attack"]
        assert f"{100 * attack['robust_accuracy']:.2f} %" in printed.out
    before.pop("attacks")
    assert report["evaluation"] == before
    assert report["data"]["validation_size"] == 100 and report["data"]["split"] == "test"
    assert list(report["data"]["splits"]) == ["test"]
    assert 0.7 < before["natural_accuracy"] < 1 and before["worst_case_accuracy"] < 0.9


def test_attacks_split_and_number_of_examples_by_hand(run_dir, digits, tmp_path):
    output = tmp_path / "result.json"
    command = [f"--run_dir={run_dir}", "--split=validation", "--max_examples=30", "--seed=9"]
    command += ["--attacks=FGSM(eps=8/255); CW(eps=.1, step_size=.05, steps=2)", "--batch_size=8"]
    assert evaluate.main([*command, f"--output={output}"]) == 0
    found = evaluation.Evaluation.from_json(files.read_json(output)["evaluation"])
    network = runs.load_run(run_dir)
    expected = evaluation.evaluate(
        network,
        digits.validation,
        [attacks.FGSM(8 / 255), attacks.CW(0.1, 0.05, 2)],
        batch_size=8,
        max_examples=30,
        seed=9,
        draw="balanced",
    )
    assert list(found.robust) == ["FGSM eps=8/255", "CW-2 eps=0.1"]
    assert len(found) == 30 and found.settings == expected.settings
    assert all((found.robust[name] == expected.robust[name]).all() for name in found.robust)


def test_another_copy_of_the_data_is_warned_of(run_dir, tmp_path, capsys):
    summary = files.read_json(run_dir / "summary.json")
    summary["data"]["splits"] = {"test": "0123456789abcdef"}
    other = tmp_path / "run"
    other.mkdir()
    (other / "model.keras").write_bytes((run_dir / "model.keras").read_bytes())
    files.write_json(other / "summary.json", summary)
    assert evaluate.main([f"--run_dir={other}", "--attacks=FGSM(.1)", "--max_examples=10"]) == 0
    assert "warning: these test images of digits are not those" in capsys.readouterr().err


FGSM = "--attacks=FGSM(eps=0.1)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments --run_dir --model --merge --status is required"),
        (["--run_dir={run}", "--atacks=x"], "unrecognized arguments: --atacks=x"),
        (["--run_dir={run}", "--max_examples=0"], "'0' must be a whole number >= 1"),
        (["--run_dir={run}", "--split=tset"], "invalid choice: 'tset'"),
        (["--run_dir={tmp}/none"], "there is no run folder"),
        (["--run_dir={tmp}/none", FGSM], "there is no run folder"),
        (["--run_dir={tmp}", FGSM], "is not the folder of a run: it has none of"),
        (["--model={tmp}/none.keras", FGSM, "--dataset=digits"], "there is no model"),
        (["--model={tmp}/bad.keras", FGSM, "--dataset=digits"], "cannot be read as a Keras model"),
        (["--model={tmp}/text.txt", FGSM, "--dataset=digits"], "expected a .keras file"),
        (["--model={run}", FGSM, "--dataset=digits"], "give it as --run_dir"),
        (["--model={tmp}", FGSM, "--dataset=digits"], "is not a SavedModel"),
        (["--model={tmp}/broken", FGSM, "--dataset=digits"], "cannot read .*broken"),
        (["--model={run}/model.keras", FGSM], "no dataset: give --dataset, one of digits"),
        (["--model={run}/model.keras", "--dataset=digits"], "no attacks: give --attacks"),
        (["--run_dir={run}", "--attacks=PGDD(eps=0.1)"], r"Did you mean PGD\?"),
        (["--run_dir={run}", "--attacks=FGSM(eps=-1)"], "eps=-1"),
        (["--run_dir={run}", "--dataset=digit"], "Did you mean 'digits'"),
        (["--run_dir={run}", "--dataset=moons"], r"takes images of shape \(28, 28, 1\)"),
        (["--run_dir={run}", "--dataset=mnist", "--data_dir={tmp}/text.txt"], "mnist"),
        (["--run_dir={run}", "--output={tmp}/text.txt/result.json"], "cannot write"),
        (["--run_dir={run}", "--output={tmp}"], "is a folder"),
    ],
)
def test_mistakes_are_one_clear_line(arguments, message, run_dir, tmp_path, capsys):
    (tmp_path / "bad.keras").write_text("nothing of the kind")
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "saved_model.pb").write_text("x")
    arguments = [argument.format(run=run_dir, tmp=tmp_path) for argument in arguments]
    assert evaluate.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "In call to" not in captured.err
    assert re.search(f"^error: .*{message}", captured.err, re.MULTILINE), captured.err


def test_other_errors_keep_their_traceback(monkeypatch, run_dir):
    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(evaluation, "evaluate", broken)
    with pytest.raises(ZeroDivisionError):
        evaluate.main([f"--run_dir={run_dir}"])


@pytest.mark.parametrize("command", [evaluate, export])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as exit:
        command.main(["--help"])
    assert exit.value.code == 0
    text = capsys.readouterr().out
    assert "--run_dir" in text and "example" in text
    assert max(map(len, text.splitlines())) <= 100


def test_help_does_not_wait_for_tensorflow():
    code = "import sys; import robust_tf.cli.evaluate as c\ntry: c.main(['--help'])\nfinally: "
    code += "assert 'tensorflow' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr


def test_saved_models_of_others(tmp_path, rng):
    def save(name, outputs, inputs=1):
        module = tf.Module()
        spec = [tf.TensorSpec([None, 2, 2, 1], tf.float32, f"x{i}") for i in range(inputs)]
        module.serve = tf.function(lambda *x: outputs(x[0]), input_signature=spec)
        path = str(tmp_path / name)
        tf.saved_model.save(module, path, signatures={"serving_default": module.serve})
        return path

    def flat(x):
        return tf.reshape(x, [-1, 4])

    images = rng.random((3, 2, 2, 1), np.float32)
    model = loading.load_model(save("one", lambda x: {"scores": flat(x)}))
    np.testing.assert_array_equal(model(images), images.reshape(3, 4))
    examples = images, images.reshape(3, 4).argmax(1)
    result = evaluation.evaluate(model, examples, [attacks.PGD(0.9, 0.2, 5)])
    assert (result.natural_accuracy, result.worst_case_accuracy) == (1, 0)
    with pytest.raises(ValueError, match="expected an output 'logits', or only one"):
        loading.load_model(save("two", lambda x: {"a": flat(x), "b": flat(x)}))
    with pytest.raises(ValueError, match="expected one input"):
        loading.load_model(save("inputs", lambda x: {"a": flat(x)}, inputs=2))
    tf.saved_model.save(tf.Module(), str(tmp_path / "none"))
    with pytest.raises(ValueError, match="no signature 'serving_default'"):
        loading.load_model(tmp_path / "none")


# ---- models by import path, shards, batteries ----------------------------------------------------


@pytest.fixture
def model_here(tmp_path, monkeypatch):
    """A module beside the user, with a model and with a function that makes one."""
    (tmp_path / "defences.py").write_text(
        "import tensorflow as tf\n"
        "def logits(x):\n    return tf.reduce_mean(x, axis=[1, 2])  * tf.range(10.0)\n"
        "def make():\n    return logits\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate_digits(*arguments):
    return evaluate.main([*arguments, "--dataset=digits", "--max_examples=40", "--no_checks"])


def test_a_model_by_import_path_in_shards(model_here, capsys):
    attack = "--attacks=PGD(eps=0.1, step_size=0.05, steps=2)"
    assert evaluate_digits("--model=defences:logits", attack, "--output=whole.json") == 0
    for k in (1, 2):
        arguments = (f"--shard={k}/2", f"--output={k}.json")
        assert evaluate_digits("--model=defences:logits", attack, *arguments) == 0
    assert evaluate.main(["--merge", "1.json", "2.json", "--output=all.json"]) == 0
    whole, merged = (files.read_json(model_here / f"{n}.json") for n in ("whole", "all"))
    for report in (whole, merged):
        for attack in report["evaluation"]["attacks"].values():
            attack.pop("seconds")
    assert whole == merged
    assert not list(model_here.glob("*.partial"))
    assert evaluate_digits("--model=defences:make", "--attacks=FGSM(0.1)") == 0
    capsys.readouterr()
    for model, message in (
        ("defences:nothing", "has nothing named 'nothing'"),
        ("defence:logits", "No module named 'defence'"),
        ("defences:number", "is int, not a model"),
    ):
        assert evaluate_digits(f"--model={model}", "--attacks=FGSM(0.1)") == 2
        assert message in capsys.readouterr().err


def test_a_battery_at_several_eps(model_here, capsys):
    arguments = ("--model=defences:logits", "--battery=smoke")
    assert evaluate_digits(*arguments, "--eps=8/255,0.1", "--output=r.json") == 0
    names = list(files.read_json(model_here / "r.json")["evaluation"]["attacks"])
    kinds = ("FGSM", "PGD-20", "CW-20")
    assert names == [f"{kind} eps={eps}" for eps in ("8/255", "0.1") for kind in kinds]
    capsys.readouterr()
    for extra, message in (
        (("--battery=smok", "--eps=0.1"), "did you mean smoke?"),
        (("--battery=smoke",), "no eps: give --eps"),
        (("--battery=smoke", "--eps=many"), "'many'"),
        (("--attacks=FGSM(0.1)", "--eps=0.1"), "--eps is for a battery"),
        (("--attacks=FGSM(0.1)", "--shard=3"), "must be i/n"),
    ):
        assert evaluate_digits("--model=defences:logits", *extra) == 2
        assert message in capsys.readouterr().err
