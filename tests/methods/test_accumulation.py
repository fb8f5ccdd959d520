"""A batch in parts takes the step of the whole, where its images do not see each other."""

import dataclasses
import warnings

import keras
import numpy as np
import pytest

from robust_tf import attacks, compat, methods, models
from robust_tf.methods import Execution
from robust_tf.training import WeightAverage, WeightPerturbation
from tests.methods.test_every_method import FromAPattern, always_the_same
from tests.tiny import labelled, plain_network, tiny_network, two_replicas, weights_of

# From random starts, in balls where steps are continuous in the gradient: the sign of what is zero
# but for rounding would move a pixel by eps.
PGD = attacks.PGD(1.0, 0.5, 2, norm="L2")
BALLS = [attacks.FGSM(1.0, random_start=True, norm="L2"), attacks.FGSM(0.5, norm="L2")]
DISCRIMINATOR = always_the_same(models.MLPDiscriminator, batch_norm=False)
AWP, AVERAGE = WeightPerturbation(0.05), WeightAverage(0.9)

CASES = {
    # Dropout, random starts, sample weights, weight decay, an average.
    "TRADES": (methods.TRADES, {"attack": PGD}, {"weight_average": AVERAGE}),
    # Both scores of a step are made of parts.
    "AdversarialTraining": (
        methods.AdversarialTraining,
        {"attack": PGD, "clean_weight": 0.5},
        {"weight_perturbation": AWP},
    ),
    # Its scale is the maximum over the batch, and an optimizer of its own follows.
    "ATLD": (
        methods.ATLD,
        {"attack": methods.ManifoldAttack(0.1), "discriminator": DISCRIMINATOR, "kappa": 0.5},
        {},
    ),
    # Its mean is over the images of the batch that have a gradient.
    "GradAlign": (methods.GradAlign, {"attack": attacks.FGSM(1.0, norm="L2"), "weight": 2.0}, {}),
    # What it carries from batch to batch has a row for each image.
    "Free": (methods.Free, {"attack": attacks.FGSM(1.0, norm="L2"), "replays": 2}, {}),
    # Labels are made with the images; the noise of virtual adversarial training is drawn in a term.
    "ADR": (methods.ADR, {"attack": PGD, "local": 0.5, "global_": 0.0, "virtual": 1.0}, {}),
}
SLOW = {
    "Standard": (methods.Standard, {}, {}),
    "ALP": (methods.ALP, {"attack": PGD}, {}),
    "MART": (methods.MART, {"attack": PGD}, {}),
    "LAT": (methods.LAT, {"attack": PGD, "latent_rate": 0.05}, {}),
    "Bilateral": (methods.Bilateral, {"attack": PGD, "gap": 0.1}, {}),
    "UnionTraining": (methods.UnionTraining, {"attacks": BALLS, "choose": "average"}, {}),
    "UnionTraining max": (methods.UnionTraining, {"attacks": BALLS}, {}),
    "SqueezeTraining": (
        methods.SqueezeTraining,
        {"attack": FromAPattern(0.1, 0.05, 2), "beta": 3.0},
        {},
    ),
}
TOGETHER = {
    "ADR": (methods.ADR, {"attack": PGD}, "global compactness has the pairs of each part"),
    "NuAT": (methods.NuAT, {"attack": attacks.NuclearAttack(0.1)}, "nuclear norm"),
    "FeatureScattering": (
        methods.FeatureScattering,
        {"attack": methods.ScatteringAttack(0.1)},
        "each part is scattered",
    ),
    "TLA": (methods.TLA, {"attack": PGD}, "the pool of triplets is each part"),
}


def compiled(method, arguments, network=None, parts=1, **settings):
    model = method(network or tiny_network(dropout=0.3), **arguments)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    execution = Execution(accumulate=parts)
    model.compile(**{"optimizer": optimizer, "seed": 3, "execution": execution, **settings})
    return model


def fit(model, images=11, steps=2):
    """Steps on a batch; the logs."""
    x, y = labelled(images)
    weights = np.linspace(0.5, 1.5, images).astype("float32")
    history = model.fit(
        x, y, batch_size=images, epochs=steps, shuffle=False, verbose=0, sample_weight=weights
    ).history
    return {name: values[-1] for name, values in history.items()}


