"""What a task of a study runs in another process: one row with one seed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from robust_tf import modules
from robust_tf.studies.plan import Plan, load
from robust_tf.studies.runner import run_row
from robust_tf.training import make_strategy


def main(argv: Sequence[str]) -> int:
    """Trains and attacks the row that the JSON in `argv` names; 3 if it could not be done."""
    job = json.loads(argv[0])
    try:
        for name in job["imports"]:
            modules.load(name)
        study = load(job["gin_file"], job["params"])
        place = job["study_dir"], job["data_dir"], tuple(job["imports"])
        plan = Plan(study, job["budget"], *place)
        strategy = make_strategy(job["strategy"])
        fault = run_row(plan, plan.study.row(job["row"]), job["seed"], strategy)
    except KeyboardInterrupt:
        return 130
    except ValueError as error:
        fault = str(error)
    if fault:
        print(f"error: {fault}", file=sys.stderr)
    return 3 if fault else 0
