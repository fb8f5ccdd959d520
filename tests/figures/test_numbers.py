"""The arrays and numbers of the figures, against NumPy by hand."""

import json

import numpy as np
import pytest

from robust_tf import compat
from robust_tf.attacks import FGSM, PGD
from robust_tf.evaluation import Evaluation, Outcome, loss_profile
from robust_tf.figures import bars, curves, grids, loss_surface, plane, profile, roughness, training
from robust_tf.figures.forward import (
    adversarial_at,
    cross_entropy,
    entropy,
    logits_at,
    outputs_at,
    softmax,
)
from robust_tf.runs import Run
from tests.tiny import Smooth, images


def test_wilson_interval_of_8_in_10():
    low, high = bars.wilson(8, 10)  # Newcombe (1998) and any table of it
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    low, high = bars.wilson(np.array([0, 5]), 5)
    assert low[0] == 0 and high[1] == 1 and low[1] == pytest.approx(1 - high[0])
    for count, total in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="successes <= trials"):
            bars.wilson(count, total)


def verdicts(count: int, total: int = 20) -> np.ndarray:
    return np.arange(total) < count


@pytest.fixture
def evaluation() -> Evaluation:
    """18 of 20 right, 15 at eps 0.1, of them 9 at eps 0.2; one attack in L2, one without eps."""
    outcomes = {"a": 15, "b": 16, "c": 9, "other norm": 3, "no eps": 1}
    balls = {
        "a": ["Linf", 0.1], "b": ["Linf", 0.1], "c": ["Linf", 0.2],
        "other norm": ["L2", 1.0], "no eps": ["Linf", None],
    }  # fmt: skip
    return Evaluation(
        verdicts(18), {name: Outcome(verdicts(n)) for name, n in outcomes.items()}, {"balls": balls}
    )


def test_curve_of_an_evaluation(evaluation):
    curve = curves.eps_curve(evaluation)
    np.testing.assert_allclose(curve.x, [0, 0.1, 0.2])
    np.testing.assert_allclose(curve.accuracy, [0.9, 0.75, 0.45])
    assert curve.low[1] == pytest.approx(float(bars.wilson(15, 20)[0]))
    np.testing.assert_allclose(curves.eps_curve(evaluation, "L2").accuracy, [0.9, 0.15])
    with pytest.raises(ValueError, match=r"no attack in L1, only in \['L2', 'Linf'\]"):
        curves.eps_curve(evaluation, "L1")


def test_bars_of_an_evaluation(evaluation):
    made = bars.bars_of(evaluation)
    assert list(made) == ["natural", "a", "b", "c", "other norm", "no eps", "worst case"]
    assert made["c"].accuracy == 0.45 and made["worst case"].accuracy == 0.05
    assert made["c"].low < 0.45 < made["c"].high and made["c"].examples == 20


def test_bars_of_several_evaluations(evaluation):
    """Attacks of one name and another step size are two measures; the worst cases are not one."""

    def of(attack, right, examples=20):
        outcomes = {name: Outcome(verdicts(right, examples)) for name in attack}
        configs = {name: compat.serialize(one) for name, one in attack.items()}
        return Evaluation(verdicts(examples, examples), outcomes, {"attacks": configs})

    short, long = {"PGD": PGD(0.3, 0.01, 40)}, {"PGD": PGD(0.3, 0.1, 40)}
    made = bars.merged_bars({"A": [of(short, 9)], "B": [of(long, 5), of(short, 4, 10)]})
    assert list(made["A"]) == ["natural", "PGD step_size=0.01"]
    assert list(made["B"]) == ["natural", "PGD step_size=0.1", "PGD step_size=0.01"]
    assert made["B"]["natural"].examples == 20 and made["B"]["PGD step_size=0.01"].examples == 10
    made = bars.merged_bars({"A": [of(short, 9), of(short, 4, 10)]})
    assert list(made["A"]) == ["natural", "PGD"] and made["A"]["PGD"].accuracy == 0.45
    made = bars.merged_bars({"A": [of({**short, "FGSM": FGSM(0.3)}, 9)], "B": [of(short, 4)]})
    assert all("worst case" not in own for own in made.values())
    assert "worst case" in bars.merged_bars({"A": [evaluation], "B": [evaluation]})["B"]


def test_curves_of_attacks_begin_natural_and_fall(small):
    curve = curves.accuracy_against_eps(small.network, small.x, small.y, [0, 0.05, 0.3], steps=5)
    right = (logits_at(small.network, small.x).argmax(1) == small.y).mean()
    assert curve.accuracy[0] == right == 1
    assert (np.diff(curve.accuracy) <= 0).all() and curve.accuracy[-1] <= 0.5
    curve = curves.accuracy_against_steps(small.network, small.x, small.y, 0.3, [0, 1, 10])
    np.testing.assert_array_equal(curve.x, [0, 1, 10])
    assert curve.accuracy[0] == 1 and curve.accuracy[2] <= 0.5


