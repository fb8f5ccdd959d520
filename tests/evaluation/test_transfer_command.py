"""Attacks made on another model: `--transfer_from`, `Transfer(run='...')`, and their files."""

import json
import re

import keras
import numpy as np
import pytest

from robust_tf import attacks, compat, data, evaluation, files
from robust_tf.attacks import FGSM, PGD, Transfer
from robust_tf.attacks.randomness import as_seed, each
from robust_tf.cli import evaluate
from robust_tf.evaluation import reproduce_command, sources
from robust_tf.runs import load_inference, read_run
from tests.inference import fakes
from tests.linear import trained

ATTACK = PGD(0.1, 0.04, 4)
TEXT = "PGD(eps=0.1, step_size=0.04, steps=4)"


@pytest.fixture(scope="module")
def networks():
    """The one that is evaluated, and one that has learnt more."""
    digits = data.load("digits")
    return trained(digits, epochs=2), trained(digits, epochs=6)


@pytest.fixture(scope="module")
def root(tmp_path_factory, networks):
    """Two runs, `own` of ATLD, and models that do not fit."""
    root = tmp_path_factory.mktemp("runs")
    for name, network in zip(("own", "other"), networks, strict=True):
        (root / name).mkdir()
        network.save(root / name / "model.keras")
        files.write_json(
            root / name / "summary.json",
            {
                "data": {"name": "digits"},
                "configuration": "eps = 0.1\nATLD.disc_input = 'logits'\n",
            },
        )
    fakes.Discriminator(10).save(root / "own" / "discriminator.keras")
    (root / "begun").mkdir()
    (root / "begun" / "identity.json").write_text("{}")
    (root / "text.txt").write_text("text")
    for name, shape, classes in (("small", (8, 8, 1), 10), ("three", (28, 28, 1), 3)):
        layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes)]
        keras.Sequential(layers).save(root / f"{name}.keras")
    return root


@pytest.fixture(scope="module")
def examples():
    test = data.load("digits").test.take(30)
    return test.images.astype(np.float32) / 255, test.labels.astype(np.int32)


def judged(network, examples, moved):
    """Whether images are classified correctly, and whether the clean ones are, too."""
    natural, right = (np.argmax(network(x), 1) == examples[1] for x in (examples[0], moved))
    return right, natural & right


def result_of(path):
    return evaluation.Evaluation.from_json(files.read_json(path)["evaluation"])


def test_images_of_other_models_are_judged(root, networks, examples, tmp_path, capsys):
    output = tmp_path / "result.json"
    own, other = root / "own", root / "other"
    again = str(other / "model.keras")
    command = [
        f"--run_dir={own}",
        "--max_examples=30",
        "--draw=first",
        f"--attacks=FGSM(0.1); {TEXT}",
    ]
    command += [f"--transfer_from={other}, {again}", "--no_checks", f"--output={output}"]
    assert evaluate.main(command) == 0, capsys.readouterr().err
    found = result_of(output)
    assert list(found.outcomes) == [
        f"Transfer {name} eps=0.1 from {path}"
        for path in (other, again)
        for name in ("FGSM", "PGD-4")
    ]
    x, y = examples
    moved = ATTACK(networks[1], x, y, seed=each(as_seed(0), 30))
    alone, robust = judged(networks[0], examples, moved)
    for path in (other, again):
        outcome = found.outcomes[f"Transfer PGD-4 eps=0.1 from {path}"]
        np.testing.assert_array_equal(outcome.alone, alone)
        np.testing.assert_array_equal(outcome.robust, robust)
    assert robust.mean() <= alone.mean() < 1
    own_images = ATTACK(networks[0], x, y, seed=each(as_seed(0), 30))
    assert np.abs(own_images - moved).max() > 0.05  # those of the evaluated model are others
    shown = rf"from {other}, attacked image alone +{100 * alone.mean():.2f} %"
    assert re.search(shown, capsys.readouterr().out)
    fingerprints = set(found.settings["sources"].values())
    assert len(fingerprints) == 1 and None not in fingerprints


