"""Interrupted, in parts, at several eps, in bfloat16: the same verdicts, and nothing is lost."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, evaluation, files
from robust_tf.cli import evaluate as command
from robust_tf.evaluation import Evaluation, Record, evaluate
from robust_tf.evaluation.precision import copy_in
from tests.tiny import CLASSES, SHAPE, Smooth, tiny_network

# Chance decides what one step from a random start breaks: verdicts tell whose seed was used.
WEAK = attacks.PGD(eps=0.15, step_size=0.01, steps=1)
MULTI = attacks.MultiTargeted(attacks.PGD(eps=0.2, step_size=0.05, steps=2))
BATTERY = {"weak": WEAK, "multi": MULTI}


@pytest.fixture
def examples(rng):
    images = rng.random((41, *SHAPE)).astype("float32")
    labels = np.argmax(Smooth()(images), axis=1)
    labels[::7] = (labels[::7] + 1) % CLASSES
    return images, labels


def same(one: Evaluation, other: Evaluation) -> None:
    np.testing.assert_array_equal(one.natural, other.natural)
    assert list(one.robust) == list(other.robust)
    for name in one.robust:
        np.testing.assert_array_equal(one.robust[name], other.robust[name])


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


def test_an_interrupted_evaluation_continues(examples, tmp_path):
    model = tiny_network()
    examples = examples[0], np.argmax(model(examples[0]), axis=1)
    path = str(tmp_path / "result.json.partial")
    battery = {"multi": MULTI, "weak": Failing(WEAK, [False, True, True])}
    arguments = {"batch_size": 10, "checks": False}
    with pytest.raises(Interrupted):
        evaluate(model, examples, battery, record=Record(path), **arguments)
    kept = files.read_json(path)["pieces"]
    assert sum(key.startswith("weak") for key in kept) == 2
    battery["weak"] = Failing(WEAK, [True] * 99)
    record = Record(path)
    before = attacks.compiled.passes_of(MULTI, model)
    result = evaluate(model, examples, battery, record=record, **arguments)
    assert 99 - len(battery["weak"].calls) == 5 - 2  # only what was missing
    assert attacks.compiled.passes_of(MULTI, model) == before  # and nothing of the other attack
    same(result, evaluate(model, examples, {"multi": MULTI, "weak": WEAK}, **arguments))
    record.close()
    assert not files.exists(path)


def test_a_record_of_another_evaluation_is_refused(examples, tmp_path):
    path = str(tmp_path / "partial")
    evaluate(tiny_network(), examples, [WEAK], record=Record(path), checks=False)
    with pytest.raises(ValueError, match="differs in model, seed; delete it"):
        other = tiny_network(seed=5)
        evaluate(other, examples, [WEAK], record=Record(path), checks=False, seed=1)
    files.write_json(path, [1])
    with pytest.raises(ValueError, match="not the record of an evaluation"):
        evaluate(tiny_network(), examples, [WEAK], record=Record(path), checks=False)


def test_shards_merge_to_the_whole(examples):
    model = Smooth()
    whole = evaluate(model, examples, BATTERY, checks=False, eight_bits=True)
    parts = [
        evaluate(model, examples, BATTERY, shard=(k, 3), checks=False, eight_bits=True)
        for k in (2, 1, 3)
    ]
    parts = [Evaluation.from_json(json.loads(json.dumps(part.to_json()))) for part in parts]
    merged = evaluation.merge(parts)
    same(whole, merged)
    np.testing.assert_array_equal(
        whole.outcomes["weak"].eight_bits, merged.outcomes["weak"].eight_bits
    )
    assert merged.settings == whole.settings
    assert merged.outcomes["multi"].gradients == whole.outcomes["multi"].gradients
    with pytest.raises(ValueError, match="the parts are 1/3, 2/3; expected each of 1/3 to 3/3"):
        evaluation.merge(parts[:2])
    other = evaluate(model, examples, BATTERY, shard=(3, 3), seed=4, checks=False, eight_bits=True)
    with pytest.raises(ValueError, match="differ in seed"):
        evaluation.merge([*parts[:2], other])
    with pytest.raises(ValueError, match="not a shard"):
        evaluation.merge([whole])


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
    record = Record(images=folder)
    result = evaluate(Smooth(), examples, BATTERY, record=record, batch_size=8, checks=False)
    for name, outcome in result.outcomes.items():
        numbers, x_adv = evaluation.load_adversarial(folder, name)
        np.testing.assert_array_equal(numbers, np.flatnonzero(result.natural))
        right = np.argmax(Smooth()(x_adv), axis=1) == labels[numbers]
        np.testing.assert_array_equal(right, outcome.robust[numbers])
        eps = 0.15 if name == "weak" else 0.2
        assert (np.abs(x_adv.astype("float64") - images[numbers]) <= eps).all()
    with pytest.raises(ValueError, match="holds the images of another evaluation"):
        evaluate(Smooth(), examples, BATTERY, record=Record(images=folder), checks=False)
    with pytest.raises(files.FileError, match="no adversarial images of 'other'"):
        evaluation.load_adversarial(folder, "other")


def test_a_record_is_not_carried_to_another_model(examples):
    record = Record()
    first = evaluate(lambda x: Smooth()(x), examples, BATTERY, record=record, checks=False)
    second = evaluate(lambda x: -Smooth()(x), examples, BATTERY, record=record, checks=False)
    assert first.natural_accuracy > 0.5 > second.natural_accuracy


def test_the_model_behind_a_function_is_told_apart(examples, tmp_path):
    path = str(tmp_path / "partial")
    evaluate(lambda x: Smooth()(x), examples, BATTERY, record=Record(path), checks=False)
    with pytest.raises(ValueError, match="differs in model"):
        evaluate(lambda x: 2 * Smooth()(x), examples, BATTERY, record=Record(path), checks=False)


def test_what_is_not_an_image_breaks_nothing(examples):
    @dataclasses.dataclass(frozen=True)
    class Bad(attacks.Attack):
        value: float
        eps: float = 0.1

        def run(self, network, x, y, seed, scale):
            return x + self.value

    battery = {"nan": Bad(float("nan")), "far": Bad(0.5), "box": Bad(-1.5, 2.0)}
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


def test_a_search_in_bfloat16_is_judged_in_float32(examples):
    model = tiny_network()
    images = examples[0]
    labels = np.argmax(model(images), axis=1)
    attack = attacks.PGD(eps=0.03, step_size=0.01, steps=10)
    plain = evaluate(model, (images, labels), [attack], checks=False)
    fast = evaluate(model, (images, labels), [attack], search_dtype="bfloat16", checks=False)
    (name,) = fast.outcomes
    assert abs(plain.accuracy(name) - fast.accuracy(name)) < 0.1
    sample = fast.outcomes[name].details["float32_sample"]
    assert 0 < sample["examples"] <= 9  # every fifth of 41, as far as they stand
    numbers = np.flatnonzero(~fast.robust[name] & fast.natural)
    assert len(numbers) and fast.settings["search_dtype"] == "bfloat16"
    with pytest.raises(ValueError, match="needs a Keras model"):
        evaluate(Smooth(), examples, [attack], search_dtype="bfloat16")


def test_what_only_the_copy_calls_broken_is_attacked_again(examples, monkeypatch, tmp_path):
    """The search sees a model that calls everything broken; the judge knows better."""
    from robust_tf.evaluation import subject

    model = tiny_network()
    labels = np.argmax(model(examples[0]), axis=1)

    def wrong(network, dtype):
        twin = copy_in(network, dtype)
        if dtype == "bfloat16":
            twin.classifier.layers[-1].kernel.assign(-twin.classifier.layers[-1].kernel)
        return twin

    attack = attacks.PGD(eps=0.05, step_size=0.02, steps=5)
    plain = evaluate(model, (examples[0], labels), [attack], checks=False, search_dtype="float32")
    monkeypatch.setattr(subject, "copy_in", wrong)
    record = Record(images=str(tmp_path))
    fast = evaluate(
        model,
        (examples[0], labels),
        [attack],
        record=record,
        checks=False,
        search_dtype="bfloat16",
        search_sample=0,
    )
    (name,) = fast.outcomes
    numbers, x_adv = evaluation.load_adversarial(tmp_path, name)
    right = np.argmax(model(x_adv), axis=1) == labels[numbers]
    np.testing.assert_array_equal(right, fast.robust[name][numbers])
    assert fast.accuracy(name) <= plain.accuracy(name) + 0.05


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_copies_compute_as_they_should(dtype, rng):
    network = tiny_network(batch_norm=True)
    x = rng.random((5, *SHAPE)).astype("float32")
    twin = copy_in(network, dtype)
    expected, found = np.asarray(network(x)), np.asarray(twin(x))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6 if dtype == "float32" else 0.1)
    assert (found == expected).all() == (dtype == "float32")
    sequential = keras.Sequential(
        [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
    )
    np.testing.assert_allclose(copy_in(sequential, dtype)(x), sequential(x), atol=0.1)


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


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture
def model_here(tmp_path, monkeypatch):
    """A module beside the user, with a model and with a function that makes one."""
    (tmp_path / "defences.py").write_text(
        "import tensorflow as tf\n"
        "def logits(x):\n    return tf.reduce_mean(x, axis=[1, 2])  * tf.range(10.0)\n"
        "def make():\n    return logits\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return command.main([*arguments, "--dataset=digits", "--max_examples=40", "--no_checks"])


def test_a_model_by_import_path_in_shards(model_here, capsys):
    attack = "--attacks=PGD(eps=0.1, step_size=0.05, steps=2)"
    assert run("--model=defences:logits", attack, "--output=whole.json") == 0
    for k in (1, 2):
        arguments = (f"--shard={k}/2", f"--output={k}.json")
        assert run("--model=defences:logits", attack, *arguments) == 0
    assert command.main(["--merge", "1.json", "2.json", "--output=all.json"]) == 0
    whole, merged = (json.loads((model_here / f"{n}.json").read_text()) for n in ("whole", "all"))
    for report in (whole, merged):
        for attack in report["evaluation"]["attacks"].values():
            attack.pop("seconds")
    assert whole == merged
    assert not list(model_here.glob("*.partial"))
    assert run("--model=defences:make", "--attacks=FGSM(0.1)") == 0
    capsys.readouterr()
    for model, message in (
        ("defences:nothing", "has nothing named 'nothing'"),
        ("defence:logits", "No module named 'defence'"),
        ("defences:number", "is int, not a model"),
    ):
        assert run(f"--model={model}", "--attacks=FGSM(0.1)") == 2
        assert message in capsys.readouterr().err


def test_a_battery_at_several_eps(model_here, capsys):
    arguments = ("--model=defences:logits", "--battery=smoke")
    assert run(*arguments, "--eps=8/255,0.1", "--output=r.json") == 0
    names = list(json.loads((model_here / "r.json").read_text())["evaluation"]["attacks"])
    kinds = ("FGSM", "PGD-20", "CW-20")
    assert names == [f"{kind} eps={eps}" for eps in ("8/255", "0.1") for kind in kinds]
    capsys.readouterr()
    for extra, message in (
        (("--battery=smok", "--eps=0.1"), "did you mean smoke?"),
        (("--battery=smoke",), "no eps: give --eps"),
        (("--battery=smoke", "--eps=many"), "'many'"),
        (("--attacks=FGSM(0.1)", "--eps=0.1"), "--eps is for a battery"),
        (("--attacks=FGSM(0.1)", "--shard=3"), "must be i/n"),
    ):
        assert run("--model=defences:logits", *extra) == 2
        assert message in capsys.readouterr().err