def test_losses_and_entropies_by_hand():
    logits = np.log([[0.5, 0.25, 0.25], [1.0, 1e-30, 1e-30]])
    np.testing.assert_allclose(softmax(logits)[0], [0.5, 0.25, 0.25])
    np.testing.assert_allclose(entropy(logits), [1.5 * np.log(2), 0], atol=1e-6)
    np.testing.assert_allclose(cross_entropy(logits, np.array([1, 0])), [np.log(4), 0], atol=1e-6)


@pytest.mark.parametrize("margin", [0.0, 12.0, 15.0, 40.0, 200.0])
def test_small_losses_are_exact(margin):
    """Of a confident model float32 would round them to multiples of 1e-7, or to 0."""
    logits = np.array([[0, margin], [20, 20 + margin]], np.float32)
    expected = np.log1p(np.exp(-margin))
    np.testing.assert_allclose(cross_entropy(logits, np.array([1, 1])), expected, rtol=1e-9)
    np.testing.assert_allclose(cross_entropy(logits, np.array([0, 0])), margin + expected)


@pytest.mark.parametrize("margin", [5.0, 12.0, 15.0])
def test_roughness_of_a_confident_model_is_not_rounding(margin):
    """Logits linear on the plane: `relative` is that of exp(-tilt), whatever the margin."""
    s = np.linspace(-1, 1, 17)
    right = (20 + margin + s[:, None] + 0 * s[None]).astype(np.float32)
    logits = np.stack([np.full_like(right, 20), right], -1)
    rough = roughness.roughness(cross_entropy(logits, np.ones((17, 17), int))[None])
    exact = np.exp(-s)
    expected = np.abs(np.diff(exact, 2)).mean() / 2 / np.ptp(exact)
    assert rough.relative[0] == pytest.approx(expected, rel=0.02)
    steady = cross_entropy(np.full((1, 9, 9, 2), margin) * [0, 1], np.ones((1, 9, 9), int))
    noise = 1 + 1e-6 * np.random.default_rng(0).uniform(-1, 1, steady.shape)
    assert roughness.roughness(steady * noise).relative == 0


def only_the_middle_is_wrong(x):
    """Logits of class 0 where all pixels are 0.5, else of class 1; no gradient."""
    import tensorflow as tf

    moved = tf.cast(tf.reduce_any(x != 0.5, axis=[1, 2, 3]), tf.float32)
    return 9 * tf.stack([1 - moved, moved], 1)


def test_what_a_random_start_corrects_is_not_robust():
    x, y = np.full((5, 4, 4, 1), 0.5, np.float32), np.array([1, 1, 1, 0, 0])
    curve = curves.accuracy_against_eps(only_the_middle_is_wrong, x, y, [0, 0.1], steps=1)
    np.testing.assert_array_equal(curve.accuracy, [0.4, 0])


def test_adversarial_images_do_not_depend_on_the_batch():
    x, y = np.full((5, 4, 4, 1), 0.5, np.float32), np.zeros(5, int)
    made = [adversarial_at(only_the_middle_is_wrong, x, y, 0.1, batch_size=n) for n in (2, 5)]
    np.testing.assert_array_equal(*made)
    assert len(np.unique(made[0][:, 0, 0, 0])) == 5
    again = adversarial_at(only_the_middle_is_wrong, x, y, 0.1, seed=1)
    assert (again != made[0]).any()


def test_batches_do_not_change_what_a_model_says(small):
    whole, features = outputs_at(small.network, small.x)
    parts, _ = outputs_at(small.network, small.x, batch_size=7)
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-5)
    assert whole.shape == (24, 3) and len(features) == 24 and features.ndim == 2
    with pytest.raises(TypeError, match="Smooth has no features"):
        outputs_at(Smooth(), images())


def test_roughness_of_planes_and_quadratics():
    s = np.arange(-4.0, 5.0)
    tilted = 2 * s[:, None] - 3 * s[None] + 1
    bowl = 0.5 * s[None] ** 2 + 0 * s[:, None]
    flat = np.zeros((9, 9))
    for in_ball in (False, True):
        rough = roughness.roughness(np.stack([tilted, bowl, flat]), in_ball)
        np.testing.assert_allclose(rough.bend, [0, 0.5, 0], atol=1e-12)
        np.testing.assert_allclose(rough.relative, [0, 0.5 / 8, 0], atol=1e-12)
    np.testing.assert_allclose(rough.height, [2 * 12, 8, 0])
    assert roughness.ball(5).sum() == 13
    outside = flat.copy()
    outside[0, 0] = 7
    assert roughness.roughness(outside[None], True).bend == 0
    assert roughness.roughness(outside[None]).bend > 0
    with pytest.raises(ValueError, match="k >= 5"):
        roughness.roughness(np.zeros((2, 3, 3)), True)


