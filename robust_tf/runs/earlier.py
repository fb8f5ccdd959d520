"""The record of a run folder of version 0.1, which has no `run.json`.

Those folders say what a run was given in `config.gin` (gin's text) and, once the run has ended, in
`summary.json`. Nothing else in the library reads values from gin text.
"""

from __future__ import annotations

from typing import Any

from robust_tf.runs import bindings
from robust_tf.runs.record import FORMAT


def record_of(summary: dict[str, Any], configuration: str) -> dict[str, Any]:
    """What `record.describe` would have said of the run, as far as its folder tells it.

    Raises:
      ValueError: the configuration is not gin.
    """
    bound, modules = bindings.parse(configuration)
    own = summary.get("evaluation")
    own = own if isinstance(own, dict) else {}
    attacks = own.get("attacks")
    attacks = attacks if isinstance(attacks, dict) else {}
    method = summary.get("method") or _reference(bound.get("train.method"))
    seed = bound.get("train.seed", own.get("seed"))
    eps = _positive(bound.get("eps"))
    kernel = "TRADES" if bound.get("ADR.attack") == "@TRADESAttack()" else None
    return {
        "format": FORMAT,
        "method": {"name": str(method or ""), "terms": _dictionary(summary.get("weights"))},
        "network": {
            "builder": _reference(bound.get("train.network")),
            "parameters": summary.get("parameters"),
            "num_classes": own.get("num_classes"),
        },
        "data": _data(summary.get("data"), bound.get("data.name")),
        "threat": {
            "norm": "Linf",
            "eps": eps or _largest(own.get("balls")),
            "step_size": _positive(bound.get("step_size")),
            "steps": bound.get("steps"),
            "attack": kernel,
        },
        "attacks": {
            "training": None,
            "validation": None,
            "evaluation": {
                name: part.get("attack") for name, part in attacks.items() if isinstance(part, dict)
            },
        },
        "disc_input": bound.get("ATLD.disc_input", "logits" if method == "ATLD" else None),
        "training": {
            name.removeprefix("train."): value
            for name, value in bound.items()
            if name.startswith("train.")
        },
        "seed": seed if isinstance(seed, int) else None,
        "precision": None,
        "versions": _dictionary(summary.get("versions")),
        "bindings": bound,
        "modules": modules,
    }


def _data(told: Any, name: Any) -> dict[str, Any]:
    """What the summary says of the data; before the run has ended, its name alone."""
    told = _dictionary(told)
    if told.get("name"):
        return told
    return {"name": name} if isinstance(name, str) else {}


def _largest(balls: Any) -> float | None:
    """The largest eps of an evaluation's balls, each (norm, eps)."""
    pairs = [ball for ball in _dictionary(balls).values() if isinstance(ball, list)]
    return max((eps for *_, eps in pairs if _positive(eps)), default=None)


def _positive(value: Any) -> float | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if number and value > 0 else None


def _reference(value: Any) -> str | None:
    """'CNN' of '@robust_tf.CNN'."""
    return value.lstrip("@").split(".")[-1] if isinstance(value, str) else None


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
