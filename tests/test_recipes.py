"""Every recipe parses and builds, and holds the numbers of the papers and their programs."""

import dataclasses
import functools
import glob
import itertools
import os

import gin
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import data, methods, recipes
from robust_tf.attacks import MultiTargeted
from robust_tf.attacks.objectives import CrossEntropy, KLDivergence
from robust_tf.attacks.steps import GaussianStart, UniformStart

FOLDER = recipes.recipes_folder()
RECIPES = sorted(os.path.basename(path) for path in glob.glob(os.path.join(FOLDER, "*.gin")))
COLOUR = (32, 32, 3)
SHAPES = {"mnist": (28, 28, 1), "digits": (28, 28, 1), "cifar10": COLOUR, "cifar100": COLOUR}
SHAPES["svhn_cropped"] = SHAPES["images"] = COLOUR
TRAINING = {"mnist": 55000, "digits": 1287, "cifar10": 45000, "cifar100": 45000}
TRAINING["svhn_cropped"], TRAINING["images"] = 68257, 1000
# The large networks in small: what a recipe says of them is read from its text.
SMALL = {"@WideResNet": ["WideResNet.depth = 10", "WideResNet.width = 1"]}
SMALL["@ATLD"] = ["WideDiscriminator.depth = 10", "WideDiscriminator.width = 1"]
METHODS = {
    "adr": methods.ADR,
    "adr_trades": methods.ADR,
    "adr_trades_base": methods.ADR,
    "adversarial": methods.AdversarialTraining,
    "alp": methods.ALP,
    "at": methods.AdversarialTraining,
    "at_l1": methods.AdversarialTraining,
    "atld": methods.ATLD,
    "awp": methods.TRADES,
    "bilateral": methods.Bilateral,
    "early_stopping": methods.AdversarialTraining,
    "feature_scattering": methods.FeatureScattering,
    "label_smoothing": methods.AdversarialTraining,
    "lat": methods.LAT,
    "mart": methods.MART,
    "pretraining": methods.AdversarialTraining,
    "rst": methods.TRADES,
    "squeeze": methods.SqueezeTraining,
    "squeeze_awp": methods.SqueezeTraining,
    "squeeze_rst": methods.SqueezeTraining,
    "standard": methods.Standard,
    "tla": methods.TLA,
    "trades": methods.TRADES,
    "trades_l1": methods.TRADES,
}


class Counted:
    """As many training examples as the real set, without the images."""

    def __init__(self, count):
        self.count = self.epoch_size = count

    def __len__(self):
        return self.count


@functools.cache
def built(name):
    """The recipe, its augmentation and its model on a dataset of the right shape."""
    bound = recipes.parse([f"gin/{name}"]).text()
    small = [line for owner, lines in SMALL.items() if owner in bound for line in lines]
    loaded = recipes.load(f"gin/{name}", small)
    recipe = dataclasses.replace(loaded.settings, initial=None)  # there is no earlier run here
    with loaded.bindings.in_force():
        own = "ImageFolder" in loaded.text
        return _built(recipe, "images" if own else gin.query_parameter("data.name"))


