"""`bin/evaluate --devices` and `evaluate_shards`: shards give what one process gives."""

import json
from pathlib import Path

import numpy as np
import pytest

from robust_tf import attacks, data, engines, evaluation, files
from robust_tf.cli import evaluate, evaluate_devices
from robust_tf.evaluation import Evaluation, ShardError, evaluate_shards
from robust_tf.evaluation.shards import merge_within, shard_within
from tests.evaluation.in_process import InProcess
from tests.tiny import labelled, plain_network

LAB = Path(__file__).resolve().parent.parent / "users" / "fatal_lab.py"
PGD = "PGD(eps=0.3, step_size=0.1, steps=2)"
SQUARE = "Square(eps=0.2, queries=10)"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model that nobody here made, and 24 images in files."""
    folder = tmp_path_factory.mktemp("devices")
    model = plain_network()
    model.compile("adam", "mse")
    model.save(folder / "model.keras")
    x, _ = labelled(24)
    y = np.argmax(model(x), axis=1)
    y[::7] = (y[::7] + 1) % 3
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return folder


def words(place, output, *more, attack=f"{PGD}; {SQUARE}"):
    own = [f"--model={place}/model.keras", f"--dataset={place}/data.npz", "--batch_size=5"]
    return [*own, f"--attacks={attack}", "--draw=first", f"--output={place}/{output}", *more]


def report(path):
    """A result without what depends on the clock, and on how the images were divided."""
    content = files.read_json(path)
    for one in content["evaluation"]["attacks"].values():
        one.pop("seconds")
    return content


@pytest.fixture
def engine(monkeypatch):
    """The engine of the commands: three tasks at once, in this process."""
    used = InProcess(3)
    monkeypatch.setattr(engines, "engine", lambda name, devices, address: used)
    return used


def test_a_killed_process_is_named_and_its_shard_continued(place, capsys):
    attack = f"{PGD}; fatal_lab.Fatal(eps=0.2, mark='{place}/mark'); {SQUARE}"
    own = words(place, "killed.json", f"--import={LAB}", attack=attack)
    assert evaluate.main([*own, "--devices=2"]) == 3
    out, err = capsys.readouterr()
    assert not out and err.count("error: ") == 1 and "2 shards, 2 at once" in err
    folder = place / "killed.json.shards"
    [lost] = [k for k in (1, 2) if not (folder / f"{k}-of-2.json").exists()]
    assert f"error: shard {lost}/2: its process was killed by SIGKILL, as the system does" in err
    assert f"What is done lies in {folder}; the same call continues. Fewer devices" in err
    assert (folder / f"{lost}-of-2.json.partial").exists()
    kept = (folder / f"{3 - lost}-of-2.json").stat().st_mtime_ns
    assert evaluate.main(["--status", f"--output={place}/killed.json"]) == 0
    told = capsys.readouterr().out
    assert f"shard {3 - lost}/2: done" in told and "these are bounds" in told
    # Neither by one process nor in other shards, which would begin anew.
    assert evaluate.main(own) == 2
    assert "continue it with --devices=all, or delete it" in capsys.readouterr().err
    assert evaluate.main([*own, "--devices=3"]) == 2
    assert "in 2 shards, not 3; continue it with 2 devices" in capsys.readouterr().err
    assert evaluate.main([*own, "--devices=2", "--seed=3"]) == 2
    assert "that was asked for otherwise; repeat that call" in capsys.readouterr().err
    assert kept == (folder / f"{3 - lost}-of-2.json").stat().st_mtime_ns
    assert evaluate.main([*own, "--devices=2"]) == 0
    assert not folder.exists() and "worst case over all" in capsys.readouterr().out
    assert evaluate.main([*own[:-2], f"--output={place}/one.json", own[-1]]) == 0
    assert report(place / "killed.json") == report(place / "one.json")


def test_every_option_reaches_the_shards(place, engine, capsys):
    more = ["--eight_bits", "--seed=4", "--max_examples=19", "--transfer_from"]
    more += [f"{place}/model.keras", "--search_dtype=bfloat16"]
    own = words(place, "options.json", *more, attack=f"{PGD}; FGSM(eps=0.1)")
    assert evaluate.main([*own, f"--save_adversarial={place}/all", "--devices", "all"]) == 0
    assert [task.name for task in engine.ran] == ["shard 1/3", "shard 2/3", "shard 3/3"]
    assert all(str(place / "model.keras") in task.sends for task in engine.ran)
    assert not (place / "all.shards").exists()
    own = words(place, "alone.json", *more, attack=f"{PGD}; FGSM(eps=0.1)")
    assert evaluate.main([*own, f"--save_adversarial={place}/alone"]) == 0
    assert report(place / "options.json") == report(place / "alone.json")
    for name in report(place / "alone.json")["evaluation"]["attacks"]:
        whole, parts = (evaluation.load_adversarial(place / one, name) for one in ("alone", "all"))
        for one, other in zip(whole, parts, strict=True):
            np.testing.assert_array_equal(one, other)
    capsys.readouterr()
    assert evaluate.main([*own, f"--save_adversarial={place}/all", "--devices=all"]) == 2
    assert "all holds the images of another evaluation" in capsys.readouterr().err


def test_a_shard_is_divided_again(place, engine):
    """Two machines with three devices each."""
    for k in (1, 2):
        own = words(place, f"{k}.json", f"--shard={k}/2", "--devices=3")
        assert evaluate.main(own) == 0
        assert report(place / f"{k}.json")["evaluation"]["shard"] == [k, 2]
    merged = ["--merge", f"{place}/1.json", f"{place}/2.json", f"--output={place}/both.json"]
    assert evaluate.main(merged) == 0
    assert evaluate.main(words(place, "undivided.json")) == 0
    assert report(place / "both.json") == report(place / "undivided.json")


@pytest.mark.parametrize("total", [7, 24])
def test_the_shards_of_a_shard_are_its_examples(total):
    whole = np.arange(total)
    for part, parts in ((1, 1), (2, 3)):
        for count in (1, 2, 5):
            for index in range(1, count + 1):
                i, n = shard_within((part, parts), index, count)
                expected = whole[part - 1 :: parts][index - 1 :: count]
                np.testing.assert_array_equal(whole[i - 1 :: n], expected)


def test_an_error_of_the_user_is_said_once(place, engine, capsys):
    wrong = "PGD(eps=8, step_size=2, steps=10)"
    assert evaluate.main(words(place, "wrong.json", "--devices=2", attack=wrong)) == 2
    err = capsys.readouterr().err
    assert err.count("must be in [0, 1]") == 1 and "error: shard 1/3, shard 2/3, shard 3/3: " in err


def test_a_call_that_did_nothing_is_forgotten(place, engine):
    """A wrong word is mended under the same output; what is not ours is left alone."""
    assert evaluate.main(words(place, "again.json", "--devices=2", attack="PGD(eps=8)")) == 2
    assert evaluate.main(words(place, "again.json", "--devices=2", attack="FGSM(eps=0.1)")) == 0
    own = place / "mine.json.shards" / "notes.txt"
    own.parent.mkdir()
    own.write_text("mine")
    assert evaluate.main(words(place, "mine.json", "--devices=2")) == 2
    assert own.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=a", "--devices=0"], "--devices=0: must be all, or a whole number >= 1"),
        (["--model=a", "--devices=many"], "--devices=many: must be all"),
        (["--model=a", "--address=auto"], "give --engine=ray, too"),
        (["--model=a", "--engine=dask"], "invalid choice: 'dask'"),
        (["--merge", "1.json", "--devices=2"], "--devices does not go with --merge, which"),
        (["--status", "--output=a.json", "--devices=2"], "--devices does not go with --status"),
        (["--status"], "--status needs the --output"),
        (["--status", "--output=none.json"], "there is neither none.json nor a record of it"),
    ],
)
def test_what_does_not_go_together(arguments, message, capsys):
    assert evaluate.main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out and message in err and err.count("\n") == 1


def test_without(capsys):
    given = ["--a=1", "--devices", "2", "--output=x", "--shard", "1/2", "--merge", "y", "--b"]
    found = list(evaluate_devices.without(given, evaluate_devices.OWN))
    assert found == ["--a=1", "--merge", "y", "--b"]


# ---- from Python ---------------------------------------------------------------------------------


def test_from_python_as_in_one_process(place, engine, rng):
    model, (x, y) = plain_network(), labelled(24)
    battery = {"mine": attacks.PGD(0.3, 0.1, 2), "box": attacks.Square(0.2, queries=10)}
    settings = {"eps": [0.1, 0.3], "batch_size": 4, "max_examples": 20, "draw": "balanced"}
    split = data.Split(x, y, origin=("0123456789abcdef", np.arange(24)))
    for examples in ((x, y), split):
        whole = evaluation.evaluate(model, examples, battery, progress=False, **settings)
        parts = evaluate_shards(model, examples, battery, progress=False, **settings)
        assert parts.settings == json.loads(json.dumps(whole.settings))
        np.testing.assert_array_equal(parts.natural, whole.natural)
        for name, verdict in whole.robust.items():
            np.testing.assert_array_equal(parts.robust[name], verdict)
        assert parts.flags == json.loads(json.dumps(whole.flags))
    # All that a worker reads can be sent to it.
    assert all(len(task.sends) == 3 for task in engine.ran)


def test_from_python_it_continues(place, engine):
    model, examples = str(place / "model.keras"), labelled(24)
    given = (model, examples, attacks.FGSM(0.1))
    engine.fails = ("shard 2/3",)
    with pytest.raises(ShardError, match=r"shard 2/3: its process was killed by SIGKILL"):
        evaluate_shards(*given, output=place / "python", progress=False)
    with pytest.raises(ValueError, match="that was asked for otherwise"):
        evaluate_shards(*given, output=place / "python", seed=1)
    engine.fails, engine.ran = (), []
    found = evaluate_shards(*given, output=place / "python", progress=False)
    assert [task.name for task in engine.ran] == ["shard 2/3"] and len(found) == 24
    assert not list(place.glob("python*"))


def test_what_other_processes_cannot_have(place, engine):
    x, y = labelled(6)
    with pytest.raises(TypeError, match="other processes cannot be given a function"):
        evaluate_shards(lambda images: images, (x, y), attacks.FGSM(0.1))
    with pytest.raises(ValueError, match="the split is empty"):
        evaluate_shards("model", (x[:0], y[:0]), attacks.FGSM(0.1))
    with pytest.raises(TypeError, match="takes no shard"):
        evaluate_shards("model", (x, y), attacks.FGSM(0.1), shard=(1, 2))


def test_auto_is_measured_once_for_all(place, engine, monkeypatch):
    x, y = labelled(12)
    given = (str(place / "model.keras"), (x, y), attacks.FGSM(0.1))
    found = evaluate_shards(*given, search_dtype="auto", progress=False)
    assert [task.name for task in engine.ran] == ["precision", *(f"shard {k}/3" for k in (1, 2, 3))]
    assert found.settings["search_dtype"] == "float32"
    own = words(place, "auto.json", "--search_dtype=auto", "--devices=3")
    assert evaluate.main(own) == 0
    assert report(place / "auto.json")["evaluation"]["search_dtype"] == "float32"


def test_parts_within_a_shard_are_merged_to_it(place):
    x, y = labelled(12)
    model, attack = plain_network(), attacks.FGSM(0.1)

    def part(shard):
        found = evaluation.evaluate(model, (x, y), attack, shard=shard, progress=False)
        return Evaluation.from_json(json.loads(json.dumps(found.to_json())))

    merged = merge_within([part((2, 4)), part((4, 4))], (2, 2))
    whole = part((2, 2))
    assert merged.settings == whole.settings
    np.testing.assert_array_equal(merged.worst_case, whole.worst_case)
