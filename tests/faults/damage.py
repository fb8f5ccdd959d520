"""Files that are truncated, emptied, changed or gone: told or left out, never taken for whole."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf import files, precision, runs
from robust_tf.cli import evaluate as evaluate_command
from robust_tf.evaluation import EvaluationState, load_adversarial
from robust_tf.evaluation.loading import load_model
from robust_tf.studies import tables
from robust_tf.training import CheckpointError
from robust_tf.training.checkpoints import Checkpoints
from tests.faults import jobs
from tests.faults.harness import (
    CLONE,
    DAMAGES,
    JSON_DAMAGES,
    Count,
    case,
    damaged,
    finished_run,
    named,
)
from tests.training import runs as small

OTHERS = ("a list", "a text", "a number", "null")


def _checkpoints(folder: Path, model: Any) -> Checkpoints:
    return Checkpoints(str(folder), model)


def _values(checkpoints: Checkpoints) -> list[np.ndarray]:
    parts = [*checkpoints._parts["network"], *checkpoints._parts["optimizer"]]
    return [np.array(variable) for variable in parts]


@case("damaged file", "newest of two checkpoints: index, data, list", short=40, long=2000)
def checkpoint(place: Path, tries: int, rng: random.Random) -> Count:
    """Each must give the newest, or the one before and say so."""
    model = jobs.recipe().build(small.moons(), small.NO_STRATEGY)
    made = _checkpoints(place / "made", model)
    wanted = []
    for epoch in (1, 2):
        made.progress.epoch.assign(epoch)
        for variable in made._parts["network"]:
            variable.assign(tf.fill(variable.shape, float(epoch)))
        made.save_last()
        wanted.append(_values(made))
    names = ["ckpt-2000000.index", "ckpt-2000000.data-00000-of-00001", "checkpoint"]
    content = {name: (place / "made" / "last" / name).read_bytes() for name in names}
    count = Count()
    for number in range(tries):
        name = names[number % 3]
        kinds: dict[str, Any] = {**DAMAGES, "gone": None}
        kind = list(kinds)[number // 3 % len(kinds)]
        folder = place / "damaged"
        shutil.copytree(place / "made", folder)
        path = folder / "last" / name
        path.unlink()
        if kind != "gone":
            path.write_bytes(kinds[kind](content[name], rng))
        for variable in made._parts["network"]:
            variable.assign(tf.zeros(variable.shape))
        what = f"{name}, {kind}"
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            again = _checkpoints(folder, model)
            try:
                found = again.restore_last()
            except CheckpointError as error:
                count.lost.append(f"{what}: {error}")
                shutil.rmtree(folder)
                continue
        values, told = _values(again), any("ckpt-2000000" in str(one.message) for one in said)
        if found and _same(values, wanted[1]):
            count.survived("the newest was read")
        elif found and _same(values, wanted[0]) and told:
            again.save_last()
            count.check(
                _checkpoints(folder, model).restore_last(),
                "went on from the one before, and said so",
                f"{what}: not to be saved again",
            )
        else:
            how = "the one before, silently" if found and _same(values, wanted[0]) else "wrong"
            count.lost.append(f"{what}: {how if found else 'began anew'}")
        shutil.rmtree(folder)
    return count


def _same(ones: list[np.ndarray], others: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(ones, others, strict=True))


@case("damaged file", "both checkpoints", short=2, long=20)
def both_checkpoints(place: Path, tries: int, rng: random.Random) -> Count:
    count = Count()
    for number in range(tries):
        folder = place / f"run{number}"
        shutil.copytree(finished_run(), folder)
        (folder / "summary.json").unlink()
        for path in (folder / "checkpoints" / "last").glob("*.index"):
            path.write_bytes(DAMAGES["truncated"](path.read_bytes(), rng))
        try:
            with jobs.quiet():
                jobs.trainer(str(folder))
            count.lost.append("began anew")
        except CheckpointError as error:
            right = "ckpt-" in str(error) and "--restart" in str(error)
            count.check(right, "refused, the file named", str(error))
    return count


def _read_all(folder: Path) -> dict[str, Any]:
    """What readers of a run tell of it, by name; the notes apart."""
    run = runs.Run(str(folder), tolerant=True)
    found: dict[str, Any] = {"threat": run.record["threat"], "seed": run.seed, "eps": run.eps}
    found |= {"summary": run.summary.get("natural_accuracy"), "data": run.data.get("train")}
    for name, evaluation in run.evaluations.items():
        found[f"{name} worst"] = evaluation.worst_case.tolist()
        found[f"{name} attacks"] = {n: m.tolist() for n, m in evaluation.robust.items()}
    found["metrics"] = [json.dumps(row, sort_keys=True) for row in run.metrics]
    found["guard"] = [json.dumps(row, sort_keys=True) for row in run.guard]
    found["notes"] = run.notes
    return found


@case("damaged file", "run.json, summary.json, a result, metrics.jsonl, guard.jsonl", 60, 1000)
def read_by_run(place: Path, tries: int, rng: random.Random) -> Count:
    """Nothing that is told may differ from what the whole files tell; what is left out is named."""
    folder, count = place / "run", Count()
    shutil.copytree(finished_run(), folder)
    summary = json.loads((folder / "summary.json").read_text())
    result = {"run_dir": str(folder), "data": {"name": "moons", "split": "test"}}
    files.write_json(folder / "a.json", {**result, "evaluation": summary["evaluation"]})
    wanted = _read_all(folder)
    names = ["run.json", "summary.json", "a.json", "metrics.jsonl", "guard.jsonl"]
    for number in range(tries):
        name = names[number % len(names)]
        path = folder / name
        content = path.read_bytes()
        kinds = list(JSON_DAMAGES)
        kind = kinds[number // len(names) % len(kinds)]
        after = JSON_DAMAGES[kind](content, rng)
        path.write_bytes(after)
        what = f"{name}, {kind}"
        try:
            found = _read_all(folder)
            strict = _error(lambda: runs.Run(str(folder)).record)
        except Exception as error:
            count.lost.append(f"{what}: {type(error).__name__}: {error}")
            continue
        finally:
            path.write_bytes(content)
        if strict is not None and not named(path, strict):
            count.lost.append(f"{what}: {strict}")
            continue
        wrong = [key for key in wanted if key != "notes" and not _within(found, wanted, key)]
        same = all(found.get(key) == wanted[key] for key in wanted if key != "notes")
        told = any(name in note for note in found["notes"] if note not in wanted["notes"])
        if wrong:
            count.lost.append(f"{what}: other {', '.join(wrong)}")
        elif same:
            count.survived("the same was read")
        elif name == "a.json" and kind in OTHERS:
            count.survived("taken for a file of somebody else")
        else:
            count.check(told, "left out, the file named", f"{what}: left out silently")
    return count


def _within(found: dict[str, Any], wanted: dict[str, Any], key: str) -> bool:
    """Whether what is told is as it was, a part of it, or nothing."""
    value = found.get(key)
    if isinstance(wanted[key], list) and key in ("metrics", "guard"):
        return set(value or ()) <= set(wanted[key])
    return value == wanted[key] or not value


def _error(work: Callable[[], Any]) -> BaseException | None:
    """What `work` raises, of the kinds that the commands show as one line."""
    try:
        work()
    except (ValueError, OSError) as error:
        return error
    return None


@case("damaged file", "a run's files, when the training goes on", short=10, long=54)
def continued(place: Path, tries: int, rng: random.Random) -> Count:
    """Refused by name, or gone on with the same progress; a damaged summary is not the end."""
    count = Count()
    names = ["identity.json", "run.json", "summary.json", "metrics.jsonl", "guard.jsonl"]
    for number in range(tries):
        name = names[number % len(names)]
        kinds = list(JSON_DAMAGES)
        kind = kinds[(number // len(names) + 2 * (number % len(names))) % len(kinds)]
        folder = place / f"run{number}"
        shutil.copytree(finished_run(), folder)
        path = folder / name
        path.write_bytes(JSON_DAMAGES[kind](path.read_bytes(), rng))
        what = f"{name}, {kind}"
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                with jobs.quiet():
                    trainer = jobs.trainer(str(folder))
            except (OSError, ValueError) as error:
                count.check(named(path, error), "refused, the file named", f"{what}: {error}")
                continue
            except Exception as error:
                count.lost.append(f"{what}: {type(error).__name__}: {error}")
                continue
        told = any(name in str(one.message) for one in said)
        if name == "summary.json":
            right = told and not trainer.finished
            count.check(right, "evaluated again, and said so", f"{what}: taken for whole")
        else:
            right = trainer.resumed and int(trainer.progress.epoch.numpy()) == 2
            count.check(right, "went on, the file left out or the same", f"{what}: not continued")
        del trainer
    return count


@case("damaged file", "record of an evaluation (.partial)", short=18, long=900)
def record(place: Path, tries: int, rng: random.Random) -> Count:
    path, count = place / "out.json.partial", Count()
    identity = {"seed": 0, "batch_size": 16, "examples": 64}
    pieces = {f"PGD/0/{first}": {"broken": [1, 3], "costs": [0.5, 1, 2]} for first in (0, 16)}
    state = EvaluationState(str(path))
    state.open(identity)
    for key, piece in pieces.items():
        state.put(key, piece)
    state.save()
    content = path.read_bytes()
    for kind, after in damaged(tries, JSON_DAMAGES, content, rng):
        path.write_bytes(after)
        state = EvaluationState(str(path))
        try:
            state.open(identity)
        except (ValueError, OSError) as error:
            count.check(named(path, error), "refused, the file named", f"{kind}: {error}")
        except Exception as error:
            count.lost.append(f"{kind}: {type(error).__name__}: {error}")
        else:
            right = {key: state.get(key) for key in pieces} == pieces
            count.check(right, "the same was read", f"{kind}: other verdicts")
    return count


@case("damaged file", "results of shards, merged", short=9, long=90)
def results(place: Path, tries: int, rng: random.Random) -> Count:
    """`bin/evaluate --merge`: exit status 2, one line, nothing written."""
    count, path, output = Count(), place / "1.json", place / "all.json"
    own = files.read_json(finished_run() / "summary.json")["evaluation"]
    about = {"run_dir": "run", "data": {"name": "moons", "split": "test"}}
    files.write_json(path, {**about, "evaluation": {**own, "shard": [1, 1]}})
    content = path.read_bytes()
    for kind, after in damaged(tries, JSON_DAMAGES, content, rng):
        path.write_bytes(after)
        with jobs.quiet():
            status = evaluate_command.main([f"--merge={path}", f"--output={output}"])
        if status == 0 and output.exists():
            same = files.read_json(output)["evaluation"]["worst_case_accuracy"]
            right = same == own["worst_case_accuracy"] and kind == "a byte flipped"
            count.check(right, "the same was read", f"{kind}: taken for whole")
            output.unlink()
        else:
            count.check(status == 2 and not output.exists(), "refused", f"{kind}: status {status}")
    return count


@case("damaged file", "model.keras", short=8, long=500)
def model_file(place: Path, tries: int, rng: random.Random) -> Count:
    path, count = place / "model.keras", Count()
    content = (finished_run() / "model.keras").read_bytes()
    path.write_bytes(content)
    wanted = load_model(path).get_weights()
    x = tf.constant(np.linspace(0, 1, 20, dtype=np.float32).reshape(10, 2))
    logits = np.asarray(load_model(path)(x))
    for kind, after in damaged(tries, DAMAGES, content, rng):
        path.write_bytes(after)
        try:
            model = load_model(path)
        except (ValueError, OSError) as error:
            count.check("model.keras" in str(error), "refused, the file named", f"{kind}: {error}")
            continue
        right = _same(model.get_weights(), wanted) and np.array_equal(np.asarray(model(x)), logits)
        count.check(right, "the same was read", f"{kind}: other weights")
    return count


@case("damaged file", "adversarial images (npz)", short=20, long=500)
def adversarial_images(place: Path, tries: int, rng: random.Random) -> Count:
    """Also with half a file of a killed process beside it."""
    count, numbers = Count(), np.arange(5, dtype=np.int32)
    images = np.linspace(0, 1, 60, dtype=np.float32).reshape(5, 12)
    EvaluationState(None, str(place)).save_images("PGD", "stage0", numbers, images)
    [path] = (place / "PGD").glob("*.npz")
    content = path.read_bytes()
    (place / "PGD" / f".0123abcd.{path.name}").write_bytes(content[:50])
    for kind, after in [("whole", content), *damaged(tries - 1, DAMAGES, content, rng)]:
        path.write_bytes(after)
        try:
            found = load_adversarial(place, "PGD")
        except (ValueError, OSError) as error:
            count.check(path.name in str(error), "refused, the file named", f"{kind}: {error}")
        except Exception as error:
            count.lost.append(f"{kind}: {type(error).__name__}: {error}")
        else:
            right = np.array_equal(found[0], numbers) and np.array_equal(found[1], images)
            count.check(right, "the same was read", f"{kind}: other images")
    return count


@case("damaged file", "study.json", short=18, long=400)
def study(place: Path, tries: int, rng: random.Random) -> Count:
    path, count = place / "study.json", Count()
    files.write_json(path, files.read_json(CLONE / "results" / "digits.json"))
    wanted, content = tables.read(path), path.read_bytes()
    for kind, after in damaged(tries, JSON_DAMAGES, content, rng):
        path.write_bytes(after)
        try:
            found = tables.read(path)
        except (ValueError, OSError) as error:
            count.check(named(path, error), "refused, the file named", f"{kind}: {error}")
        else:
            right = all(found.get(key) == wanted[key] for key in wanted)
            count.check(right, "the same was read", f"{kind}: other numbers")
    return count


@case("damaged file", "the measurement of the precision", short=18, long=400)
def precision_cache(place: Path, tries: int, rng: random.Random) -> Count:
    path, count = place / "precision.json", Count()
    about, seconds = {"kind": "CPU", "name": "one"}, {"float32": 0.25, "bfloat16": 1.5}
    precision._write(str(path), {"device": about, "seconds": seconds})
    content = path.read_bytes()
    for kind, after in damaged(tries, JSON_DAMAGES, content, rng):
        path.write_bytes(after)
        found = precision._read(str(path), about)
        how = "measured again" if found is None else "the same was read"
        count.check(found in (None, seconds), how, f"{kind}: other seconds")
    return count