@pytest.mark.parametrize("zeros", [0, 5])
def test_random_direction_is_orthogonal(rng, zeros):
    sign = rng.choice([-1.0, 1.0], (8, 8, 1))
    sign.ravel()[:zeros] = 0
    random = loss_surface.orthogonal_signs(sign, rng)
    assert set(np.unique(random)) == {-1, 1} and abs((random * sign).sum()) == zeros % 2


def test_surface_by_hand(small):
    """The middle is the image; along the gradient's sign the loss is that of the moved image."""
    x, y = small.x[:3], small.y[:3]
    found = loss_surface.compute_surfaces(small.network, x, y, 0.1, 5, clip=False)
    logits = logits_at(small.network, x)
    np.testing.assert_allclose(found.losses[:, 2, 2], cross_entropy(logits, y), atol=1e-5)
    np.testing.assert_array_equal(found.classes[:, 2, 2], logits.argmax(1))
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(images := tf.constant(x))
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, small.network(images))
    moved = x + 0.1 * np.sign(tape.gradient(loss, images).numpy())
    expected = cross_entropy(logits_at(small.network, moved), y)
    np.testing.assert_allclose(found.losses[:, 2, 4], expected, atol=1e-4)
    assert (found.losses[:, 2, 4] > found.losses[:, 2, 2]).all()


def test_surface_of_features(small):
    found = loss_surface.compute_surfaces(
        small.network, small.x[:2], small.y[:2], 0.5, 5, "features"
    )
    expected = cross_entropy(logits_at(small.network, small.x[:2]), small.y[:2])
    np.testing.assert_allclose(found.losses[:, 2, 2], expected, atol=1e-5)
    with pytest.raises(TypeError, match="no features"):
        loss_surface.compute_surfaces(Smooth(), images(), np.zeros(6, int), 0.1, 5, "features")


def test_plane_of_a_known_model():
    found = plane.compute_plane(lambda x: 9 * (x - 0.5), (0, 1, 0, 2), 5)
    expected = (found.y[:, None] > found.x[None]).astype(int)
    np.testing.assert_array_equal(found.classes, expected)
    np.testing.assert_allclose(found.probabilities.sum(-1), 1, rtol=1e-6)
    box = plane.box_of(np.array([[0.1, 0.5], [0.4, 0.2]]), 0.1)
    assert box == pytest.approx((0.0, 0.5, 0.1, 0.6))
    with pytest.raises(ValueError, match=r"needs points \(n, 2\).*`surface`"):
        plane.box_of(np.zeros((2, 8, 8, 1)))


def test_profile_goes_through_the_clean_loss(small):
    found = loss_profile(small.network, small.x, small.y, 0.2, 0.05, 4)
    steps, values = profile.path_of(found)
    np.testing.assert_array_equal(steps, np.arange(-4, 5))
    clean = cross_entropy(logits_at(small.network, small.x), small.y).mean()
    assert values[4] == pytest.approx(clean, rel=1e-3) and values[0] < values[4] < values[-1]
    np.testing.assert_allclose(values[:4][::-1], found.collaborative[1:].mean(1))


def test_metrics_of_a_run(tmp_path):
    rows = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "val_natural_accuracy": 0.5}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_text(text + '{"epoch": 3, "lo')
    found = training.columns_of(Run(tmp_path))
    np.testing.assert_array_equal(found["loss"], [2, 1])
    np.testing.assert_array_equal(found["val_natural_accuracy"], [np.nan, 0.5])
    assert training.terms_of(found) == ["loss"]
    for content, message in (
        ("", "no epoch has ended"),
        ("[]\n{}\n", "in line 1, 2: 0 epochs"),
        ("x\n{}", "in line 1, 2: 0 epochs"),
    ):
        (tmp_path / "metrics.jsonl").write_text(content)
        with pytest.raises(ValueError, match=message):
            training.columns_of(Run(tmp_path))


def test_grid_of_a_network(small):
    found = grids.compute_grid(small.network, small.x, small.y, small.x_adv)
    sure = softmax(logits_at(small.network, small.x_adv))
    np.testing.assert_array_equal(found.predictions, sure.argmax(1))
    np.testing.assert_allclose(found.confidence, sure.max(1), rtol=1e-5)
    with pytest.raises(ValueError, match="for points draw `plane`"):
        grids.compute_grid(small.network, np.zeros((3, 2)), np.zeros(3, int), np.zeros((3, 2)))
