"""Functions that TensorFlow cannot trace: what runs on them, what refuses them, their answers."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC

from robust_tf import attacks, evaluation
from robust_tf.evaluation import EvaluationState, evaluate
from robust_tf.models import black_box

SQUARE, RAYS = attacks.Square(0.2, queries=60), attacks.RayS(0.2, queries=60)
PGD = attacks.PGD(0.1, 0.05, 2)


@pytest.fixture(scope="module")
def digits():
    """Images (n, 8, 8, 1) in [0, 1] and labels, in two halves."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32").reshape(-1, 8, 8, 1)
    return (x[::2], y[::2]), (x[1::2][:60], y[1::2][:60])


@pytest.fixture(scope="module")
def forest(digits):
    x, y = digits[0]
    return RandomForestClassifier(10, random_state=0).fit(x.reshape(len(x), 64), y)


class Scores:
    """A forest's probabilities; writes down how many images it is asked about."""

    def __init__(self, forest, method="predict_proba"):
        self.ask, self.sizes = getattr(forest, method), []

    def __call__(self, x):
        assert isinstance(x, np.ndarray) and x.dtype == np.float32 and len(x)
        self.sizes.append(len(x))
        return self.ask(x.reshape(len(x), 64))


def test_it_is_evaluated_like_any_model(digits, forest, tmp_path):
    """Natural accuracy is scikit-learn's own, the worst case that of the images it is shown."""
    x, y = digits[1]
    path, images = str(tmp_path / "partial"), str(tmp_path / "images")
    battery = {"square": SQUARE, "rays": RAYS}
    model = black_box(Scores(forest), 10)
    result = evaluate(model, (x, y), battery, state=EvaluationState(path, images), batch_size=25)
    assert result.natural_accuracy == forest.score(x.reshape(len(x), 64), y)
    for name in battery:
        numbers, x_adv = evaluation.load_adversarial(images, name)
        assert np.abs(x_adv - x[numbers]).max() <= 0.2 + 1e-6
        right = forest.predict(x_adv.reshape(-1, 64)) == y[numbers]
        np.testing.assert_array_equal(result.robust[name][numbers], right)
        assert result.outcomes[name].forwards > 0 and result.outcomes[name].gradients == 0
    assert 0 < result.worst_case.mean() < result.natural_accuracy
    (flag,) = result.flags
    assert flag["name"] == "weak_battery" and "a black box has none" in flag["explanation"]
    continued = evaluate(model, (x, y), battery, state=EvaluationState(path, images), batch_size=25)
    np.testing.assert_array_equal(continued.worst_case, result.worst_case)
    assert evaluation.Evaluation.from_json(result.to_json()).settings == result.settings


def test_a_support_vector_machine(digits):
    (x, y), (x_test, y_test) = digits
    machine = SVC(gamma=0.1).fit(x.reshape(len(x), 64), y)
    model = black_box(lambda x: machine.decision_function(x.reshape(len(x), 64)), 10)
    scores = machine.decision_function(x_test.reshape(-1, 64)).astype("float32")
    np.testing.assert_array_equal(model(x_test), scores)
    x_adv = SQUARE(model, x_test, y_test)
    assert (machine.predict(x_adv.numpy().reshape(-1, 64)) == y_test).mean() < 0.9


def test_two_classes_may_be_one_score():
    model = black_box(lambda x: x[:, 0] - 0.5, 2)
    x = np.array([[0.2], [0.9]], "float32")
    np.testing.assert_allclose(model(x), [[0.15, -0.15], [-0.2, 0.2]], atol=1e-6)
    with pytest.raises(ValueError, match=r"float32 of shape \(2,\) for 2 images; expected scores"):
        black_box(lambda x: x[:, 0], 3)(x)


TAKE_GRADIENTS = (
    *(PGD, attacks.FGSM(0.1), attacks.CW(0.1, 0.05, 2), attacks.APGD(0.1, 2), attacks.FAB(0.1, 2)),
    *(attacks.MultiTargeted(PGD), attacks.APGDTargeted(0.1, 2)),
)


@pytest.mark.parametrize("attack", TAKE_GRADIENTS, ids=lambda attack: type(attack).__name__)
def test_what_takes_gradients_refuses_it_by_name(digits, forest, attack):
    x, y = digits[1]
    model = black_box(Scores(forest), 10)
    name = type(attack).__name__
    wanted = f"^{name} takes gradients, which a black box has not; attack it by Square or RayS"
    with pytest.raises(TypeError, match=wanted):
        attack(model, x, y)
    with pytest.raises(TypeError, match=wanted):
        tf.function(lambda: attack(model, x, y), autograph=False)()
    with pytest.raises(TypeError, match=wanted):
        evaluate(model, (x, y), {"first": SQUARE, "second": attack})
    with pytest.raises(TypeError, match=wanted):
        attacks.Transfer(attack, model)(lambda x: x, x, y)


def test_autoattack_is_refused_as_a_whole(digits, forest):
    model = black_box(Scores(forest), 10)
    with pytest.raises(TypeError, match="^APGD takes gradients"):
        attacks.AutoAttack(0.1)(model, *digits[1])
    with pytest.raises(TypeError, match="^APGD takes gradients"):
        evaluate(model, digits[1], attacks.AutoAttack(0.1))


