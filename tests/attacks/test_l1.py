"""L1: the ball cut to the box against programs of SciPy, and attacks where the answer is known."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize

from robust_tf import attacks
from robust_tf.attacks import l1_ball
from robust_tf.attacks.fab_projections import project_l1
from robust_tf.attacks.randomness import as_seed
from robust_tf.evaluation import battery
from tests.attacks import reference_l1 as reference
from tests.attacks.test_apgd import OBJECTIVES, Recorder, looked_at


def cases(count, size, seed=0):
    """Points with values at the border of the box, and steps that lead out of it."""
    rng = np.random.default_rng(seed)
    x = np.clip(rng.uniform(-0.3, 1.3, (count, size)), 0, 1)
    return x.astype("float32"), rng.normal(0, 0.6, (count, size)).astype("float32")


def quadratic_program(x, step, eps):
    """The nearest step by SLSQP, as the difference of two steps >= 0."""
    n = len(x)
    both = np.concatenate([np.eye(n), -np.eye(n)], axis=1)
    limits = [
        {
            "type": "ineq",
            "fun": lambda uv: eps - uv.sum(),
            "jac": lambda uv: -np.ones(2 * n),
        }
    ]
    found = optimize.minimize(
        lambda uv: ((both @ uv - step) ** 2).sum(),
        np.zeros(2 * n),
        jac=lambda uv: 2 * both.T @ (both @ uv - step),
        bounds=[(0, 1 - v) for v in x] + [(0, v) for v in x],
        constraints=limits,
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 200},
    )
    return both @ found.x


def test_projection_against_a_quadratic_program():
    """1,000 cases of five values; what the box and the ball cut off, both, one or none."""
    (x, step), eps = cases(1000, 5), 0.8
    found = l1_ball.project(tf.constant(step), tf.constant(x), tf.constant(eps)).numpy()
    expected = np.array(
        [quadratic_program(*pair, eps) for pair in zip(x.astype("f8"), step, strict=True)]
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    full = np.abs(expected).sum(1) > eps - 1e-6
    assert 200 < full.sum() < 900, full.sum()


def test_projection_of_large_images():
    for size, eps in ((784, 10.0), (3072, 12.0), (3072, 400.0)):
        x, step = cases(4, size, seed=size)
        moved = attacks.L1(eps).project(tf.constant(x + step), attacks.L1(eps).bounds(x)).numpy()
        wide = x.astype("float64")
        expected = [
            c + reference.in_ball(np.float64(s), c, eps)
            for c, s in zip(wide, (x + step) - x, strict=True)
        ]
        np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-4 * eps / size + 2e-5)
        assert (np.abs(moved - wide).sum(1) <= eps).all()
        assert (moved >= 0).all() and (moved <= 1).all()


def test_projection_is_not_that_to_one_after_the_other():
    x, step = tf.constant([[0.9, 0.5, 0.5]]), tf.constant([[0.8, 0.4, 0.3]])
    found = l1_ball.project(step, x, tf.constant(0.7))
    np.testing.assert_allclose(found, [[0.1, 0.35, 0.25]], atol=1e-6)


def test_steepest_step_and_projection_to_a_hyperplane_against_linear_programs():
    x, gradient = cases(20, 6, seed=1)
    steps = l1_ball.steepest_step(tf.constant(x), tf.constant(gradient), tf.constant(1.3)).numpy()
    gaps = np.linspace(0.05, 1, 20).astype("float32")
    moves = project_l1(tf.constant(x), tf.constant(gradient), tf.constant(gaps)).numpy()
    ones = np.ones((1, 12))
    for c, g, step, gap, move in zip(x, gradient, steps, gaps, moves, strict=True):
        slopes, bounds = np.concatenate([g, -g]), [(0, 1 - v) for v in c] + [(0, v) for v in c]
        most = optimize.linprog(-slopes, A_ub=ones, b_ub=[1.3], bounds=bounds)
        assert np.abs(step).sum() <= 1.3 + 1e-5
        np.testing.assert_allclose(step @ g, -most.fun, rtol=1e-5)
        least = optimize.linprog(ones[0], A_ub=slopes[None], b_ub=[-gap], bounds=bounds)
        if least.status == 0:
            np.testing.assert_allclose(np.abs(move).sum(), least.fun, rtol=1e-4)
            np.testing.assert_allclose(move @ g, -gap, rtol=1e-4)


def test_steepest_without_a_box_is_one_pixel():
    found = attacks.L1(1.0).steepest(tf.constant([[[0.5], [-2.0]], [[0.0], [0.0]]]))
    np.testing.assert_array_equal(found, [[[0.0], [-1.0]], [[0.0], [0.0]]])


def test_uniform_draws():
    """A norm is below r with probability r^n; a value has the mean size 1 / (n + 1)."""
    draws = attacks.L1(1.0).random(tf.zeros([20_000, 3, 1]), as_seed(0)).numpy()
    norms = np.abs(draws).sum((1, 2))
    assert norms.max() <= 1
    for r in (0.5, 0.8, 0.9):
        np.testing.assert_allclose(np.mean(norms < r), r**3, atol=0.012)
    np.testing.assert_allclose(np.abs(draws).mean((0, 2)), 0.25, atol=0.006)
    np.testing.assert_allclose(np.mean(draws > 0), 0.5, atol=0.01)


class Linear:
    """Three classes, images far from the border of the box: distance margin / ||w_y - w_j||_inf."""

    def __init__(self):
        rng = np.random.default_rng(4)
        self.weights = rng.normal(size=(64, 3)).astype("float32")
        self.x = rng.uniform(0.45, 0.55, (8, 8, 8, 1)).astype("float32")
        logits = self(self.x).numpy()
        self.y = logits.argmax(1).astype("int32")
        own = self.weights[:, self.y].T
        with np.errstate(divide="ignore", invalid="ignore"):
            self.distance = np.nanmin(
                [
                    (logits[range(8), self.y] - logits[:, j]) / np.abs(own - w).max(1)
                    for j, w in enumerate(self.weights.T)
                ],
                axis=0,
            )
        self.x, self.y, self.distance = (
            part[self.distance < 0.4] for part in (self.x, self.y, self.distance)
        )

    def __call__(self, x):
        return tf.reshape(x - 0.5, [-1, 64]) @ self.weights


def test_distances_on_a_linear_model_are_margins_over_the_dual_norm():
    model = Linear()
    assert len(model.x) > 2
    for targeted in (True, False):
        fab = attacks.FAB(1.0, steps=10, norm="L1", targeted=targeted, eta=1.001)
        found = fab.minimal_distance(model, model.x, model.y)
        np.testing.assert_allclose(found.distance, model.distance, rtol=5e-3)
    # Two pixels share what one alone would use better: the program's steps move both alike.
    attack = attacks.APGDTargeted(1.0, 30, 2, norm="L1")
    for n, distance in enumerate(model.distance):
        one = model.x[n : n + 1], model.y[n : n + 1]
        for factor, breaks in ((0.99, False), (1.25, True)):
            x_adv = attack(model, *one, eps=float(factor * distance))
            broken = model(x_adv).numpy().argmax(1) != one[1]
            assert broken.all() == breaks, (n, factor)


def test_trajectory_of_apgd():
    model, steps, eps = Recorder(), 20, 0.4
    images, _ = looked_at(attacks.APGD(eps, steps, "ce", "L1"), model)
    assert len(images) == steps + 3  # nobody is broken
    clear = 0
    for n, y in enumerate(model.y):
        along = model.numpy.along(OBJECTIVES["ce"](y))
        expected = reference.autopgd(images[0, n], model.x[n], along, eps, steps)
        same = slice(min(expected.clear, len(images)))
        np.testing.assert_allclose(images[same, n], expected.images[same], rtol=0, atol=2e-5)
        clear += expected.clear > 14
    assert clear >= 4, clear


@pytest.mark.parametrize("objective", ["ce", "kl"])
def test_training_attack_returns_the_best_of_its_images(objective):
    model = Recorder()
    kl = {"objective": attacks.KLDivergence(), "start": attacks.GaussianStart()}
    attack = attacks.TrainingAPGD(1.0, 5, **(kl if objective == "kl" else {}))
    assert attack.takes_soft_labels and attack.norm == "L1"
    model.seen.clear()
    x_adv = attack(model, model.x, model.y).numpy()
    seen = model.seen[2 if objective == "kl" else 1 :]
    assert len(seen) == 6

    def value(x):
        log_p, log_q = (tf.nn.log_softmax(model(images)).numpy() for images in (model.x, x))
        if objective == "ce":
            return -log_q[range(len(model.y)), model.y]
        return (np.exp(log_p) * (log_p - log_q)).sum(1)

    values = np.array([value(x) for x in list(seen)])
    np.testing.assert_allclose(value(x_adv), values.max(0), rtol=1e-5)
    assert (values.max(0) > values[0]).all()
    if objective == "ce":
        np.testing.assert_array_equal(seen[0], model.x)


def test_refused():
    for arguments, said in (
        ({"eps": -1}, r"eps=-1\): must be a finite number >= 0; in L1, a sum over pixels, use 12"),
        ({"eps": 1.0, "steps": 0}, "steps=0"),
        ({"eps": 1.0, "share": 0.0}, r"share=0.0\): must be in \(0, 1\]; the paper uses 0.05"),
        ({"eps": 1.0, "objective": attacks.KLDivergence()}, "whose gradient there is zero"),
    ):
        with pytest.raises(ValueError, match=said):
            attacks.TrainingAPGD(**arguments)
    with pytest.raises(ValueError, match=r"share=2\): must be in"):
        attacks.AdaptiveSparsity(1.0, 2)


def test_stages_of_autoattack():
    """Those of the program: more restarts of APGD-CE, fewer targets of APGD-T."""
    stages = dict(attacks.AutoAttack(12.0, "L1").stages())
    assert list(stages) == ["APGD-CE", "APGD-T", "FAB-T", "Square"]
    assert {(one.eps, one.norm) for one in stages.values()} == {(12.0, "L1")}
    ce, targeted, fab, square = stages.values()
    assert (ce.restarts, ce.steps, ce.loss) == (5, 100, "ce")
    assert (targeted.targets, targeted.restarts, targeted.steps) == (5, 1, 100)
    assert (fab.targets, fab.steps, square.queries) == (9, 100, 5000)


def test_names_and_batteries():
    (name,) = battery("autoattack", 12.0, norm="L1")
    assert name == "AutoAttack eps=12 norm=L1"
    assert not [name for name in battery("full", 12.0, norm="L1") if "RayS" in name]
