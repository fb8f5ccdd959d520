"""`run.json`: what training writes of a run when it starts, and what `Run` reads of it."""

import functools
import json

import gin
import pytest

from robust_tf import attacks, compat, files, recipes, runs
from robust_tf.attacks import ManifoldAttack
from robust_tf.methods import ATLD
from robust_tf.models import MLPDiscriminator
from robust_tf.runs import bindings
from robust_tf.runs.naming import label_of
from robust_tf.training import Recipe
from tests.training.runs import NO_STRATEGY, moons, points_recipe, trainer


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """The folder of a run that has begun and not trained yet, made from Python."""
    gin.clear_config()
    folder = tmp_path_factory.mktemp("runs") / "points"
    trainer(folder, points_recipe(learning_rate=0.02, validation_attack=None), moons())
    return folder


def test_a_run_made_from_python_says_all_that_it_was_given(started):
    run = runs.read_run(started)
    assert (run.name, run.method, run.label) == ("points", "ADR", "ADR LC/GB/CA")
    assert run.terms["clean"] == 0.5 and set(run.terms) >= {"local", "global_", "smoothness"}
    assert run.network["builder"] == "MLP" and run.network["class"] == "SplitClassifier"
    assert run.network["image_shape"] == [2] and run.network["num_classes"] == 2
    assert run.network["parameters"] == 2 * 8 + 8 + 8 * 8 + 8 + 8 * 2 + 2
    assert run.data["name"] == "moons" and run.data["train"] == 96 and run.data["test"] == 16
    assert run.data["splits"]["test"] == moons().test.fingerprint
    assert (run.threat, run.eps, run.step_size) == ("Linf", 0.02, 0.01)
    assert run.attack == attacks.PGD(0.02, 0.01, 2)
    assert run.attacks == {"PGD": attacks.PGD(0.02, 0.01, 2)}
    assert (run.evaluation_step_size, run.evaluation_steps) == (0.01, 2)
    assert run.disc_input is None and run.seed == 3 and run.precision == "float32"
    assert run.versions == runs.versions() and not run.finished and not run.has_model
    assert run.record["training"]["learning_rate"] == 0.02
    assert run.record["training"]["network"] == "@MLP"
    assert "points" in repr(run) and "ADR" in repr(run)


def test_a_discriminator_says_what_it_takes():
    method = functools.partial(
        ATLD,
        attack=ManifoldAttack(0.02),
        discriminator=MLPDiscriminator(8, 2, hidden=(4,)),
        disc_input="features",
        label_smoothing=0.1,
    )
    recipe = points_recipe(method=method, evaluation_attacks=())
    record = runs.describe(recipe, recipe.build(moons(), NO_STRATEGY), moons())
    assert record["disc_input"] == "features" and record["method"]["name"] == "ATLD"
    assert json.loads(json.dumps(record)) == record


def test_bindings_are_values_and_not_text(tmp_path):
    """As gin holds them, and the same from the text that gin writes of them."""
    mine = tmp_path / "mine.gin"
    mine.write_text("include 'adr_digits.gin'\nimport json\ntrain.epochs = 2\n")
    loaded = recipes.parse([str(mine)], ["validation/PGD.steps=3", "eps=0.2"])
    with loaded.in_force():
        recipe = Recipe()
        recipe.method(network=recipe.network(input_shape=(28, 28, 1), num_classes=10))
        found, imported = bindings.operative(), bindings.imported()
    assert found["train.epochs"] == 2 and found["eps"] == 0.2
    assert found["PGD.eps"] == 0.2 and found["train.network"] == "@CNN"
    assert found["ADR.attack"] == "@PGD()" and found["validation/PGD.steps"] == 3
    assert imported == ["json"]
    read, modules = bindings.parse(loaded.used())
    assert read == found and modules == ["json"]
    with pytest.raises(ValueError, match="not a gin configuration"):
        bindings.parse("eps = = 3")


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("method", None, "'method' is None"),
        ("seed", "x", "'seed' is 'x'"),
        ("data", [], r"'data' is \[\]"),
        ("format", 99, "its format is 99, of a later version of robust_tf; this one reads 1"),
    ],
)
def test_a_damaged_record_is_named(started, tmp_path, part, value, message):
    record = files.read_json(started / "run.json")
    files.write_json(tmp_path / "run.json", {**record, part: value})
    with pytest.raises(runs.RunError, match=f"run.json is damaged: .*{message}"):
        runs.read_run(tmp_path)
    (note,) = runs.read_run(tmp_path, tolerant=True).left_out
    assert note.startswith("run.json is left out: ")


@pytest.mark.parametrize("name", ["run.json", "summary.json"])
@pytest.mark.parametrize("content", ["", "{", "[1]", "null", '"text"', "\x00"])
def test_damaged_files_are_named(started, tmp_path, name, content):
    for other in ("identity.json", "config.gin"):
        (tmp_path / other).write_bytes((started / other).read_bytes())
    (tmp_path / name).write_text(content)
    with pytest.raises(runs.RunError, match=f"{name} is (damaged|not JSON)"):
        runs.read_run(tmp_path)
    run = runs.read_run(tmp_path, tolerant=True)
    assert any(name in note for note in run.notes) and run.summary == {}


def test_a_record_without_a_part_is_damaged(started, tmp_path):
    record = files.read_json(started / "run.json")
    del record["threat"]
    files.write_json(tmp_path / "run.json", record)
    with pytest.raises(runs.RunError, match="it has no 'threat'"):
        runs.read_run(tmp_path)


def test_what_is_no_run_is_refused(started, tmp_path):
    with pytest.raises(runs.RunError, match="there is no run folder .*absent"):
        runs.read_run(tmp_path / "absent")
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(runs.RunError, match="thesis.txt is a file; give the folder of a run"):
        runs.read_run(tmp_path / "thesis.txt")
    with pytest.raises(runs.RunError, match="is not the folder of a run: it has none of run.json"):
        runs.read_run(tmp_path)
    with pytest.raises(runs.RunError, match="Did you mean .*points"):
        runs.read_run(started.parent)
    with pytest.raises(files.FileError, match="holds no model.keras: its training has not ended"):
        runs.load_run(started)


def test_an_attack_of_a_users_own_is_left_out_of_the_record():
    class Mine(attacks.Attack):  # neither registered, nor a dataclass
        eps = 0.1

        def run(self, network, x, y, seed, scale=1.0):
            return x

    recipe = points_recipe(evaluation_attacks={"mine": Mine()})
    record = runs.describe(recipe, recipe.build(moons(), NO_STRATEGY), moons())
    assert json.loads(json.dumps(record)) == record
    assert compat.deserialize(record["attacks"]["training"]) == attacks.PGD(0.02, 0.01, 2)


def test_labels_of_methods():
    names = {
        "ADV": ("AdversarialTraining", {"clean": 0.5}),
        "AT": ("AdversarialTraining", {"adversarial": 1.0}),
        "ADR LC/GB/CA": ("ADR", {"local": 1, "global_": 1, "smoothness": 1}),
        "ST": ("SqueezeTraining", {}),
        "Standard": ("Standard", {}),
        "": ("", {}),
    }
    for name, (method, terms) in names.items():
        assert label_of(method, terms) == name
    half, attack = {"clean": 0.5, "adversarial": 0.5}, "TRADES-7 eps=0.1"
    assert label_of("ADR", {**half, "local": 1}, attack) == "ADR-TRADES"
    for method in ("ADR", "AdversarialTraining"):
        assert label_of(method, half, attack) == "ADV-TRADES"
        assert label_of(method, half, "PGD-7 eps=0.1") == "ADV"