def same_step(one, other, atol=5e-6, **how):
    logs, others = fit(one, **how), fit(other, **how)
    assert logs.keys() == others.keys()
    for name, value in logs.items():
        np.testing.assert_allclose(others[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    for a, b in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)
    iterations = [compat.raw(model.optimizer.iterations).numpy() for model in (one, other)]
    assert iterations[0] == iterations[1]
    assert int(one.batches) == int(other.batches)


@pytest.mark.parametrize(
    "name", [*CASES, *[pytest.param(name, marks=pytest.mark.slow) for name in SLOW]]
)
def test_the_step_of_the_whole_batch(name):
    """11 images in parts of 3, 3, 3 and 2."""
    method, arguments, composed = {**CASES, **SLOW}[name]
    settings = {"weight_decay": 0.01, **composed}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole, parts = (compiled(method, arguments, parts=k, **settings) for k in (1, 4))
    same_step(whole, parts)


def test_every_method_is_exact_or_says_what_is_not():
    there = {value for value in vars(methods).values() if isinstance(value, type)}
    ours = {one for one in there if issubclass(one, methods.RobustModel)} - {methods.RobustModel}
    assert ours == {case[0] for cases in (CASES, SLOW, TOGETHER) for case in cases.values()}


@pytest.mark.parametrize("name", TOGETHER)
def test_what_goes_by_the_parts_is_said(name):
    method, arguments, clause = TOGETHER[name]
    with pytest.warns(UserWarning, match=f"^accumulate=2: a step is not quite .*{clause}"):
        compiled(method, arguments, parts=2)


def test_two_replicas_in_parts_of_their_shares():
    """6 and 5 images, of which the parts have 3, 3 and 3, 2; one part, and none."""
    case = (methods.AdversarialTraining, {"attack": attacks.BIM(1.0, 0.5, 2, norm="L2")})
    settings = {"weight_decay": 0.01, "network": tiny_network()}
    whole = compiled(*case, **settings)
    with two_replicas().scope():
        parts = compiled(*case, parts=2, **{**settings, "network": tiny_network()})
    same_step(whole, parts, atol=2e-5)
    same_step(whole, parts, atol=2e-5, images=1, steps=1)


def test_scaled_losses_on_a_network_of_keras():
    """In mixed_float16, with dropout and batch normalization of Keras' own, which is frozen."""
    keras.mixed_precision.set_global_policy("mixed_float16")

    def network():
        made = plain_network(dropout=0.3)
        made.get_layer("bn").trainable = False
        return made

    case = (methods.AdversarialTraining, {"attack": PGD})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that statistics would be of each part
        whole, parts = (compiled(*case, network=network(), parts=k) for k in (1, 3))
    same_step(whole, parts, atol=2e-3)


def test_statistics_are_of_each_part():
    network = tiny_network(batch_norm=True)
    with pytest.warns(UserWarning, match="batch statistics are of each part"):
        model = compiled(methods.Standard, {}, network, parts=2)
    x, _ = labelled(12)
    fit(model, 12, 1)
    first = tiny_network(batch_norm=True).generator.get_layer("conv")
    z = np.asarray(first(x), "float64")
    mean = np.zeros(4)
    for half in (z[:6], z[6:]):
        mean = 0.9 * mean + 0.1 * half.mean((0, 1, 2))
    got = network.generator.get_layer("bn").moving_mean
    np.testing.assert_allclose(got, mean, rtol=1e-4, atol=1e-6)


def test_anchors_of_tla_are_refused():
    with pytest.raises(ValueError, match=r"^accumulate=2: TLA\(anchors=0.5\) attacks the first"):
        compiled(methods.TLA, {"attack": PGD, "anchors": 0.5}, parts=2)


def test_a_saved_method_goes_on_in_parts(tmp_path):
    model = compiled(methods.Standard, {}, parts=3)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.settings.execution == Execution(accumulate=3)
    with pytest.raises(ValueError, match=r"Execution\(accumulate=0\): must be"):
        dataclasses.replace(again.settings.execution, accumulate=0)
    with pytest.raises(ValueError, match=r"Execution\(remat='no'\): must be True or False"):
        Execution(remat="no")
    with pytest.raises(ValueError, match=r"compile\(execution=2\): must be an Execution"):
        model.compile("sgd", execution=2)
