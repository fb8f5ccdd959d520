"""Where an exported model comes from: its training and results, as data and as Markdown."""

from __future__ import annotations

import html
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robust_tf import modules
from robust_tf.evaluation import distances, reproduce_command
from robust_tf.inference import ManifoldTransformation
from robust_tf.runs import Result, Run

BARE = ", of the network alone, without the transformation"
NOT_HERE = ", which this export does not hold"


def of_run(run: Run, fingerprint: str | None = None) -> dict[str, Any]:
    """Method, data, eps, recipe and results of a run, JSON-ready; 'missing' says what is not there.

    Results are those of `summary.json` and of every result of `bin/evaluate --output` in the
    folder, each with the command that gives it again. Those of other weights are left out.

    Args:
      run: where the model was trained.
      fingerprint: of the network that is exported, see `evaluation.target_model.fingerprint_of`;
        None: that of the run's own evaluation.
    """
    results, missing = [], []
    if not run.summary.get("evaluation"):
        missing.append("summary.json holds no evaluation: the run has not ended, or is not ours.")
    for result in run.results:
        other = reproduce_command.foreign(run.reports[result.file], fingerprint)
        if other:
            missing.append(f"{result.file} is left out: {other}.")
        else:
            results.append(_result(run, result))
    if not run.configuration:
        missing.append("there is no config.gin: the recipe is not known.")
    return {
        "run_dir": run.path,
        "method": run.method or "unknown",
        "weights": run.terms,
        "data": run.data,
        "eps": run.eps,
        "norm": run.threat,
        "best_epoch": run.summary.get("best_epoch"),
        "selected": run.summary.get("selected") or "last",
        "training_seconds": run.summary.get("training_seconds"),
        "precision": run.precision,
        "versions": run.versions,
        "recipe": run.configuration,
        "modules": modules.entries(run.record["modules"]),
        "results": results,
        "missing": [*missing, *run.left_out],
    }


def _result(run: Run, result: Result) -> dict[str, Any]:
    """Accuracies in [0, 1], the worst case over all attacks among them, and the command."""
    evaluation, data, dataset = result.evaluation, result.data, run.data.get("name")
    if result.file == "summary.json":
        command: str | None = f"bin/evaluate --run_dir={shlex.quote(run.path)}"
        command = f"{command} --max_examples={len(evaluation)}"
        command += f" --draw={reproduce_command.draw_of(evaluation.settings)}"
    else:
        command = reproduce_command.command(
            run.path,
            evaluation,
            data,
            result.inference,
            dataset=dataset,
            imports=result.imports,
        )
    found = {
        "file": result.file,
        "command": command or f"# {reproduce_command.UNSAID}",
        "examples": len(evaluation),
        "natural_accuracy": evaluation.natural_accuracy,
        "robust_accuracy": {
            attack: evaluation.accuracy(attack)
            for attack in evaluation.outcomes
            if attack not in evaluation.distances
        },
        "worst_case_accuracy": evaluation.worst_case_accuracy,
        "eps": sorted({eps for _, eps in evaluation.settings.get("balls", {}).values() if eps}),
        "flags": [flag["title"] for flag in evaluation.flags],
    }
    if evaluation.distances:
        balls = evaluation.settings["balls"]
        found["distances"] = {
            attack: {"norm": balls[attack][0], **distances.summary(distance).to_json()}
            for attack, distance in evaluation.distances.items()
        }
    for key, value in (
        ("dataset", data.get("name") if data.get("name") != dataset else None),
        ("split", data.get("split") if data.get("split") != "test" else None),
        ("shard", evaluation.settings.get("shard")),
        ("inference", result.inference),
    ):
        if value:
            found[key] = value
    return found


def results_text(results: Sequence[dict[str, Any]], defended: bool) -> list[str]:
    """Markdown.

    Args:
      results: see `of_run`.
      defended: whether the export is of a network behind its transformation.
    """
    said = ["", "## Results", ""]
    for result in results:
        radii = result["eps"]
        upto = f" up to eps {radii[-1]:g}" if len(radii) > 1 else ""
        judged = result["robust_accuracy"] or "distances" not in result
        worst = (
            f", worst case over all attacks{upto}, image by image, "
            f"**{percent(result['worst_case_accuracy'])}**"
        )
        said += [
            f"On {_images(result)} ({result['file']}{_behind(result, defended)}): natural "
            f"{percent(result['natural_accuracy'])}{worst if judged else ''}.",
            "",
            "| attack | accuracy |",
            "|---|---|",
            *(f"| {k} | {percent(v)} |" for k, v in result["robust_accuracy"].items()),
            *(f"| {k} | {_distance(v)} |" for k, v in result.get("distances", {}).items()),
            "",
            *(f"* {flag}" for flag in result["flags"]),
            *([""] if result["flags"] else []),
            "```sh",
            result["command"],
            "```",
            "",
        ]
    return said


def _distance(found: dict[str, Any]) -> str:
    """What a minimum-norm attack has found, in place of an accuracy."""
    if found["median"] is None:
        return f"no adversarial image of {percent(1 - found['found'])} of the images"
    return (
        f"median distance of the nearest adversarial image {found['median']:.4g} ({found['norm']})"
    )


def weights_of(model: Any) -> dict[str, dict[str, Any]]:
    """By part, where weights come from that were not trained here; {} where all were."""
    parts = {"network": model}
    if isinstance(model, ManifoldTransformation):
        parts = {"network": model.network, "discriminator": model.discriminator}
    found = {name: getattr(part, "weights_source", None) for name, part in parts.items()}
    return {name: source for name, source in found.items() if source}


def weights_text(sources: Mapping[str, dict[str, Any]] | None) -> list[str]:
    """Of weights from elsewhere, all that is known of them."""
    lines = ["", "## Weights from elsewhere"] if sources else []
    for part, source in (sources or {}).items():
        lines += ["", f"Those of the {part} were converted from a checkpoint:", ""]
        lines += ["| | |", "|---|---|"]
        lines += [f"| {key} | {_cell(value)} |" for key, value in source.items() if value]
    return lines


def _cell(value: Any) -> str:
    """A value in a table: of a list its items, of a dictionary its values by name."""
    if isinstance(value, dict):
        return "; ".join(f"{key} {_cell(one)}" for key, one in value.items())
    items = [f"{one:g}" if isinstance(one, float) else str(one) for one in np.ravel(value)]
    return html.escape(", ".join(items)).replace("|", "&#124;")


def percent(value: float) -> str:
    """'93.40 %' of a share in [0, 1]."""
    return f"{100 * value:.2f} %"


def _images(result: dict[str, Any]) -> str:
    """What a result was measured on: '500 test images'; which, if of another split or data."""
    said = f"{result['examples']:,} {result.get('split', 'test')} images"
    said += f" of {result['dataset']}" if "dataset" in result else ""
    return said + (f", shard {'/'.join(map(str, result['shard']))}" if "shard" in result else "")


def _behind(result: dict[str, Any], defended: bool) -> str:
    """What stands before the network of a result, where that is not clear from the export."""
    inference = result.get("inference")
    if not inference:
        return BARE if defended else ""
    said = f", behind {inference.get('kind', 'a defence')}"
    for name in ("delta", "gate"):
        if inference.get(name):
            value = " to ".join(f"{v:.4g}" for v in np.ravel(inference[name]))
            said += f", {name} {value}"
    return said + ("" if defended else NOT_HERE)
