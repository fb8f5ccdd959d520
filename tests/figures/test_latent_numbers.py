"""The numbers of features and entropies, against NumPy by hand."""

import numpy as np
import pytest

from robust_tf.figures import latent
from robust_tf.figures.forward import entropy, outputs_at


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
    assert numbers.fooling_neighbours == numbers.density_auroc == numbers.entropy_auroc == 1
    assert numbers.adversarial_neighbours == 1 and numbers.fooling_chance == near(2 / 38)
    assert numbers.entropy_auroc_all == near((3 + 17 / 2) / 20)
    assert (numbers.examples, numbers.fooling) == (20, 3)
    none = one._replace(fooling=np.zeros(40, bool))
    assert np.isnan(latent.measure_latent(none).density_auroc)


def test_neighbours_leave_out_the_image_that_an_example_was_made_from():
    """Adversarial features that equal the clean ones say nothing: every number is that of chance.

    The parent counted as a neighbour would make them denser than clean ones, and less adversarial.
    """
    z = np.random.default_rng(0).normal(size=(200, 3))
    adversarial = np.arange(400) >= 200
    one = latent.Latent(
        np.r_[z, z], np.arange(400) % 2, np.arange(400) % 2, np.zeros(400), adversarial, adversarial
    )
    numbers = latent.measure_latent(one)
    assert numbers.density_auroc == numbers.entropy_auroc == 0.5
    assert numbers.adversarial_neighbours == numbers.fooling_neighbours
    assert numbers.adversarial_neighbours == pytest.approx(0.5, abs=0.02)
    assert numbers.fooling_chance == 0.5
    distances, rows = latent._nearest(z, z[:4], np.arange(4)[:, None], 3)
    full = np.linalg.norm(z[:4, None] - z, axis=-1)
    full[np.arange(4), np.arange(4)] = np.inf
    np.testing.assert_array_equal(rows, np.argsort(full, 1)[:, :3])
    np.testing.assert_allclose(distances, np.sort(full, 1)[:, :3])


def test_interval_of_an_auroc():
    """Hanley & McNeil (1982): of 58 against 51 an area of 0.893 has an error of about 0.032."""
    assert latent.auroc_error(0.893, 51, 58) / 1.96 == pytest.approx(0.032, abs=1e-3)
    assert latent.auroc_error(0.7, 40, 1000) == pytest.approx(0.09, abs=0.01)
    assert np.isnan(latent.auroc_error(0.7, 0, 5))


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
