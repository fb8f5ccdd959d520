"""The recipes of ATLD, squeeze training, TRADES, AT and FS hold their sources' numbers."""

import pytest

from robust_tf import data, recipes, training
from robust_tf.attacks.steps import CleanStart
from tests.test_recipes import TRAINING, attack_numbers, built, rates


def optimisation(name):
    """Rate, momentum, Nesterov, epochs, batch, decay, of all parameters, boundaries."""
    dataset, recipe, _, model = built(f"{name}.gin")
    optimizer = model.optimizer
    rate, _, boundaries = rates(optimizer, TRAINING[dataset] // recipe.batch_size)
    assert recipe.seed == 0 and recipe.dtype_policy == "float32"
    return (
        rate,
        optimizer.momentum,
        recipe.epochs,
        recipe.batch_size,
        recipe.weight_decay,
        recipe.decay_all,
        boundaries,
    )


@pytest.mark.parametrize("place", ["cifar10", "cifar100", "svhn"])
def test_atld(place):
    """The settings of the authors' program, for the three datasets."""
    rate = 0.01 if place == "svhn" else 0.1
    assert optimisation(f"atld_{place}") == (rate, 0.9, 400, 50, 2e-4, True, (60, 90))
    _, recipe, augmentation, model = built(f"atld_{place}.gin")
    assert model.kappa == (10 if place == "cifar100" else 2)
    assert model.label_smoothing == 0.5 and model.disc_input == "logits"
    assert model.invariance == "mse_logits" and model.clean_bn_every == 0
    learning = model.disc_training
    assert (learning.updates, learning.learning_rate, learning.momentum) == (2, 1e-3, 0.9)
    assert learning.weight_decay == 2e-4 and not learning.hard_labels
    attack = model.attack
    assert attack.threat.eps == attack.step.step_size == pytest.approx(8 / 255)
    assert attack.steps == 1 and recipe.select == "last"
    crops = data.Augmentation() if place == "svhn" else data.Augmentation(pad=4, flip=True)
    assert augmentation == crops
    text = recipes.load(f"gin/atld_{place}.gin").text
    assert "WideResNet.depth = 28" in text and "WideResNet.width = 10" in text


@pytest.mark.parametrize("place", ["cifar10", "cifar100", "svhn"])
def test_atld_of_the_paper(place):
    """What the paper says where the program differs."""
    assert optimisation(f"atld_{place}_paper") == (0.1, 0.9, 400, 50, 2e-4, True, (60, 90))
    model = built(f"atld_{place}_paper.gin")[3]
    assert (model.disc_input, model.invariance) == ("features", "fool_disc")
    assert model.disc_training.hard_labels and model.disc_training.updates == 1
    assert model.attack.start == CleanStart() and model.attack.steps == 1
    assert model.kappa == 1 and model.term_weights == {"adversarial": 1, "invariance": 1}


def test_trades():
    """The official TRADES; the one of ResNet-18 has the schedule of ST, to be compared with it."""
    assert optimisation("trades_cifar10") == (0.1, 0.9, 76, 128, 2e-4, True, (74,))
    _, recipe, _, model = built("trades_cifar10.gin")
    assert attack_numbers(model.attack) == (0.031, 0.007, 10) and model.beta == 6
    assert attack_numbers(recipe.evaluation_attacks[0]) == (0.031, 0.003, 20)
    assert optimisation("trades_cifar10_resnet18") == optimisation("squeeze_cifar10")


PLACES = {"cifar10_wrn_28_10": "cifar10", "cifar100": "cifar100", "svhn": "svhn"}


@pytest.mark.parametrize("place", PLACES)
def test_what_atld_is_compared_with(place):
    """Rows of Tables 1 and 2, on the network, data and threat of ATLD; epochs of Bilateral."""
    at, lat = f"at_{place}", f"lat_{place}"
    others = [f"{method}_{PLACES[place]}" for method in ("standard", "bilateral")]
    crops = built(f"atld_{PLACES[place]}.gin")[2]
    for name in (at, lat, *others):
        text = recipes.load(f"gin/{name}.gin").text
        assert "WideResNet.depth = 28" in text and "WideResNet.width = 10" in text
        assert "data.validation_size = 1000" in text
        dataset, _, augmentation, model = built(f"{name}.gin")
        assert dataset.removesuffix("_cropped") == PLACES[place] and augmentation == crops
        if model.attack is not None:
            assert model.attack.threat.eps == pytest.approx(8 / 255)
    long = (0.9, 200, 128, 2e-4, True, (100, 150))
    for name in (at, *others):
        assert optimisation(name) == (0.01 if name == "at_svhn" else 0.1, *long)
    assert attack_numbers(built(f"{at}.gin")[3].attack) == pytest.approx((8 / 255, 2 / 255, 7))
    assert built(f"{at}.gin")[3].term_weights == {"adversarial": 1}
    assert built(f"{at}.gin")[3].attack.batch_norm == "training"
    bilateral = built(f"{others[1]}.gin")[3]
    assert bilateral.attack.steps == 1 and (bilateral.multiplier, bilateral.gap) == (9, 0.01)
    # LAT's 1,000 steps from the run of AT; its features are those of the second stage of 16 x 16.
    _, recipe, _, model = built(f"{lat}.gin")
    images = 73257 if place == "svhn" else 50000
    assert recipe.epochs == round(1000 / ((images - 1000) // 128))
    assert optimisation(lat) == (1e-3, 0.9, recipe.epochs, 128, 2e-4, True, ())
    assert recipes.load(f"gin/{lat}.gin").settings.initial == f"runs/{at}"
    assert model.network.generator.output_shape[1:] == (16, 16, 32)
    assert model.attack.batch_norm == model.latent_attack.batch_norm == "batch"


@pytest.mark.parametrize("name", ["tla_cifar10", "tla_cifar10_wrn_28_10"])
def test_tla(name):
    """A tenth of the rate after 1,000 and 5,000 steps of 500 images."""
    _, recipe, _, model = built(f"{name}.gin")
    steps = (50000 - 1000) // 500
    rate, momentum, *_, boundaries = optimisation(name)
    assert (rate, momentum, recipe.batch_size, recipe.weight_decay) == (0.1, 0.9, 500, 2e-4)
    assert [round(b * steps, -1) for b in boundaries] == [1000, 5000]
    initial = recipes.load(f"gin/{name}.gin").settings.initial
    assert initial == f"runs/{name.replace('tla', 'at')}"
    assert attack_numbers(model.attack) == pytest.approx((8 / 255, 2 / 255, 7))


def test_rows_of_atlds_table_4():
    """Robust overfitting, that is early stopping; pre-training; RST."""
    for name in ("early_stopping_cifar10", "early_stopping_cifar10_wrn_34_20"):
        assert optimisation(name) == (0.1, 0.9, 200, 128, 5e-4, True, (100, 150))
        _, recipe, _, model = built(f"{name}.gin")
        assert recipe.select == "best" and recipe.validate_every == 1
        assert recipe.validation_attack.steps == model.attack.steps == 10
    text = recipes.load("gin/early_stopping_cifar10_wrn_34_20.gin").text
    assert "WideResNet.depth = 34" in text and "WideResNet.width = 20" in text
    assert optimisation("early_stopping_cifar100") == optimisation("early_stopping_cifar10")
    _, recipe, _, model = built("pretraining_cifar10.gin")
    assert (recipe.epochs, recipe.batch_size, recipe.weight_decay) == (5, 128, 5e-4)
    assert recipe.learning_rate == 1e-3 and model.optimizer.nesterov
    assert attack_numbers(model.attack) == pytest.approx((8 / 255, 2 / 255, 10))
    assert model.attack.batch_norm == "training" and model.term_weights == {"adversarial": 1}
    assert recipes.load("gin/pretraining_cifar10.gin").settings.initial == "runs/at_cifar100"
    _, recipe, _, model = built("rst_cifar10.gin")
    assert model.beta == 6 and recipe.extra.fraction == 0.5


@pytest.mark.parametrize("place", ["mnist", "digits"])
@pytest.mark.parametrize("method", ["atld", "feature_scattering"])
def test_small_networks_have_the_programs_decay(method, place):
    recipe = built(f"{method}_{place}.gin")[1]
    assert (recipe.weight_decay, recipe.decay_all) == (2e-4, True)


def test_statistics_of_attacks():
    """AT and the program of LAT attack by statistics of the batch; TRADES does not."""
    modes = {"at": "training", "early_stopping": "training", "label_smoothing": "training"}
    for method, mode in {**modes, "lat": "batch", "trades": "running", "mart": "running"}.items():
        assert built(f"{method}_cifar10.gin")[3].attack.batch_norm == mode
    lat = built("lat_cifar10.gin")[3]
    assert lat.latent_attack.batch_norm == "batch"
    assert lat.network.generator.output_shape[1:] == (16, 16, 128)


def test_other_choices_have_recipes():
    attack = built("bilateral_cifar10_program.gin")[3].attack
    assert attack_numbers(attack) == pytest.approx((8 / 255, 2 / 255, 7))
    assert built("bilateral_cifar10.gin")[3].attack.steps == 1
    for regularizer in ("js", "l2"):
        assert built(f"squeeze_cifar10_{regularizer}.gin")[3].attack.regularizer == regularizer


def test_feature_scattering():
    """The official Feature Scattering."""
    assert optimisation("feature_scattering_cifar10") == (0.1, 0.9, 200, 60, 2e-4, True, (60, 90))
    _, recipe, _, model = built("feature_scattering_cifar10.gin")
    attack = model.attack
    assert attack.eps == pytest.approx(8 / 255) and attack.step_size in (None, attack.eps)
    assert (attack.steps, attack.regularizer, attack.max_iterations) == (1, 0.01, 100)
    assert attack.tolerance == 0.1 and model.label_smoothing == 0.5


@pytest.mark.parametrize("place", ["cifar10", "cifar100", "svhn"])
def test_squeeze(place):
    """The settings of the ST paper and its program."""
    svhn = place == "svhn"
    rate, epochs = (0.01, 80) if svhn else (0.1, 120)
    drops = (49, 64) if svhn else (79, 99)
    assert optimisation(f"squeeze_{place}") == (rate, 0.9, epochs, 128, 5e-4, True, drops)
    _, recipe, augmentation, model = built(f"squeeze_{place}.gin")
    assert model.beta == (4 if place == "cifar100" else 6)
    attack = model.attack
    assert attack.eps == pytest.approx(8 / 255) and attack.steps == 10
    assert attack.step_size == pytest.approx((1 if svhn else 2) / 255)
    assert (attack.start, attack.regularizer, attack.batch_norm) == (
        "gaussian",
        "symmetric_kl",
        "batch",
    )
    assert recipe.select == "best" and recipe.validation_attack.steps == 20
    assert augmentation == (data.Augmentation() if svhn else data.Augmentation(pad=4, flip=True))


def test_squeeze_with_more():
    """ST with extra data (RST) and with weight perturbation (AWP), as in its paper."""
    _, recipe, _, model = built("squeeze_rst_cifar10.gin")
    assert (model.attack.eps, model.attack.step_size) == (0.031, 0.007)
    assert model.attack.start == "uniform" and model.outer_order == "rst" and model.beta == 6
    assert (recipe.batch_size, recipe.epochs, recipe.weight_decay) == (256, 200, 5e-4)
    assert model.optimizer.nesterov and recipe.extra.fraction == 0.5
    _, recipe, _, model = built("squeeze_awp_cifar10.gin")
    steps = 45000 // 128
    assert model.settings.weight_perturbation == training.WeightPerturbation(0.005, 9 * steps)
    assert optimisation("squeeze_awp_cifar10") == (0.1, 0.9, 200, 128, 5e-4, True, (99, 149))


def test_what_a_recipe_composes():
    assert built("awp_mnist.gin")[3].settings.weight_perturbation.gamma == 0.005
    assert built("early_stopping_cifar10.gin")[1].select == "best"
    assert built("label_smoothing_mnist.gin")[3].label_smoothing == 0.1
    extra = built("rst_mnist.gin")[1].extra
    assert extra.source is None and extra.teacher == "runs/standard_mnist"
    assert "data.validation_size = 50000" in recipes.load("gin/rst_mnist.gin").text
