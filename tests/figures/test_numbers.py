"""The arrays and numbers of the figures, against NumPy by hand."""

import json

import numpy as np
import pytest

from robust_tf.evaluation import Evaluation, Outcome, loss_profile
from robust_tf.figures import bars, curves, grids, latent, loss_surface, plane, profile, training
from robust_tf.figures.forward import cross_entropy, entropy, logits_at, outputs_at, softmax
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
        rough = loss_surface.roughness(np.stack([tilted, bowl, flat]), in_ball)
        np.testing.assert_allclose(rough.bend, [0, 0.5, 0], atol=1e-12)
        np.testing.assert_allclose(rough.relative, [0, 0.5 / 8, 0], atol=1e-12)
    np.testing.assert_allclose(rough.height, [2 * 12, 8, 0])
    assert loss_surface.ball(5).sum() == 13
    outside = flat.copy()
    outside[0, 0] = 7
    assert loss_surface.roughness(outside[None], True).bend == 0
    assert loss_surface.roughness(outside[None]).bend > 0
    with pytest.raises(ValueError, match="k >= 5"):
        loss_surface.roughness(np.zeros((2, 3, 3)), True)


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


def test_auroc_of_known_scores(near):
    assert latent.auroc(np.array([3, 4]), np.array([1, 2])) == 1
    assert latent.auroc(np.array([1.0, 3.0]), np.array([2.0, 2.0])) == 0.5
    assert latent.auroc(np.array([2.0]), np.array([1, 2, 2, 3])) == 0.5
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 40), rng.integers(2, 11, 30)
    truth = roc_auc_score(np.r_[np.zeros(40), np.ones(30)], np.r_[a, b])
    assert latent.auroc(b, a) == near(truth)
    assert np.isnan(latent.auroc(a[:0], b))


def test_latent_numbers_of_known_clusters(near):
    """Two clean classes far apart, adversarial ones on them but for three that lie elsewhere."""
    rng = np.random.default_rng(0)
    y = np.arange(20) % 2
    clean = np.c_[10.0 * y, np.zeros(20)] + 0.1 * rng.normal(size=(20, 2))
    moved = clean.copy()
    moved[:3] = [[5, 50], [5.1, 50], [5, 50.1]]
    fooling = np.arange(40) // 20 * (np.arange(40) % 20 < 3) == 1
    scores = np.where(fooling, 1.0, 0.1)
    one = latent.Latent(
        np.r_[clean, moved], np.tile(y, 2), np.tile(y, 2), scores, np.arange(40) >= 20, fooling
    )
    numbers = latent.measure_latent(one, neighbours=2)
    from sklearn.metrics import silhouette_score

    assert numbers.class_silhouette == near(silhouette_score(clean, y))
    assert numbers.fooling_silhouette == near(silhouette_score(one.features, fooling))
    assert numbers.class_silhouette > 0.9 and numbers.fooling_silhouette > 0.5
    assert numbers.fooling_purity == numbers.density_auroc == numbers.entropy_auroc == 1
    assert numbers.entropy_auroc_all == near((3 + 17 / 2) / 20)
    assert (numbers.examples, numbers.fooling, numbers.adversarial_share) == (20, 3, 0.5)
    none = one._replace(fooling=np.zeros(40, bool))
    assert np.isnan(latent.measure_latent(none).density_auroc)


def test_latent_of_a_network(small):
    found = small.latent
    logits, features = outputs_at(small.network, small.x_adv)
    np.testing.assert_allclose(found.features[24:], features, atol=1e-5)
    np.testing.assert_allclose(found.entropy[24:], entropy(logits), atol=1e-5)
    assert found.adversarial.sum() == 24 and found.fooling[:24].sum() == 0
    np.testing.assert_array_equal(found.fooling[24:], logits.argmax(1) != small.y)
    embedded = latent.embed(found.features)
    assert embedded.shape == (48, 2) and np.isfinite(embedded).all()
    with pytest.raises(ValueError, match="too few"):
        latent.embed(found.features[:4])
    with pytest.raises(ValueError, match="one shape"):
        latent.compute_latent(small.network, small.x, small.y, small.x_adv[:3])


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
    found = training.read_metrics(tmp_path)
    np.testing.assert_array_equal(found["loss"], [2, 1])
    np.testing.assert_array_equal(found["val_natural_accuracy"], [np.nan, 0.5])
    assert training.terms_of(found) == ["loss"]
    for content, message in (
        ("", "no finished epoch"),
        ("[]\n{}\n", "line 1"),
        ("x\n{}", "line 1"),
    ):
        (tmp_path / "metrics.jsonl").write_text(content)
        with pytest.raises(ValueError, match=message):
            training.read_metrics(tmp_path)


def test_grid_of_a_network(small):
    found = grids.compute_grid(small.network, small.x, small.y, small.x_adv)
    sure = softmax(logits_at(small.network, small.x_adv))
    np.testing.assert_array_equal(found.predictions, sure.argmax(1))
    np.testing.assert_allclose(found.confidence, sure.max(1), rtol=1e-5)
    with pytest.raises(ValueError, match="for points draw `plane`"):
        grids.compute_grid(small.network, np.zeros((3, 2)), np.zeros(3, int), np.zeros((3, 2)))
