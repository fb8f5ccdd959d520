"""`bin/train`: what it refuses and how it says so, dry runs, comparisons, exit statuses."""

import os
import re

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import files
from robust_tf.cli import dry_run, train
from robust_tf.training.loop import Loop
from tests.training.runs import rows

# A run of seconds on top of gin/adr_digits.gin.
SMALL = [
    "CNN.filters=2",
    "CNN.hidden=8",
    "steps=1",
    "evaluation_steps=1",
    "validation/PGD.steps=1",
    "train.epochs=1",
    "train.batch_size=640",
    "train.evaluation_examples=20",
]


def run(*arguments, params=()):
    """Exit status of the command."""
    return train.main([*arguments, *[f"--gin_param={binding}" for binding in params]])


@pytest.fixture
def error(capsys):
    """What the last command wrote to stderr: one line, and perhaps ways out, set in below it."""

    def read():
        out, err = capsys.readouterr()
        assert not out and err.startswith("error: ") and "Traceback" not in err, (out, err)
        assert all(line.startswith("  ") for line in err.splitlines()[1:]), err
        return err

    return read


# A binding, and what the error must say.
BINDINGS = {
    "PGDD.eps=0.1": "unknown gin name 'PGDD'; did you mean PGD?",
    "pgd.eps=0.1": "did you mean PGD?",
    "train.optimiser=@Adam": "train has no parameter 'optimiser'; did you mean optimizer?",
    "train.optimizer=@Adamm": "unknown gin name 'Adamm'; did you mean Adam?",
    "train.validation_attack=@PDG()": "unknown gin name 'PDG'; did you mean PGD?",
    "evaluation/PGD.epsilon=0.1": "PGD has no parameter 'epsilon'; did you mean eps?",
    "epochs=3": "macro that nothing uses; did you mean train.epochs or eps?",
    "epss=0.1": "macro that nothing uses; did you mean eps?",
    "PGD.eps=%epss": "macro %epss is used by PGD.eps but not bound; did you mean eps?",
    "PGD.eps": "Bindings read NAME.PARAMETER=VALUE",
    "train.epochs=[1": "Bindings read NAME.PARAMETER=VALUE",
    "data.name=mnist": "mnist is not a value",
    "data.name='mnsit'": "no dataset 'mnsit'. Did you mean 'mnist'?",
    "data.validation_size=1437": "data.validation_size is 1437",
    "PGD.eps=-0.1": "eps=-0.1",
    "eps=-0.1": "eps=-0.1",
    "PGD.step_size=0": "step_size=0",
    "evaluation/PGD.step_size=0": "(in evaluation/PGD)",
    "PGD.steps='ten'": "steps='ten'",
    "PGD.norm='Linf2'": "norm='Linf2'",
    "ADR.local=-1": "local=-1",
    "ADR.preset='table4'": "preset='table4'",
    "ADR.attack=@PGD": "ADR(attack=<class",
    "train.method='ADR'": "train.method='ADR': must be a builder, such as @Standard",
    "train.epochs=0": "train(epochs=0): must be an integer >= 1",
    "train.batch_size=5000": "there are only 1287 training examples",
    "train.learning_rate='fast'": "train(learning_rate='fast')",
    "piecewise.boundaries=(3, 2)": "boundaries=(3, 2)",
    "CNN.filters=2.5": "CNN(filters=2.5): must be an integer or a list",
    "CNN.cut='5conv'": "cut='5conv'",
    "train.network=@MLP\nMLP.hidden=()": "MLP(hidden=())",
    "Augmentation.pad=-1": "Augmentation(pad=-1)",
}


@pytest.mark.parametrize("binding", BINDINGS)
def test_wrong_binding(binding, error, tmp_path):
    folder = tmp_path / "run"
    assert run(f"--run_dir={folder}", params=[binding]) == 2
    message = error()
    assert BINDINGS[binding] in message
    assert "In call to" not in message and "Traceback" not in message
    assert not folder.exists()


