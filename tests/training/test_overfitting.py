"""When accuracies under the training attack and under PGD tell catastrophic overfitting."""

import math

import numpy as np
import pytest

from robust_tf.training.overfitting import (
    CONFIRMED,
    DIVERGENCE,
    OVERFITTING,
    Gap,
    History,
    judge,
)

# Accuracies in percent under FGSM and PGD-10 of 1,000 held-out images, by epoch, on CIFAR-10:
# FastAT_Benchmark, log/cifar10/METHOD/*seed-0/output.log, the network without averaging.
FGSM_AT = [
    (21.2, 20.2), (25.9, 24.7), (27.7, 27.3), (27.9, 27.5), (30.8, 30.0), (31.7, 31.3),
    (34.5, 34.0), (35.6, 35.0), (33.8, 33.1), (39.0, 37.9), (39.4, 37.8), (42.1, 41.1),
    (41.9, 39.9), (39.3, 37.7), (38.1, 35.5), (41.8, 39.7), (42.7, 39.7), (44.1, 41.8),
    (41.9, 37.8), (46.6, 44.2), (45.3, 42.7), (43.0, 39.8), (47.3, 43.6), (46.6, 43.5),
    (48.7, 46.2), (49.1, 45.4), (58.2, 0.6), (82.5, 0.8), (64.0, 0.8), (94.9, 3.7), (77.3, 3.5),
]  # fmt: skip
FGSM_RS = [
    (20.5, 20.1), (26.0, 25.6), (28.9, 28.7), (26.9, 26.7), (31.6, 30.9), (32.1, 31.9),
    (36.0, 35.5), (35.7, 34.5), (35.0, 33.4), (37.8, 36.0), (40.0, 37.9), (42.1, 40.4),
    (41.8, 39.5), (42.3, 39.9), (41.2, 39.2), (43.3, 40.2), (43.4, 39.7), (45.2, 41.5),
    (41.3, 36.8), (46.6, 42.2),  # ... and from epoch 66 on
    (51.5, 44.1), (51.7, 45.4), (51.6, 44.5), (50.2, 43.4), (53.4, 45.4), (54.9, 45.7),
    (46.3, 8.1), (75.7, 9.6), (78.1, 3.5), (86.2, 5.8), (88.6, 7.7), (90.5, 2.1),
]  # fmt: skip


def verdicts(pairs, images=1000, rising=False):
    """Of each check, of accuracies in percent."""
    history, found = History(), []
    for training, pgd in pairs:
        verdict, history = judge(history, Gap(training / 100, pgd / 100, images), rising)
        found.append(verdict)
    return found


@pytest.mark.parametrize("images", [100, 128, 1000])
@pytest.mark.parametrize("log, healthy", [(FGSM_AT, 26), (FGSM_RS, 26)])
def test_published_logs_are_told_in_their_epoch(log, healthy, images):
    """In none before; and in each after it, as nothing recovers."""
    expected = [""] * healthy + [OVERFITTING] * (len(log) - healthy)
    assert verdicts(log, images) == expected


@pytest.mark.parametrize("images", [64, 128, 256])
def test_chance_alone_finds_nothing_in_healthy_runs(images):
    """Fresh images at each check, which is noisier than the same ones; 500 runs of 100 checks."""
    rng = np.random.default_rng(0)
    epochs = np.arange(1, 101)
    for top in (0.25, 0.5, 0.95):  # of CIFAR-100, CIFAR-10, MNIST
        pgd = top * (1 - np.exp(-epochs / 10))
        training = np.minimum(pgd / 0.83, 1)
        for _ in range(500 // 3):
            counts = [rng.binomial(images, share) / images for share in (training, pgd)]
            assert set(verdicts(100 * np.array(counts).T, images)) == {""}


def test_divergence_is_told_apart():
    """Both accuracies fall to chance, as of NuAT on Tiny-ImageNet, where they fell to 0.1 %."""
    healthy = [(30, 25), (35, 30)]
    assert verdicts([*healthy, (0.1, 0.1)]) == ["", "", DIVERGENCE]
    assert verdicts([*healthy, (10, 9)]) == ["", "", DIVERGENCE]
    # All of one class: nothing can be attacked, and chance is no fall where it is half of the best.
    assert verdicts([(18, 16), (10, 10)]) == ["", ""]


def test_a_training_that_never_was_robust_is_told_after_some_checks():
    never = [(60, 2), (70, 1), (80, 0), (90, 0)]
    assert verdicts(never) == [""] * (CONFIRMED - 1) + [OVERFITTING] * 2
    # At the beginning accuracies are low, and so is the share that withstands PGD.
    assert verdicts([(30, 2), (35, 3), (40, 8), (45, 10), (48, 15)]) == [""] * 5
    # One check in order starts the count anew.
    assert verdicts([(60, 2), (70, 1), (80, 60), (80, 30)]) == [""] * 4


def test_where_eps_grows_accuracies_fall_without_a_verdict():
    growing = [(90, 88), (60, 50), (40, 33), (30, 24)]
    assert verdicts(growing, rising=True) == [""] * 4
    assert verdicts([*growing, (50, 2)], rising=True)[-1] == OVERFITTING
    assert verdicts([(90, 88), (30, 24)]) == ["", DIVERGENCE]


@pytest.mark.parametrize("images", [60, 128, 1000])
def test_below_half_is_by_three_standard_deviations(images):
    """The bound that the documentation states, from the binomial variance written out."""
    training, best = 0.9, 0.8
    history = History(training, best)

    def bound(low):
        return 3 * math.sqrt((low * (1 - low) + best * (1 - best) / 4) / images)

    grid = np.linspace(0, 0.4, 401)
    limit = max(low for low in grid if best / 2 - low > bound(low))
    assert judge(history, Gap(training, limit, images))[0] == OVERFITTING
    assert judge(history, Gap(training, limit + 2e-3, images))[0] == ""


def test_what_is_found_is_no_best():
    history = History(0.5, 0.45)
    _, after = judge(history, Gap(0.95, 0.02, 1000))
    assert after == History(0.5, 0.45, 1)
