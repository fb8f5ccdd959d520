"""Studies: tables of a paper, or questions of ours, trained, attacked and judged by one command.

As `bin/study` does, for one seed:

    from robust_tf import studies

    plan = studies.Plan(studies.load("digits"))
    studies.run(plan, seeds=[0])
    print(studies.table(studies.summarize(plan, [0])))
"""

from robust_tf.studies.claims import Above, All, AtLeast, Claim, Faster, Metric, Ruling
from robust_tf.studies.plan import Plan, load, names
from robust_tf.studies.runner import run
from robust_tf.studies.statistics import Paired, bootstrap, mcnemar, mean_and_std, paired
from robust_tf.studies.study import Row, Study
from robust_tf.studies.summary import summarize
from robust_tf.studies.tables import rewrite, table

__all__ = [
    "Above",
    "All",
    "AtLeast",
    "Claim",
    "Faster",
    "Metric",
    "Paired",
    "Plan",
    "Row",
    "Ruling",
    "Study",
    "bootstrap",
    "load",
    "mcnemar",
    "mean_and_std",
    "names",
    "paired",
    "rewrite",
    "run",
    "summarize",
    "table",
]
