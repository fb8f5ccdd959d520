"""robust_tf: image classifiers in Keras that withstand adversarial examples, and their evaluation.

    import robust_tf

    digits = robust_tf.data.load("digits")
    attack = robust_tf.attacks.PGD(eps=0.15, step_size=0.01, steps=40)
    print(robust_tf.evaluate(model, digits.test, [attack]))

Packages and functions are loaded when they are first used: `import robust_tf` alone takes no
TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from robust_tf.version import __version__

if TYPE_CHECKING:  # for editors and type checkers, which do not see __getattr__
    from robust_tf import (
        attacks,
        data,
        evaluation,
        export,
        figures,
        inference,
        losses,
        methods,
        models,
        modules,
        recipes,
        report,
        runs,
        studies,
        training,
    )
    from robust_tf.evaluation import evaluate
    from robust_tf.evaluation.loading import load_model
    from robust_tf.runs import load_run

__all__ = [
    "__version__",
    "attacks",
    "data",
    "evaluate",
    "evaluation",
    "export",
    "figures",
    "inference",
    "load_model",
    "load_run",
    "losses",
    "methods",
    "models",
    "modules",
    "recipes",
    "report",
    "runs",
    "studies",
    "training",
]

# Where the functions are; every other name is a package or module of its own.
_FUNCTIONS = {
    "evaluate": "robust_tf.evaluation",
    "load_model": "robust_tf.evaluation.loading",
    "load_run": "robust_tf.runs",
}

if not TYPE_CHECKING:  # with it every misspelt name would pass a type checker

    def __getattr__(name: str) -> Any:
        """The package or function of this name, loaded now (PEP 562)."""
        if name in _FUNCTIONS:
            value = getattr(importlib.import_module(_FUNCTIONS[name]), name)
            globals()[name] = value
            return value
        if name in __all__:
            return importlib.import_module(f"robust_tf.{name}")
        raise AttributeError(f"module 'robust_tf' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What the library offers, for completion."""
    return sorted(__all__)