def test_behind_another_function_too(digits, forest):
    model = black_box(Scores(forest), 10)
    for attack in (PGD, attacks.FAB(0.1, 2)):
        with pytest.raises(
            TypeError, match=f"^{type(attack).__name__} takes gradients, which a bl"
        ):
            attack(lambda x: 2 * model(x), *digits[1])
    result = evaluate(lambda x: 2 * model(x), digits[1], attacks.Square(0.1, 20))
    (flag,) = [flag for flag in result.flags if flag["name"] == "zero_gradients"]
    assert flag["figures"]["error"].startswith("the attack takes gradients, which a black box has")
    assert attacks.Square(0.1, 5)(lambda x: 2 * model(x), *digits[1]).shape == (60, 8, 8, 1)


def test_images_of_another_model_are_shown_to_it(digits, forest):
    x, y = digits[1]
    weights = np.random.default_rng(0).normal(size=(64, 10)).astype("float32")
    transfer = attacks.Transfer(
        attacks.BIM(0.1, 0.05, 2), lambda x: tf.reshape(x, [-1, 64]) @ weights
    )
    model = black_box(Scores(forest), 10)
    shown = transfer(model, x, y).numpy().reshape(-1, 64)
    right = (forest.predict(shown) == y) & (forest.predict(x.reshape(-1, 64)) == y)
    result = evaluate(model, (x, y), transfer, checks=False)
    np.testing.assert_array_equal(result.worst_case, right)


def test_labels_do_for_rays_alone(digits, forest):
    x, y = digits[1]
    scores, labels = (black_box(Scores(forest, m), 10) for m in ("predict_proba", "predict"))
    np.testing.assert_array_equal(np.argmax(labels(x), 1), forest.predict(x.reshape(-1, 64)))
    np.testing.assert_array_equal(np.sum(labels(x), 1), 1)
    np.testing.assert_array_equal(RAYS(labels, x, y), RAYS(scores, x, y))
    result = evaluate(labels, (x, y), RAYS, checks=False)
    assert result.natural_accuracy == forest.score(x.reshape(-1, 64), y)
    for attempt in (lambda: SQUARE(labels, x, y), lambda: evaluate(labels, (x, y), SQUARE)):
        with pytest.raises(TypeError, match="^Square takes scores, and this black box gives label"):
            attempt()


def test_labels_are_found_out_before_the_attack(digits, forest):
    """Not known before its first call."""
    model = black_box(Scores(forest, "predict"), 10)
    with pytest.raises(TypeError, match="^Square takes scores"):
        SQUARE(model, *digits[1])


def test_it_is_called_in_batches_anew_each_time_and_no_more_than_counted(digits, forest):
    x, y = digits[1]
    scores = Scores(forest)
    model = black_box(scores, 10, batch_size=7)
    SQUARE(model, x, y)
    assert max(scores.sizes) == 7
    before, spent = sum(scores.sizes), SQUARE.passes(model)[0]
    assert before == spent + 1 + 60  # once: are these scores, and of images in [0, 1]
    scores.ask = lambda x: np.eye(10)[np.full(len(x), 3)]  # another model
    x_adv = SQUARE(model, x, y)
    assert sum(scores.sizes) - before == SQUARE.passes(model)[0] - spent
    np.testing.assert_array_equal(x_adv[y != 3], x[y != 3])  # misclassified as they are


def test_it_goes_when_nobody_holds_it(digits, forest):
    model = black_box(Scores(forest), 10)
    SQUARE(model, *digits[1])
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: np.zeros((len(x), 4)), r"float64 of shape \(3, 4\) for 3 images; expected sco"),
        (lambda x: np.full(len(x), 7), r"labels in \[7, 7\]; expected 0\.\.2, as num_classes says"),
        (lambda x: ["cat"] * len(x), r"<U3 of shape \(3,\)"),
        (lambda x: np.zeros(len(x)), r"float64 of shape \(3,\)"),
    ],
)
def test_other_answers_are_refused(answer, message):
    with pytest.raises(ValueError, match="^black_box: predict gave .*" + message):
        black_box(answer, 3)(np.zeros((3, 2, 2, 1), "float32"))


def test_bad_arguments():
    with pytest.raises(TypeError, match=r"^black_box\(predict=3\): must be a function"):
        black_box(3, 10)
    with pytest.raises(ValueError, match=r"^black_box\(num_classes=1\): must be an integer >= 2"):
        black_box(len, 1)
    with pytest.raises(ValueError, match=r"^black_box\(batch_size=0\)"):
        black_box(len, 3, 0)


def test_what_cannot_be_traced_is_told_the_way_out(digits, forest):
    x, y = digits[1]

    def plain(x):
        return tf.constant(forest.predict_proba(np.asarray(x).reshape(-1, 64)), tf.float32)

    wanted = r"a function, cannot be traced by TensorFlow \(.*as models.black_box\(predict, num_cla"
    for attempt in (lambda: PGD(plain, x, y), lambda: evaluate(plain, (x, y), PGD)):
        with pytest.raises(TypeError, match=wanted), pytest.warns(UserWarning, match="probabili"):
            attempt()