def test_text_names_the_source(root, networks, examples):
    text = f"Transfer({TEXT}, run='{root / 'other'}')"
    found = evaluation.parse_attacks(f"{text}; Transfer(FGSM(0.1), run='{root / 'other'}'); {text}")
    first, second = found.values()  # the same attack twice is one
    assert (first.attack, second.attack) == (ATTACK, FGSM(0.1)) and first.source is second.source
    x, y = examples
    np.testing.assert_array_equal(first(networks[0], x, y), ATTACK(networks[1], x, y))
    np.testing.assert_allclose(first.source(x), networks[1](x), atol=1e-5)
    sweep = evaluation.parse_attacks(
        f"Transfer(PGD(eps=[0.1, 0.2], step_size=0.04, steps=4), run='{root / 'other'}')"
    )
    assert [one.eps for one in sweep.values()] == [0.1, 0.2]


def test_files_name_the_source(root, networks, examples, monkeypatch):
    attack = evaluation.parse_attack(f"Transfer({TEXT}, run='{root / 'other'}')")
    named = {"a": attack}
    result = evaluation.evaluate(networks[0], examples, named, checks=False, progress=False)
    content = json.loads(json.dumps(result.to_json()))
    line = reproduce_command.command("r", evaluation.Evaluation.from_json(content), {})
    assert f"Transfer({TEXT}, run='{root / 'other'}')" in line
    assert evaluation.attacks_from_json(content) == named
    content["attacks"]["a"]["attack"]["config"]["source"]["config"]["path"] = "gone"
    monkeypatch.setattr(sources.loading, "load_model", None)
    [again] = evaluation.attacks_from_json(content).values()  # reads nothing
    assert again.attack == ATTACK and again.source.path == "gone"
    with pytest.raises(OSError, match="no source model gone; give the folder of a run, or"):
        again.source(examples[0])


def test_a_source_that_has_changed_is_another(tmp_path, networks, examples):
    path = tmp_path / "source.keras"
    seen = []
    for network in networks:
        network.save(path)
        attack = evaluation.parse_attack(f"Transfer({TEXT}, run='{path}')")
        seen.append(attack)
        expected = ATTACK(network, *examples)
        np.testing.assert_array_equal(attack(networks[0], *examples), expected)
    assert seen[0] != seen[1]


def test_a_battery_adds_what_its_paper_transfers(root, networks, examples, tmp_path, capsys):
    battery = tmp_path / "mine.gin"
    battery.write_text(
        "PGD.eps = %eps\nPGD.step_size = %step_size\nPGD.steps = 4\nFGSM.eps = %eps\n"
        "battery.attacks = [@FGSM()]\nbattery.transfer = [@PGD()]\n"
    )
    output = tmp_path / "result.json"
    command = [
        f"--run_dir={root / 'own'}",
        f"--battery={battery}",
        "--max_examples=30",
        "--draw=first",
    ]
    command += ["--step_size=10.2/255", "--no_checks", f"--output={output}"]
    assert evaluate.main([*command, f"--transfer_from={root / 'other'}"]) == 0
    found = result_of(output)
    title = f"Transfer PGD-4 eps=0.1 from {root / 'other'}"
    assert list(found.outcomes) == ["FGSM eps=0.1", title]
    moved = ATTACK(networks[1], *examples, seed=each(as_seed(0), 30))
    np.testing.assert_array_equal(found.robust[title], judged(networks[0], examples, moved)[1])
    assert evaluate.main([*command[:-1], f"--output={tmp_path / 'without.json'}"]) == 0
    assert list(result_of(tmp_path / "without.json").outcomes) == ["FGSM eps=0.1"]


def test_behind_a_transformation_they_are_oblivious(root, networks, examples, tmp_path, capsys):
    """Judged after IMT; no adaptive attack is made where nothing but they were asked for."""
    output = root / "own" / "imt.json"
    command = [f"--run_dir={root / 'own'}", "--inference=imt", "--delta=0.05", "--no_checks"]
    command += [
        f"--attacks={TEXT}",
        f"--transfer_from={root / 'other'}",
        "--max_examples=30",
        "--draw=first",
    ]
    assert evaluate.main([*command, f"--output={output}"]) == 0, capsys.readouterr().err
    report = files.read_json(output)
    name = f"Transfer PGD-4 eps=0.1 from {root / 'other'}"
    model = load_inference(str(root / "own"), "imt", delta=0.05)
    x, y = examples
    moved = ATTACK(networks[1], x, y, seed=each(as_seed(0), 30))
    alone, robust = judged(lambda x: networks[0](model.transform(x)), examples, moved)
    shares = {"oblivious": robust.mean(), "T(x') alone": alone.mean(), "worst case": robust.mean()}
    assert report["columns"] == {name: shares, "all": shares}
    result = read_run(str(root / "own")).results[-1]
    assert [one.kind for one in result.attacks] == [f"oblivious: {name.replace(' eps=0.1', '')}"]
    assert isinstance(result.attacks[0].attack, Transfer)
    line = reproduce_command.command("r", result.evaluation, {}, report["inference"])
    assert f"Transfer({TEXT}, run='{root / 'other'}')" in line and "--inference=imt" in line


