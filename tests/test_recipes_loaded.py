"""`robust_tf.recipes`: recipes from Python, side by side, with fractions and old names."""

import warnings

import gin
import numpy as np
import pytest

from robust_tf import data, methods, recipes
from robust_tf.attacks import PGD

SMALL = ["CNN.filters=2", "CNN.hidden=8", "steps=1", "train.batch_size=640", "train.epochs=1"]


@pytest.fixture(scope="module")
def adr():
    return recipes.load("adr_digits", SMALL)


# ---- finding and reading -------------------------------------------------------------------------


def test_names_and_descriptions():
    names = recipes.names()
    assert {"adr_mnist", "trades_cifar10", "standard_digits"} <= set(names)
    table = recipes.describe().splitlines()
    assert [line.split()[0] for line in table] == names
    assert recipes.describe("adr_digits") == table[names.index("adr_digits")].split(None, 1)[1]


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_says_what_it_is(name):
    line = recipes.describe(name)
    assert 20 < len(line) <= 100 and line.endswith("."), line


def test_what_cannot_be_loaded_says_why(tmp_path):
    for arguments, say in {
        ("adr_minst",): "there is no recipe adr_minst; did you mean gin/adr_mnist.gin?",
        ("adr_digits", ("PGDD.eps=0.1",)): "unknown gin name 'PGDD'; did you mean PGD?",
        ("adr_digits", ("PGD.eps=%epss",)): "macro %epss is used by PGD.eps but not bound",
        ("adr_digits", "train.epochs=2"): "must be a list, such as ['train.epochs=2']",
        ((),): "no recipe given",
        ("adr_digits", ("eps=1/0",)): "the parameter eps=1/0: 1 / 0 divides by zero",
    }.items():
        with pytest.raises(recipes.ConfigurationError) as error:
            recipes.load(*arguments)
        assert say in str(error.value)
        assert "\n" not in str(error.value)
    loop = tmp_path / "loop.gin"
    loop.write_text(f"include '{loop}'\n")
    with pytest.raises(recipes.ConfigurationError, match="includes itself"):
        recipes.load(loop)


def test_an_import_that_fails_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raises_itself.py").write_text("raise RuntimeError('out of order')\n")
    recipe = tmp_path / "mine.gin"
    for module, say in {
        "not_there.at_all": "import not_there.at_all fails: ModuleNotFoundError: No module named "
        "'not_there'; is it on PYTHONPATH?",
        "raises_itself": "import raises_itself fails: RuntimeError: out of order.",
    }.items():
        recipe.write_text(f"# mine\nimport {module}\ninclude 'adr_digits.gin'\n")
        with pytest.raises(recipes.ConfigurationError) as error:
            recipes.load(recipe)
        assert str(error.value) == f"{recipe}, line 2: {say}"


def test_a_recipe_takes_modules_of_the_users_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "users_networks.py").write_text(
        "import gin\nfrom robust_tf import models\n\n\n"
        "@gin.configurable\ndef tiny_mlp(input_shape, num_classes, width=3):\n"
        "    return models.MLP(input_shape, num_classes, hidden=(width,))\n"
    )
    recipe = tmp_path / "mine.gin"
    recipe.write_text(
        "include 'adr_digits.gin'\nimport users_networks\n"
        "train.network = @tiny_mlp\ntiny_mlp.width = 5\n"
    )
    model = recipes.load(recipe, ["train.batch_size=640"]).model()
    assert model.network.generator.output_shape[1:] == (5,)


def test_included_files_are_found_beside_and_lines_keep_their_numbers(tmp_path):
    (tmp_path / "part.gin").write_text("include 'adr_digits.gin'\n\neps = 0.1\n")
    recipe = tmp_path / "mine.gin"
    recipe.write_text("# mine\n\ninclude 'part.gin'\n\ntrain.epochs = 3\nPGDD.eps = 1\n")
    with pytest.raises(recipes.ConfigurationError, match=r"mine.gin, line 6: unknown gin name"):
        recipes.load(recipe)
    recipe.write_text("include 'part.gin'\ntrain.epochs = 3\n")
    text = recipes.load(recipe).text
    assert "\neps = 0.1\n" in text and "train.epochs = 3\n" in text


# ---- numbers and names ---------------------------------------------------------------------------


def test_fractions_are_read_everywhere(tmp_path):
    recipe = tmp_path / "mine.gin"
    recipe.write_text(
        "include 'adr_digits.gin'\n"
        "eps = 8/255  # of 255\n"
        "validation/PGD.step_size = 2 / 255\n"
        "evaluation/PGD:\n    step_size = 1/255\n    steps = 2*3 + 1\n"
        "piecewise.boundaries = (6/2, 2 * 4.5)\n"
    )
    loaded = recipes.load(recipe, ["PGD.eps=16/255", "step_size=1 - 3/4"])
    with loaded.bindings.in_force():
        assert gin.query_parameter("eps/gin.macro.value") == 8 / 255
        assert gin.query_parameter("PGD.eps") == 16 / 255
        assert gin.query_parameter("step_size/gin.macro.value") == 0.25
        assert gin.query_parameter("validation/PGD.step_size") == 2 / 255
        assert gin.query_parameter("evaluation/PGD.step_size") == 1 / 255
        assert gin.query_parameter("evaluation/PGD.steps") == 7
        assert gin.query_parameter("piecewise.boundaries") == (3.0, 9.0)


