"""`bin/study`: trains and attacks the rows of a study, and judges its claims."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from robust_tf import stopping
from robust_tf.cli import Parser, UserError, command, engine_options, quiet_start, seed_list

EPILOG = """\
A study is a gin file, see gin/studies/: rows (a recipe with changed bindings each), attacks, the
paper's numbers, and claims with their rules. What is missing is trained, what was stopped
continues, and attacks that a run has seen are not repeated, those of bin/train and bin/evaluate
neither. The run of a row lies in STUDY_DIR/NAME/BUDGET/ROW/seed-N; one that bin/train made with
the same recipe and parameters may be moved there. Results: study.json, study.md and study.html in
STUDY_DIR/NAME/BUDGET.

examples:
  bin/study --gin_file=gin/studies/digits.gin --seeds=0,1
  bin/study --gin_file=gin/studies/adr_table1.gin --budget=short --dry_run
  bin/study --gin_file=gin/studies/adr_table1.gin --budget=short --rows=adv,lc --seeds=0,1,2
  bin/study --gin_file=gin/studies/adr_table1.gin --budget=short --seeds=0,1,2 --status
  bin/study --gin_file=gin/studies/digits.gin --seeds=0,1 --output=results/digits.json
  bin/study --gin_file=gin/studies/digits.gin --seeds=0,1 --devices=all
  bin/study --tables=RESULTS.md

exit status: 0 when all is done, 2 when something given was wrong, 3 when a row could not be done
(the others are), 143 when stopped by SIGTERM, 130 by SIGINT: the same command continues.
"""


def parser() -> Parser:
    """The command line."""
    parse = Parser(
        prog="study",
        description="Trains the rows of a study, attacks all alike, and says which claims hold.",
        epilog=EPILOG,
    )
    parse.add_argument("--gin_file", metavar="FILE", help="the study, or its name: digits")
    parse.add_argument(
        "--gin_param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one binding of the study, e.g. Study.examples=500; may be repeated",
    )
    parse.add_argument(
        "--seeds", type=seed_list, default=[0], metavar="LIST", help="e.g. 0,1,2 (default: 0)"
    )
    parse.add_argument(
        "--budget",
        default="paper",
        metavar="NAME",
        help="paper (default): the recipes as they are; or one of the study's, such as short",
    )
    parse.add_argument("--rows", metavar="LIST", help="only these rows, and what they need")
    parse.add_argument(
        "--study_dir",
        default=os.path.join("runs", "studies"),
        metavar="DIR",
        help="folder of all studies (default: runs/studies)",
    )
    parse.add_argument(
        "--data_dir",
        metavar="DIR",
        help="folder of prepared tfds datasets (default: TFDS_DATA_DIR)",
    )
    parse.add_argument("--output", metavar="FILE", help="write study.json there, too")
    what = parse.add_mutually_exclusive_group()
    what.add_argument("--status", action="store_true", help="say what is done, and do nothing")
    what.add_argument(
        "--dry_run",
        action="store_true",
        help="check every row, say what would be done and about how long, write nothing",
    )
    what.add_argument(
        "--tables",
        metavar="FILE",
        help="rewrite the tables of a document from results/*.json: what stands between "
        "<!-- table: results/NAME.json --> and <!-- end -->",
    )
    parse.add_argument(
        "--strategy",
        default="auto",
        metavar="NAME",
        help="auto (default), none, mirrored, tpu or tpu:NAME; as bin/train",
    )
    group = parse.add_argument_group(
        "many devices",
        "a process for each row and seed, as soon as the rows that it needs are done; what they\n"
        "say is printed when they end, --status tells how far they are",
    )
    engine_options.add_options(group, "so many rows at once")
    return parse


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    options = parser().parse_args(argv)
    with stopping.handled():
        return _main(options)


def _main(options: argparse.Namespace) -> int:
    if not options.tables and not options.gin_file:
        raise UserError("no study: give --gin_file=gin/studies/digits.gin, or --tables=RESULTS.md.")
    engine_options.check(options, ("status", "dry_run", "tables"))
    with quiet_start():
        import tensorflow as tf

        from robust_tf import files, modules, studies
        from robust_tf.studies import estimate, status, tasks, writing
        from robust_tf.training import make_strategy

        engine = engine_options.engine(options)
        strategy = None if engine else make_strategy(options.strategy)
    tf.get_logger().setLevel("ERROR")  # it warns of one graph for each row, which is meant
    if options.tables:
        changed = studies.rewrite(options.tables)
        print(f"{options.tables}: {'tables rewritten' if changed else 'nothing to change'}.")
        return 0
    for name in options.imports:
        modules.load(name)
    study = studies.load(options.gin_file, options.gin_param)
    imports = tuple(options.imports)
    plan = studies.Plan(study, options.budget, options.study_dir, options.data_dir, imports)
    if files.exists(options.study_dir) and not files.is_folder(options.study_dir):
        raise UserError(f"--study_dir={options.study_dir} is a file; name a folder.")
    rows = [name.strip() for name in options.rows.split(",")] if options.rows else None
    study.in_order(rows)  # an unknown row is said before anything is done
    if options.status:
        print(status.table(status.states(plan, options.seeds, rows)))
        return 0
    if options.dry_run:
        print(_described(plan, options.seeds, rows))
        print(estimate.table(estimate.Estimator(plan, options.seeds, _note).all(rows)))
        print("dry run: nothing was trained or written.")
        return 0
    if options.output:
        writing.check_free(options.output)
    for row in study.in_order(rows):  # what is wrong with the last is told at once
        for seed in plan.seeds(row, options.seeds):
            plan.recipe(row, seed)
    faults: dict[Any, str] = {}

    def write() -> Any:
        content = studies.summarize(plan, options.seeds, faults)
        return content, writing.write(plan, content, options.output)

    try:
        if engine is None:
            faults |= studies.run(plan, options.seeds, rows, strategy, _say, write)
        else:
            source = tasks.Source(options.gin_file, options.gin_param, options.strategy)
            with engine:
                given = plan, options.seeds, rows, source, engine
                faults |= tasks.run(*given, say=_say, done=write)
    except KeyboardInterrupt:
        print("\nnothing is lost; the same command continues.", file=sys.stderr)
        raise
    finally:
        content, paths = write()
    print(f"\n{studies.table(content)}\n")
    for claim in content["claims"]:
        print(f"{claim['verdict']}: {claim['text']} ({claim['figures']})")
    print(f"results: {', '.join(paths)}")
    for (name, seed), reason in faults.items():
        print(f"error: row {name}, seed {seed}: {reason}.", file=sys.stderr)
    return 3 if faults else 0


def _described(plan: Any, seeds: Sequence[int], rows: Sequence[str] | None) -> str:
    """The command that each row stands for, and the attacks."""
    lines = []
    for row in plan.study.in_order(rows):
        own = plan.seeds(row, seeds)
        if own and not row.of:
            for seed in own:
                plan.recipe(row, seed)
            lines.append(
                f"{row.name}, seed {', '.join(map(str, own))}: {plan.command(row, own[0])}"
            )
        elif own:
            lines.append(f"{row.name}: {row.of} behind {row.inference}")
    for column, text in plan.study.attacks.items():
        images = plan.study.examples_of(column, plan.budget)
        lines.append(f"{column}: {text} on {images or 'all'} test images")
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, flush=True)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run() -> None:
    """Console entry point."""
    sys.exit(main())


if __name__ == "__main__":
    run()