PLAIN = f"--attacks={TEXT}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [PLAIN, "--transfer_from={root}/none"],
            "there is no source model .*none; give",
        ),
        ([PLAIN, "--transfer_from={root}/begun"], "holds no model.keras: its training has not"),
        ([PLAIN, "--transfer_from={root}"], "is not the folder of a run"),
        ([PLAIN, "--transfer_from={root}/text.txt"], "expected a .keras file"),
        ([PLAIN, "--transfer_from= ,"], "--transfer_from names no model; give folders of runs"),
        ([PLAIN, "--transfer_from={root}/small.keras"], r"source is meant: .* shape \(8, 8, 1\)"),
        ([PLAIN, "--transfer_from={root}/three.keras"], "source is meant: .* 3 classes, .* has 10"),
        (["--attacks=RayS(0.1)", "--transfer_from={root}/other"], "RayS is a black-box attack, wh"),
        (
            ["--attacks=Transfer(Square(0.1), run='{root}/other')"],
            "Square is a black-box attack, which needs no other model",
        ),
        (["--attacks=Transfer(FGSM(0.1), run='{root}/none')"], "there is no source model .*none"),
        (["--attacks=Transfer(FGSM(0.1))"], "missing a required argument: 'run'. It is Transfer"),
        (["--attacks=Transfer(0.1, run='x')"], "attack=0.1: must be an attack"),
        (["--attacks=Transfer(FGSM(0.1), run=3)"], "run=3: must be the folder of a run"),
        (["--attacks=Transfer(FGSM(0.1), source='x')"], r"no parameter 'source'\..*Transfer\(att"),
        ([PLAIN, "--step_size=0.1"], "--step_size is for a battery; attacks name their own: PGD"),
        (["--battery=smoke", "--step_size=0"], r"step_size=0\): must be"),
        (["--battery=smoke", "--step_size=-2/255"], r"step_size=-0.0078.*: must be"),
        (["--battery=smoke", "--step_size=many"], "'many' is not a number"),
        (["--battery=autoattack", "--step_size=0.1"], "has no attack that takes one; leave it out"),
        (
            ["--battery=smoke", "--transfer_from={root}/other"],
            "names no attacks to be made on",
        ),
    ],
)
def test_mistakes_are_one_clear_line(arguments, message, root, capsys):
    arguments = [argument.format(root=root) for argument in arguments]
    assert evaluate.main([f"--run_dir={root / 'own'}", "--max_examples=5", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(f"^error: .*{message}", captured.err, re.MULTILINE), captured.err


def test_the_step_of_a_run_is_kept_by_the_papers_batteries(root, tmp_path, monkeypatch):
    """`evaluation_step_size` of the run at every eps, by the others at the run's own alone."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.keras").write_bytes((root / "own" / "model.keras").read_bytes())
    configuration = "eps = 0.1\nevaluation_step_size = 0.03\nevaluation_steps = 7\n"
    summary = {"data": {"name": "digits"}, "configuration": configuration}
    files.write_json(run / "summary.json", summary)
    seen = {}

    def note(model, split, given, **protocol):
        seen.update(given)
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "evaluate", note)

    def sizes(*arguments):
        seen.clear()
        evaluate.main([f"--run_dir={run}", "--eps=0.1,0.2", *arguments])
        ascents = [one for one in seen.values() if isinstance(one, attacks.PGD)]
        return [one.step_size for one in ascents], {one.steps for one in ascents}

    assert sizes("--battery=adr") == ([0.03, 0.03], {7})
    assert sizes("--battery=atld") == ([0.03] * 6, {20, 40, 100})
    assert sizes("--battery=smoke") == ([0.03, 0.05], {20})
    assert sizes("--battery=smoke", "--step_size=2/255") == ([2 / 255] * 2, {20})
    assert sizes("--battery=adr", "--step_size=0.004") == ([0.004] * 2, {7})


def test_a_source_is_stored_by_its_path_alone(root):
    source = sources.source_model(root / "other")
    config = compat.serialize(source)
    assert config["config"] == {"path": str(root / "other")}
    assert compat.deserialize(config) is source