def test_wrong_files(error, tmp_path):
    assert run("--gin_file=gin/adr_minst.gin") == 2
    assert "there is no recipe gin/adr_minst.gin; did you mean gin/adr_mnist.gin?" in error()
    recipe = tmp_path / "mine.gin"
    for text, say in {
        "# mine\nPGDD.eps = 1\n": f"{recipe}, line 2: unknown gin name 'PGDD'; did you mean PGD?",
        "PGD.eps = abc\n": "mine.gin, line 1: abc is not a value",
        "include 'parts/trian.gin'\n": f"{recipe}, line 1: it includes parts/trian.gin, which",
        "train.method = @ADR\n": "ADR needs 'attack'; bind it: ADR.attack = ...",
        "train.validation_attack = @PGD()\nPGD.eps = 0.1\n": "PGD needs 'step_size' and 'steps'",
        "PGD.eps = %radius": "macro %radius is used by PGD.eps but not bound",
    }.items():
        recipe.write_text(text)
        assert run(f"--gin_file={recipe}", f"--run_dir={tmp_path}/run") == 2
        assert say in error()
    recipe.write_bytes(b"\xff\xfe\x00")
    assert run(f"--gin_file={recipe}") == 2
    assert str(recipe) in error()
    assert not (tmp_path / "run").exists()


