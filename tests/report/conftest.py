"""Small run folders and the pages made of them."""

from __future__ import annotations

import functools
import json
import os
from typing import Any

import pytest

from robust_tf import data, evaluation, files, inference, models, report, runs
from robust_tf.attacks import PGD
from robust_tf.report import model_analysis
from robust_tf.training import run_folder
from robust_tf.version import __version__
from tests.tiny import CLASSES, labelled, tiny_network

CONFIG = """\
# Macros:
eps = 0.1
step_size = 0.025
steps = 4

ADR.attack = @PGD()
data.name = 'digits'
train.batch_size = 32
train.epochs = 2
train.method = @ADR
train.network = @CNN
"""
VERSIONS = {"robust_tf": __version__, "tensorflow": "2.21.0", "keras": "3.15.1", "python": "3.11.7"}
HOSTILE = "a<script>alert('x')</script> & \"b\""


NETWORK = functools.cache(tiny_network)  # so that an attack is compiled once
# A report reads what it can of a folder that is damaged.
read_run = functools.partial(runs.read_run, tolerant=True)


class Thirds:
    """Stands for the catalogue: images for `tiny_network`."""

    def __call__(self, run: runs.Run) -> data.Data:
        splits = [data.Split(*labelled(n, seed)) for seed, n in enumerate((20, 10, 24))]
        return data.Data("thirds", *splits, num_classes=CLASSES)


def measure(
    examples: int = 24, eps: tuple[float, ...] = (0.1,), checks: bool = False, seed: int = 0
) -> dict[str, Any]:
    """The JSON of an evaluation of `tiny_network` on those images."""
    x, y = labelled(24, 2)
    attacks = [PGD(eps=one, step_size=one / 4, steps=3) for one in eps]
    network = NETWORK(seed=seed)
    result = evaluation.evaluate(network, (x, y), attacks, max_examples=examples, checks=checks)
    return result.to_json()


def make_run(folder: Any, seed: int = 0) -> str:
    """A finished run of `tiny_network` with the weights of a seed, as version 0.1 left it."""
    os.makedirs(folder, exist_ok=True)
    summary: dict[str, Any] = {
        "method": "ADR",
        "weights": {"clean": 0.5, "adversarial": 0.5, "local": 1.0, "global_": 1.0},
        "configuration": CONFIG,
        "natural_accuracy": 0.9,
        "training_seconds": 90.0,
        "parameters": 1234,
        "selected": "last",
        "best_epoch": 2,
        "data": {"name": "thirds", "fingerprint": "0123456789abcdef", "train": 20, "test": 24},
        "versions": VERSIONS,
    }
    summary["evaluation"] = measure(checks=True, seed=seed)
    rows = [
        {
            "epoch": k,
            "step": 3 * k,
            "loss": 1.0 / k + seed,
            "local": 0.1,
            "natural_accuracy": 0.5 + 0.1 * k,
            "robust_accuracy": 0.3 + 0.1 * k,
            "val_natural_accuracy": 0.6,
            "val_robust_accuracy": float("nan") if k == 1 else 0.4,
        }
        for k in (1, 2)
    ]
    files.write_text(os.path.join(folder, "config.gin"), CONFIG)
    files.write_json(os.path.join(folder, "identity.json"), {"identity": CONFIG})
    files.write_json(os.path.join(folder, "summary.json"), summary)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    files.write_text(os.path.join(folder, "metrics.jsonl"), lines)
    run_folder.save_model(NETWORK(seed=seed), os.path.join(folder, "model.keras"))
    return str(folder)


@functools.cache
def behind() -> str:
    """JSON of what oblivious attacks find of `tiny_network` behind IMT+."""
    judge = models.MLPDiscriminator(CLASSES, CLASSES, hidden=(4,))
    model = inference.ManifoldTransformation(NETWORK(seed=0), judge, delta=0.1, gate=(0.3, 0.7))
    attacks = evaluation.named([PGD(eps=0.1, step_size=0.025, steps=3)])
    oblivious = evaluation.oblivious_attacks(model, attacks)
    judged = evaluation.bpda(model)
    return json.dumps(evaluation.evaluate(judged, labelled(24, 2), oblivious).to_json())


def columns() -> dict[str, Any]:
    """A result of `bin/evaluate --inference`, with its three columns."""
    result = json.loads(behind())
    [(name, found)] = result["attacks"].items()
    through = {**found, "attack": found["attack"]["config"]["attack"]}
    result["attacks"][name.replace(evaluation.OBLIVIOUS, evaluation.ADAPTIVE)] = through
    shares = {"oblivious": 0.8, "adaptive": 0.5, "worst case": 0.5}
    return {
        "run_dir": "x",
        "data": {"name": "thirds", "split": "test", "fingerprint": "0123456789abcdef"},
        "inference": {"kind": "imt+", "delta": 0.1},
        "evaluation": result,
        "columns": {"PGD-3 eps=0.1": shares, "all": shares},
    }


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> list[str]:
    """Two finished runs: a usual one with a curve and columns, and one of a hostile name."""
    place = tmp_path_factory.mktemp("runs")
    usual = make_run(place / "usual")
    about = {"name": "thirds", "split": "test", "fingerprint": "0123456789abcdef"}
    several = {"run_dir": usual, "data": about, "evaluation": measure(12, (0.05, 0.1, 0.2))}
    files.write_json(os.path.join(usual, "several.json"), several)
    files.write_json(os.path.join(usual, "imt.json"), columns())
    files.write_json(os.path.join(usual, "notes.json"), {"mine": [1, 2]})
    return [usual, make_run(place / "other", seed=7)]


@pytest.fixture(scope="session")
def made(folders) -> tuple[list[runs.Run], list[model_analysis.ModelAnalysis]]:
    """Those runs, read, and what was computed with the model of each."""
    read = [read_run(folders[0]), read_run(folders[1], HOSTILE)]
    return read, [model_analysis.analyze(run, Thirds(), 20) for run in read]


@pytest.fixture(scope="session")
def page(made) -> str:
    """Their report."""
    return report.build(*made, command="bin/report", made="today")
