"""Training and evaluation one after the other: in one process, and on runs made without gin."""

import gin

from robust_tf import data, files
from robust_tf.cli import evaluate, train
from robust_tf.training import run_folder
from tests.cli.test_train import SMALL
from tests.tiny import tiny_network
from tests.training.runs import points_recipe, thirds, trainer

FEW = ["--max_examples=4", "--no_checks"]


def test_both_commands_in_one_process(tmp_path, capsys):
    """gin keeps nothing of the one that the other meets: no binding, and no lock."""
    params = [*SMALL, "train.compare_with=None", "train.validation_attack=None", "eps=0.2"]
    assert train.main([f"--run_dir={tmp_path}", *[f"--gin_param={one}" for one in params]]) == 0
    assert not gin.config_is_locked() and gin.config_str().strip() == ""
    output = tmp_path / "smoke.json"
    command = [f"--run_dir={tmp_path}", "--battery=smoke", f"--output={output}", *FEW]
    assert evaluate.main(command) == 0, capsys.readouterr().err
    found = files.read_json(output)["evaluation"]["balls"]
    assert found and all(ball == ["Linf", 0.2] for ball in found.values())


def test_a_run_made_from_python_without_gin(tmp_path, capsys):
    """What `training.Trainer` was given is in run.json: eps of the battery, and the own attacks."""
    moons = data.load("moons")
    trainer(
        tmp_path,
        points_recipe(epochs=1, batch_size=500, validation_attack=None),
        moons,
        configuration="",
    ).train()
    capsys.readouterr()
    assert evaluate.main([f"--run_dir={tmp_path}", *FEW]) == 0, capsys.readouterr().err
    own = capsys.readouterr().out
    assert "PGD" in own and "worst case" in own
    assert evaluate.main([f"--run_dir={tmp_path}", "--battery=smoke", *FEW]) == 0
    printed = capsys.readouterr()
    assert "PGD-20 eps=0.02" in printed.out and "warning" not in printed.err


def test_a_run_on_data_of_the_users_own(tmp_path, capsys):
    """Its images are not in the catalogue, so the command cannot read them, and says so."""
    begun = trainer(tmp_path, points_recipe(network=lambda **shape: tiny_network()), thirds())
    run_folder.save_model(begun.model.final_network, str(tmp_path / "model.keras"))
    command = [f"--run_dir={tmp_path}", "--attacks=FGSM(eps=0.1)"]
    assert evaluate.main(command) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert "'thirds'" in said and "robust_tf.evaluate" in said and "--dataset" in said