def test_wrong_arguments(error, tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    (tmp_path / "file").write_text("")
    mnist = "data.name='mnist'"
    for arguments, params, say in [
        (["--gin_fil=x"], [], "unrecognized arguments: --gin_fil=x"),
        (["--strategy=mirored"], [], "strategy 'mirored': must be one of"),
        (["--strategy=multi_worker"], [], "TF_CONFIG"),
        (["--wait_minutes=0"], [], "'0' must be a number of minutes > 0"),
        ([f"--data_dir={tmp_path}/file"], [mnist], f"{tmp_path}/file"),
        ([f"--run_dir={tmp_path}/file/run"], [], "--run_dir"),
        (["--run_dir=/proc/run"], [], "--run_dir"),
    ]:
        assert run(*arguments, params=params) == 2
        assert say in error()


def test_trains_compares_and_reports(tmp_path, capfd, monkeypatch):
    folder = tmp_path / "run"
    assert run(f"--run_dir={folder}", params=[*SMALL, "FGSM.eps=0.1"]) == 0
    out, err = capfd.readouterr()
    assert "ERROR" not in err and "Path not found" not in err
    assert "note: FGSM.eps=0.1 has no effect, this run has no FGSM." in err
    table = out[out.index("accuracy on 20 test images") :].splitlines()
    assert re.search(r"natural +PGD-1 \S+ +PGD-1 multi-targeted \S+ +worst case", table[1])
    rows = [line.split()[0] for line in table[2:]]
    assert rows == ["Standard", "AdversarialTraining", "ADR", "results:"]
    assert table[-1] == f"results: {folder}/summary.json"

    outputs = ["checkpoints", "config.gin", "identity.json", "metrics.jsonl", "model.keras"]
    outputs = ["best.keras", *outputs, "run.json", "summary.json", "tensorboard"]
    assert sorted(os.listdir(folder)) == sorted([*outputs, "comparison"])
    others = ["AdversarialTraining", "Standard"]
    assert sorted(os.listdir(folder / "comparison")) == others
    for other in others:
        assert sorted(os.listdir(folder / "comparison" / other)) == outputs
    operative = (folder / "config.gin").read_text()
    assert "train.method = @ADR\n" in operative and "train.epochs = 1\n" in operative
    assert "train.compare_with = None\n" in operative
    for other in others:
        compared = (folder / "comparison" / other / "config.gin").read_text()
        assert f"train.method = @{other}\n" in compared and "data.name = 'digits'" in compared

    summary = files.read_json(folder / "summary.json")
    assert summary["method"] == "ADR" and summary["weights"]["local"] == 1
    assert len(summary["robust_accuracy"]) == 2 and 0 <= summary["worst_case"] <= 1
    assert summary["configuration"] == operative
    assert set(summary["versions"]) >= {"robust_tf", "tensorflow", "keras", "python"}
    assert summary["training_seconds"] > 0 and summary["data"]["name"] == "digits"

    # Started again: the same table, without a step.
    def no_step(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(Loop, "train", no_step)
    assert run(f"--run_dir={folder}", params=[*SMALL, "FGSM.eps=0.1"]) == 0
    again, _ = capfd.readouterr()
    assert "finished earlier" in again
    assert again[again.index("accuracy on") :].splitlines() == table

    # Another configuration: refused.
    assert run(f"--run_dir={folder}", params=[*SMALL, "ADR.local=0.5"]) == 2
    assert "ADR.local = 0.5 (was not there)" in capfd.readouterr()[1]

    # What a run has written is a recipe, of the same run.
    assert run("--dry_run", f"--gin_file={folder}/config.gin") == 0
    described, _ = capfd.readouterr()
    assert "method      ADR" in described and "1 epochs of 2 steps of 640 images" in described


def test_dry_run_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("--dry_run", "--run_dir=run", params=SMALL) == 0
    out, _ = capsys.readouterr()
    assert not os.listdir(tmp_path)
    assert "ADR: clean 0.5, adversarial 0.5, local 1, global_ 1, entropy 1" in out
    assert "AdversarialTraining: clean 0.5, adversarial 0.5" in out
    assert "560 parameters" in out and "1 epochs of 2 steps of 640 images" in out
    assert run("--dry_run", params=["train.batch_size=5000"]) == 2


def test_later_files_and_parameters_win(tmp_path, capsys):
    later = tmp_path / "later.gin"
    later.write_text("eps = 0.1\ntrain.epochs = 7\n")
    arguments = ["--dry_run", "--gin_file=gin/adr_digits.gin", f"--gin_file={later}"]
    assert run(*arguments, params=["train.epochs=8", "CNN.filters=1"]) == 0
    out, _ = capsys.readouterr()
    assert "eps = 0.1" in out and "8 epochs of" in out


def test_failed_training_is_3(tmp_path, capsys):
    params = [*SMALL, "train.compare_with=None", "train.optimizer=@SGD", "train.learning_rate=1e38"]
    params += ["train.epochs=20"]
    assert run(f"--run_dir={tmp_path}", params=params) == 3
    message = capsys.readouterr()[1].splitlines()[-1]
    assert re.match(r"error: non-finite (loss|weights) (at|after) step \d+", message)
    path = re.search(r"The last good checkpoint is (\S+)\. Lower", message)[1]
    assert os.path.exists(path + ".index")
    import tensorflow as tf

    reader = tf.train.load_checkpoint(path)
    names = [n for n in reader.get_variable_to_shape_map() if n.startswith(("network", "optim"))]
    assert names and all(np.isfinite(reader.get_tensor(name)).all() for name in names)


def test_interrupted_is_130_and_continues(tmp_path, capsys, monkeypatch):
    original = Loop.test

    def interrupted(*_):
        raise KeyboardInterrupt

    params = [*SMALL, "train.compare_with=None", "train.evaluation_attacks={}"]
    monkeypatch.setattr(Loop, "test", interrupted)
    assert run(f"--run_dir={tmp_path}", params=params) == 130
    monkeypatch.setattr(Loop, "test", original)
    assert run(f"--run_dir={tmp_path}", params=params) == 0
    assert "continuing in epoch 1 of 1" in capsys.readouterr()[0]
    assert len(rows(tmp_path)) == 1


def test_a_dry_run_names_no_private_strategy(two_replicas):
    assert dry_run._strategy(tf.distribute.get_strategy()) == "none, one device"
    assert dry_run._strategy(two_replicas) == "MirroredStrategy, 2 replica(s)"