def _built(recipe, dataset):
    shape, some = SHAPES[dataset], np.arange(10, dtype="int32")
    split = data.Split(np.zeros((10, *shape), "uint8"), some)
    classes = 100 if dataset == "cifar100" else 10
    fake = data.Data(dataset, split, split, split, classes, data.Augmentation())
    object.__setattr__(fake, "train", Counted(TRAINING[dataset]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data.Data, "image_shape", shape)
        model = recipe.build(fake, tf.distribute.get_strategy())
    return dataset, recipe, fake.augmentation, model


def rates(optimizer, steps):
    """The first rate, the factors that follow, and the epochs at which they do."""
    schedule = getattr(optimizer, "_learning_rate", optimizer.learning_rate)
    values = [float(f"{value:.6g}") for value in schedule.values]
    factors = {round(after / before, 6) for before, after in itertools.pairwise(values)}
    if factors == {1.0}:  # constant, which Keras writes with a boundary too
        return values[0], set(), ()
    return values[0], factors, tuple((step + 1) / steps for step in schedule.boundaries)


def test_all_recipes_are_there():
    named = {name.removesuffix(".gin") for name in RECIPES}
    first = ("adr", "adr_trades", "adr_trades_base", "adversarial", "trades", "standard")
    places = ("digits", "mnist", "cifar10_cnn", "cifar10_resnet")
    assert {f"{method}_{place}" for method in first for place in places} <= named
    places = ("cifar10", "cifar100", "svhn", "mnist", "digits")
    papers = ("atld", "squeeze", "feature_scattering")
    assert {f"{method}_{place}" for method in papers for place in places} <= named
    pictures = ("adr", "at", "atld", "squeeze", "standard", "trades")
    assert {f"{method}_images" for method in pictures} <= named
    cifar10 = ("squeeze_awp", "squeeze_rst", "pretraining")
    baselines = set(METHODS) - {*first, *papers, *cifar10}
    assert {f"{m}_{place}" for m in baselines for place in ("cifar10", "mnist")} <= named
    assert {f"{method}_cifar10" for method in cifar10} <= named


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_builds(name):
    dataset, recipe, augmentation, model = built(name)
    assert type(model) is METHODS[name.split("_" + dataset.removesuffix("_cropped"))[0]]
    # Section 6 of the paper: PGD, non-targeted and multi-targeted, from a random start.
    plain, targeted = recipe.evaluation_attacks
    assert isinstance(targeted, MultiTargeted)
    assert plain.start == UniformStart() and plain.objective == CrossEntropy()
    assert plain.restarts == 1 and plain.batch_norm == "running"
    assert recipe.validation_attack.batch_norm == "running"
    if model.attack is not None:
        eps = getattr(model.attack, "eps", None) or model.attack.threat.eps
        assert eps == plain.threat.eps == recipe.validation_attack.threat.eps


def attack_numbers(attack):
    return attack.threat.eps, attack.step.step_size, attack.steps


@pytest.mark.parametrize(
    "method", ["adr", "adversarial", "trades", "adr_trades", "adr_trades_base", "standard"]
)
@pytest.mark.parametrize("place", ["mnist", "cifar10_cnn", "cifar10_resnet"])
def test_papers_numbers(method, place):
    """Attacks and optimisation of the ADR paper."""
    dataset, recipe, augmentation, model = built(f"{method}_{place}.gin")
    steps = TRAINING[dataset] // 128
    rate, factors, boundaries = rates(model.optimizer, steps)
    assert recipe.batch_size == 128
    assert factors == {0.1}
    optimizer = type(model.optimizer).__name__
    if dataset == "mnist":
        train_numbers, test_numbers = (0.3, 0.01, 40), (0.3, 0.01, 40)
        assert optimizer == "SGD" and model.optimizer.momentum == 0.9
        assert boundaries == (55, 75, 90) and recipe.epochs == 100
        assert rate == 0.01 and recipe.weight_decay == 0
        assert augmentation == data.Augmentation()
        assert model.network.generator.output_shape[1:] == (512,)
        assert model.network.classifier.layers[0].units == 200
    else:
        train_numbers, test_numbers = (8 / 255, 2 / 255, 10), (8 / 255, 2 / 255, 20)
        assert recipe.weight_decay == 2e-4
    if place == "cifar10_cnn":
        assert optimizer == "Adam" and rate == 1e-3 and recipe.epochs == 200
        assert boundaries == (100, 150)
        assert augmentation == data.Augmentation(pad=4, flip=True)
        assert model.network.generator.output_shape[1:] == (1600,)
        assert model.network.classifier.layers[0].units == 256
    if place == "cifar10_resnet":
        assert optimizer == "SGD" and model.optimizer.momentum == 0.9
        assert rate == 0.1
        # The program's steps: no other number of epochs comes nearer to their end.
        assert [round(boundary * steps) for boundary in boundaries] == [40000, 60000]
        assert steps == 351 and recipe.epochs * steps == 89856 > 90000 - steps / 2
        assert augmentation == data.Augmentation(pad=2, flip=True)
        assert model.network.generator.output_shape[1:] == (64,)
    assert attack_numbers(recipe.evaluation_attacks[0]) == pytest.approx(test_numbers)
    if model.attack is not None:
        assert attack_numbers(model.attack) == pytest.approx(train_numbers)


@pytest.mark.parametrize("method", ["adr", "at", "atld", "squeeze", "trades"])
def test_pictures(method):
    """Half of CIFAR-10's eps in half of its steps, and a rate that falls to 0 in any run."""
    _, recipe, augmentation, model = built(f"{method}_images.gin")
    if method == "atld":
        assert (model.attack.eps, model.attack.steps) == (4 / 255, 1)
        assert model.discriminator.input_size == 512 and model.discriminator.num_classes == 10
    else:
        own = model.attack
        numbers = (
            (own.eps, own.step_size, own.steps) if method == "squeeze" else attack_numbers(own)
        )
        assert numbers == pytest.approx((4 / 255, 1 / 255, 10))
    assert attack_numbers(recipe.evaluation_attacks[0]) == pytest.approx((4 / 255, 1 / 255, 20))
    assert augmentation == data.Augmentation(pad=4, flip=True)
    for epochs in (recipe.epochs, 3):
        steps = 31 * epochs
        schedule = recipe.schedule(recipe.learning_rate, steps_per_epoch=31, epochs=epochs)
        values = [float(schedule(step)) for step in (0, steps // 2, steps)]
        assert values == pytest.approx([0.02, 0.01, 0.0], abs=4e-4)


def test_weights_of_the_terms():
    """Table 3 of the ADR paper and the losses of its baselines."""
    half = {"clean": 0.5, "adversarial": 0.5}
    table3 = {**half, "local": 1, "global_": 1, "entropy": 1}
    for method in ("adr", "adr_trades"):
        assert built(f"{method}_mnist.gin")[3].term_weights == table3
        assert built(f"{method}_cifar10_resnet.gin")[3].term_weights == table3
        assert built(f"{method}_cifar10_cnn.gin")[3].term_weights == {**table3, "smoothness": 1}
    for place in ("mnist", "cifar10_cnn", "cifar10_resnet"):
        assert built(f"adversarial_{place}.gin")[3].term_weights == half
        beta = 1 if place == "mnist" else 6
        weights = {"clean": 1, "divergence": beta}
        assert built(f"trades_{place}.gin")[3].term_weights == weights


def test_adversaries():
    """PGD; the program's TRADES adversary for ADR-TRADES, the official one for TRADES."""
    for place in ("mnist", "cifar10_cnn", "cifar10_resnet", "digits"):
        for method in ("adr", "adversarial"):
            attack = built(f"{method}_{place}.gin")[3].attack
            assert attack.objective == CrossEntropy() and attack.start == UniformStart()
        ours, official = (built(f"{m}_{place}.gin")[3].attack for m in ("adr_trades", "trades"))
        assert ours.objective == KLDivergence(direction="adv_clean")
        assert ours.start == UniformStart()
        assert official.objective == KLDivergence(direction="clean_adv")
        assert official.start == GaussianStart()


@pytest.mark.parametrize("place", ["mnist", "cifar10_cnn", "cifar10_resnet", "digits"])
def test_the_base_of_adr_trades_lacks_adrs_terms_alone(place):
    names = [f"gin/{method}_{place}.gin" for method in ("adr_trades", "adr_trades_base")]
    full, base = (dict(parts(line) for line in recipes.load(n).text.splitlines()) for n in names)
    differ = {name for name in {*full, *base} if full.get(name) != base.get(name)}
    assert differ == {"ADR.preset"}
    full, base = (built(os.path.basename(name))[3] for name in names)
    assert base.attack == full.attack
    assert base.term_weights == {"clean": 0.5, "adversarial": 0.5}
    assert set(full.term_weights) - set(base.term_weights) <= set(methods.ADR.warmup_terms)


def parts(line):
    """Name and value of a line of bindings."""
    name, _, value = line.partition(" = ")
    return name, value


@pytest.mark.parametrize("place", ["digits", "cifar10_cnn"])
def test_without_its_terms_a_step_of_adr_trades_is_the_base(place):
    """Bit by bit; and but for rounding, half and half by the same adversary."""
    small = ["CNN.filters=4", "CNN.hidden=8", "steps=2", "train.eps_warmup_epochs=0"]
    off = [f"ADR.{name}=0" for name in ("local", "global_", "entropy", "smoothness")]
    half = ["train.method=@AdversarialTraining", "AdversarialTraining.clean_weight=0.5"]
    half += ["AdversarialTraining.attack=@TRADESAttack()"]
    name = f"gin/adr_trades_base_{place}.gin"
    loaded = {"base": (name, []), "off": (f"gin/adr_trades_{place}.gin", off), "half": (name, half)}
    weights = {}
    for key, (recipe, parameters) in loaded.items():
        model = recipes.load(recipe, [*small, *parameters]).model(few(place))
        rng = np.random.default_rng(0)
        x = rng.random((16, *model.network.image_shape)).astype("float32")
        before = model.network.get_weights()
        model.train_on_batch(x, np.arange(16, dtype="int32") % 10)
        weights[key] = model.network.get_weights()
        assert any((a != b).any() for a, b in zip(before, weights[key], strict=True))
    for base, other, near in zip(*weights.values(), strict=True):
        np.testing.assert_array_equal(base, other)
        np.testing.assert_allclose(base, near, rtol=1e-4, atol=1e-5)


def few(place):
    """Data of the shape of a place."""
    shape = SHAPES[place.split("_")[0]]
    split = data.Split(np.zeros((200, *shape), "uint8"), np.arange(200, dtype="int32") % 10)
    return data.Data(place, split, split, split, 10, data.Augmentation())


def test_features_and_statistics():
    """Clean features fixed, attacks in training mode: for the released program's ResNet only."""
    for place, fixed, mode in (("mnist", False, "running"), ("cifar10_resnet", True, "training")):
        for method in ("adr", "adr_trades"):
            model = built(f"{method}_{place}.gin")[3]
            assert model.compactness.detach_clean is fixed
            assert model.compactness.alpha == 0.99
            assert model.compactness.pairs == "clean_adv" and model.compactness.norm == 1
            assert model.attack.batch_norm == mode
    assert built("trades_cifar10_resnet.gin")[3].attack.batch_norm == "running"


def test_short_schedule_keeps_the_threat():
    loaded = recipes.load(["gin/adr_mnist.gin", "gin/parts/mnist_short.gin"])
    recipe = loaded.settings
    assert recipe.epochs >= 10 and recipe.dtype_policy == "auto"
    assert attack_numbers(recipe.evaluation_attacks[0]) == (0.3, 0.01, 40)
    with loaded.bindings.in_force():
        assert gin.query_parameter("steps/gin.macro.value") >= 10


@pytest.mark.parametrize(
    "part, names",
    [("moons", "adversarial atld_small squeeze"), ("cifar10_20k", "trades squeeze")],
)
def test_a_place_takes_any_method(part, names):
    """Places that have no recipe of their own for a method, as their heads say."""
    shape = (2,) if part == "moons" else COLOUR
    dtype = "float32" if part == "moons" else "uint8"
    split = data.Split(np.zeros((200, *shape), dtype), np.arange(200, dtype="int32") % 2)
    for name in names.split():
        loaded = recipes.load([f"gin/parts/{part}.gin", f"gin/parts/methods/{name}.gin"])
        model = loaded.model(data.Data(part, split, split, split, 2, data.Augmentation()))
        assert isinstance(model, METHODS[name.removesuffix("_small")])
        assert model.network.generator.input_shape[1:] == shape


def test_recipes_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("gin/adr_digits.gin", "adr_digits.gin", "adr_digits"):
        assert "train.method = @ADR" in recipes.load(name).text
    mine = tmp_path / "mine.gin"
    mine.write_text("include 'adr_digits.gin'\neps = 0.1\n")
    assert "eps = 0.1" in recipes.load("mine.gin").text


def test_nothing_is_repeated():
    """A recipe only puts parts together; two recipes of one place differ in one part."""
    for name in RECIPES:
        lines = open(os.path.join(FOLDER, name)).read().splitlines()
        bindings = [line for line in lines if "=" in line and not line.startswith("#")]
        assert len(bindings) <= 1, name