@pytest.mark.parametrize("binding", ["eps=8", "PGD.eps=8", "evaluation/PGD.eps=8"])
def test_eps_of_pixels_is_refused(binding):
    with pytest.raises(recipes.ConfigurationError, match=r"eps=8.*8/255\?"):
        recipes.load("adr_digits", [*SMALL, binding]).model()


def test_old_names_are_read_with_a_note(tmp_path):
    old, new = "SqueezeAttack.regulariser", "SqueezeAttack.regularizer"
    recipe = tmp_path / "mine.gin"
    said = f"{old} is called {new} now"
    texts = [f"{old} = 'js'\n", "a/SqueezeAttack:\n    regulariser = 'js'\n"]
    for text in texts:
        recipe.write_text(f"include 'squeeze_digits.gin'\n{text}")
        with pytest.warns(recipes.RenamedWarning, match=said):
            bound = recipes.load(recipe).text
        assert "SqueezeAttack.regularizer = 'js'" in bound and "regulariser" not in bound
    with pytest.warns(recipes.RenamedWarning, match=said):
        bound = recipes.load("squeeze_digits", [f"{old}='js'"]).text
    assert f"{new} = 'js'" in bound
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recipes.load("squeeze_digits", [f"{new}='js'"])


# ---- building ------------------------------------------------------------------------------------


def test_data_and_model(adr):
    dataset, model = adr.data(), adr.model()
    assert dataset.name == "digits" and len(dataset.test) == 360
    assert isinstance(model, methods.ADR) and model.optimizer is not None
    assert model.network.generator.input_shape[1:] == (28, 28, 1)
    assert repr(adr) == "<recipe adr_digits: 1 epochs>"
    history = model.fit(data.epochs(dataset.train, 640, 1), steps_per_epoch=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_data_of_the_users_own(adr):
    split = data.Split(np.zeros((700, 32, 32, 3), "uint8"), np.arange(700, dtype="int32") % 3)
    model = adr.model(data.Data("mine", split, split, split, 3, data.Augmentation()))
    assert model.network.generator.input_shape[1:] == (32, 32, 3)
    few = split.take(30)
    with pytest.raises(recipes.ConfigurationError, match="only 30 training examples"):
        adr.model(data.Data("mine", few, few, few, 3, data.Augmentation()))


def test_recipes_live_side_by_side(adr):
    other = recipes.load("standard_digits", [*SMALL, "CNN.filters=3", "eps=0.05"])
    gin.parse_config("PGD.eps = 0.4")
    try:
        assert isinstance(other.model(), methods.Standard)
        again = adr.model()
        assert isinstance(again, methods.ADR) and again.attack.threat.eps == 0.15
        filters = [m.network.generator.layers[0].filters for m in (again, other.model())]
        assert filters == [2, 3]
        # What the program itself had bound is as it was, and not locked.
        assert PGD(step_size=0.1, steps=1).threat.eps == 0.4
        gin.parse_config("PGD.eps = 0.5")
        assert "0.4" not in adr.text
    finally:
        gin.clear_config()


def test_trains_in_a_run_folder(adr, tmp_path):
    params = [*SMALL, "evaluation_steps=1", "train.evaluation_examples=20", "evaluate.batch_size=7"]
    params += ["validation/PGD.steps=1"]
    loaded = recipes.load("adr_digits", params)
    trainer = loaded.trainer(tmp_path / "run")
    recipes.load("standard_digits").model()  # does not disturb the trainer
    summary = trainer.train()
    assert summary["method"] == "ADR" and summary["data"]["name"] == "digits"
    assert summary["evaluation"]["batch_size"] == 7
    assert "data.name = 'digits'" in (tmp_path / "run/config.gin").read_text()
    # The same run, whether continued by the same object or by a new one.
    assert loaded.train(tmp_path / "run") == summary
    assert recipes.load("gin/adr_digits.gin", params).train(tmp_path / "run") == summary


def test_comparisons(adr):
    others = adr.comparisons()
    assert list(others) == ["Standard", "AdversarialTraining"]
    assert isinstance(others["Standard"].model(), methods.Standard)
    assert all(not other.comparisons() for other in others.values())
    one = recipes.load("adr_digits", ["train.compare_with=@a/TRADES"]).comparisons()
    assert list(one) == ["a_TRADES"]
    assert not recipes.load("adr_digits", ["train.compare_with=None"]).comparisons()
    for wrong in ("'TRADES'", "['TRADES']"):
        with pytest.raises(recipes.ConfigurationError, match="must be a builder or a list of them"):
            recipes.load("adr_digits", [f"train.compare_with={wrong}"])
