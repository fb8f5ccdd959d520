"""Interrupted, in other batches, at several eps, in 8 bits: verdicts are what they should be."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, evaluation, files
from robust_tf.attacks.randomness import as_seed, each
from robust_tf.evaluation import EvaluationState, evaluate
from tests.evaluation.samples import BATTERY, MULTI, WEAK, same
from tests.tiny import SHAPE, Smooth, tiny_network


class Interrupted(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class Failing(attacks.Attack):
    """`inner`, which is killed after some calls."""

    inner: attacks.Attack
    calls: list = dataclasses.field(default_factory=list, hash=False, compare=False)

    def __call__(self, model, x, y, *, seed=0, scale=1.0):
        if self.calls and not self.calls.pop():
            raise Interrupted
        return self.inner(model, x, y, seed=seed, scale=scale)

    def get_config(self):
        return {}


def test_the_batch_size_changes_nothing(examples):
    whole = evaluate(Smooth(), examples, BATTERY, checks=False)
    assert 0 < whole.accuracy("weak") < whole.natural_accuracy
    same(whole, evaluate(Smooth(), examples, BATTERY, batch_size=4, checks=False))


@dataclasses.dataclass(frozen=True)
class Short(attacks.AutoAttack):
    """The cascade with two weak stages, of which chance decides much."""

    def stages(self):
        yield "first", attacks.Square(self.eps, queries=2)
        yield "second", attacks.Square(self.eps, queries=40)


def test_a_cascade_draws_alone_what_it_draws_in_an_evaluation(examples, tmp_path):
    images, labels = examples
    state = EvaluationState(images=str(tmp_path))
    settings = {"seed": 3, "batch_size": 11, "checks": False}
    result = evaluate(Smooth(), examples, {"short": Short(0.08)}, state=state, **settings)
    seeds = each(as_seed(3), tf.range(41))
    alone = Short(0.08)(Smooth(), images, labels, seed=seeds)
    is_robust = np.argmax(Smooth()(alone), 1) == labels
    np.testing.assert_array_equal(result.robust["short"], is_robust & result.natural)
    first, last = result.outcomes["short"].stages.values()
    assert result.natural.sum() > first.sum() > last.sum() > 0  # both stages found something
    numbers, x_adv = evaluation.load_adversarial(tmp_path, "short")
    for number, image in zip(numbers, x_adv, strict=True):
        if not is_robust[number]:
            np.testing.assert_array_equal(image, alone[number])


def test_an_interrupted_evaluation_continues(examples, tmp_path):
    model = tiny_network()
    examples = examples[0], np.argmax(model(examples[0]), axis=1)
    path = str(tmp_path / "result.json.partial")
    battery = {
        "multi": Failing(MULTI, [True] * 99),
        "weak": Failing(WEAK, [False, True, True]),
    }
    arguments = {"batch_size": 10, "checks": False}
    with pytest.raises(Interrupted):
        evaluate(model, examples, battery, state=EvaluationState(path), **arguments)
    kept = files.read_json(path)["pieces"]
    assert sum(key.startswith("weak") for key in kept) == 2
    battery = {"multi": Failing(MULTI, [True] * 99), "weak": Failing(WEAK, [True] * 99)}
    state = EvaluationState(path)
    result = evaluate(model, examples, battery, state=state, **arguments)
    assert 99 - len(battery["weak"].calls) == 5 - 2  # only what was missing
    assert len(battery["multi"].calls) == 99  # and nothing of the other attack
    same(result, evaluate(model, examples, {"multi": MULTI, "weak": WEAK}, **arguments))
    state.close()
    assert not files.exists(path)


def test_a_record_of_another_evaluation_is_refused(examples, tmp_path):
    path = str(tmp_path / "partial")
    evaluate(tiny_network(), examples, [WEAK], state=EvaluationState(path), checks=False)
    with pytest.raises(ValueError, match="differs in model, seed; delete it"):
        other = tiny_network(seed=5)
        evaluate(other, examples, [WEAK], state=EvaluationState(path), checks=False, seed=1)
    files.write_json(path, [1])
    with pytest.raises(ValueError, match="not the state of an evaluation"):
        evaluate(tiny_network(), examples, [WEAK], state=EvaluationState(path), checks=False)


def test_a_list_of_eps_gives_a_curve(examples):
    text = "BIM(eps=[0.05, 0.1, 0.2], step_size=[0.02, 0.04, 0.08], steps=5)"
    result = evaluate(Smooth(), examples, text, checks=False)
    assert list(result.robust) == [f"BIM-5 eps={eps}" for eps in (0.05, 0.1, 0.2)]
    curve = result.curves()["Linf"]
    assert [eps for eps, _ in curve] == [0.0, 0.05, 0.1, 0.2]
    values = [accuracy for _, accuracy in curve]
    assert values == sorted(values, reverse=True) and values[0] == result.natural_accuracy
    assert "worst case, Linf eps 0.1" in result.table()
    with pytest.raises(ValueError, match="must have the same length"):
        evaluate(Smooth(), examples, "BIM(eps=[0.1, 0.2], step_size=[0.1], steps=5)")


def test_adversarial_images_are_kept_to_the_bit(examples, tmp_path):
    images, labels = examples
    folder = str(tmp_path / "images")
    state = EvaluationState(images=folder)
    result = evaluate(Smooth(), examples, BATTERY, state=state, batch_size=8, checks=False)
    for name, outcome in result.outcomes.items():
        numbers, x_adv = evaluation.load_adversarial(folder, name)
        np.testing.assert_array_equal(numbers, np.flatnonzero(result.natural))
        right = np.argmax(Smooth()(x_adv), axis=1) == labels[numbers]
        np.testing.assert_array_equal(right, outcome.robust[numbers])
        eps = 0.15 if name == "weak" else 0.2
        assert (np.abs(x_adv.astype("float64") - images[numbers]) <= eps).all()
    with pytest.raises(ValueError, match="holds the images of another evaluation"):
        evaluate(Smooth(), examples, BATTERY, state=EvaluationState(images=folder), checks=False)
    with pytest.raises(files.FileError, match="no adversarial images of 'other'"):
        evaluation.load_adversarial(folder, "other")


def test_a_record_is_not_carried_to_another_model(examples):
    state = EvaluationState()
    first = evaluate(lambda x: Smooth()(x), examples, BATTERY, state=state, checks=False)
    second = evaluate(lambda x: -Smooth()(x), examples, BATTERY, state=state, checks=False)
    assert first.natural_accuracy > 0.5 > second.natural_accuracy


def test_the_model_behind_a_function_is_told_apart(examples, tmp_path):
    path = str(tmp_path / "partial")
    evaluate(lambda x: Smooth()(x), examples, BATTERY, state=EvaluationState(path), checks=False)
    with pytest.raises(ValueError, match="differs in model"):
        evaluate(
            lambda x: 2 * Smooth()(x), examples, BATTERY, state=EvaluationState(path), checks=False
        )


def test_what_is_not_an_image_breaks_nothing(examples):
    @dataclasses.dataclass(frozen=True)
    class Bad(attacks.Attack):
        value: float
        eps: float = 0.1

        def run(self, network, x, y, seed, scale):
            return x + self.value * tf.sign(0.5 - x)

    battery = {"nan": Bad(float("nan")), "far": Bad(0.4), "box": Bad(-1.5, 2.0)}
    result = evaluate(Smooth(), examples, battery, checks=False)
    assert all(result.accuracy(name) == result.natural_accuracy for name in battery)


def test_gradients_that_are_no_numbers_are_no_defence():
    def model(x):  # its gradient is not a number in the corner pixel
        corner = tf.sqrt(tf.nn.relu(x[:, 0, 0, 0] - 1.0))
        return Smooth()(x) + corner[:, tf.newaxis]

    images = np.random.default_rng(0).random((8, *SHAPE)).astype("float32")
    images[:, 0, 0] = 1.0
    labels = np.argmax(Smooth()(images), axis=1)
    strong = (
        "PGD(eps=0.3, step_size=0.1, steps=10); FAB(eps=0.3, steps=20); APGD(eps=0.3, steps=20)"
    )
    result = evaluate(model, (images, labels), strong, checks=False)
    plain = evaluate(Smooth(), (images, labels), strong, checks=False)
    for name in result.outcomes:
        assert result.accuracy(name) <= plain.accuracy(name) + 0.13, name


def test_eight_bits_judges_what_a_file_could_hold():
    def model(x):  # class 1 from just above one half on
        pixel = tf.reshape(x, [-1, 1]) - 0.5
        return 100 * tf.concat([-pixel, pixel], 1)

    @dataclasses.dataclass(frozen=True)
    class To(attacks.Attack):
        value: float

        def run(self, network, x, y, seed, scale):
            return tf.ones_like(x) * self.value

    examples = np.full((1, 1, 1, 1), 0.4, "float32"), np.array([0])
    result = evaluate(model, examples, {"just": To(0.5004), "well": To(0.51)}, eight_bits=True)
    assert result.accuracy("just") == result.accuracy("well") == 0
    assert result.outcomes["just"].eight_bits.tolist() == [False]  # 127.6 is rounded to 128
    result = evaluate(model, examples, {"just": To(0.5001 + 1 / 255)}, eight_bits=True)
    assert "rounded to 8 bits" in result.table()


PROTOCOL = [
    ({"shard": (3, 2)}, "shard=3/2: must be i/n"),
    ({"shard": (1, 99)}, "shard=1/99: there are only 41 examples"),
    ({"shard": "1/2"}, "must be .i, n."),
    ({"search_dtype": "float16"}, "search_dtype='float16'"),
    ({"seed": -1}, "seed=-1"),
]


@pytest.mark.parametrize(("arguments", "message"), PROTOCOL)
def test_settings_out_of_range_are_refused(examples, arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate(Smooth(), examples, [WEAK], **arguments)


def test_an_eps_of_zero_is_refused(examples):
    with pytest.raises(ValueError, match="eps is 0, which leaves nothing to attack"):
        evaluate(Smooth(), examples, "FGSM(eps=0)")
