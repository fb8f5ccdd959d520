"""`bin/report`: one or several runs as an HTML page that needs no network."""

from __future__ import annotations

import datetime
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

from robust_tf.cli import Parser, UserError, command, quiet_start, whole

DEFAULT_RUN = "runs/adr_digits"  # what bin/train without arguments leaves
EXAMPLES = 200
EPILOG = """\
The page holds what the run folders hold: configuration, training curves, and every evaluation in
summary.json and in other JSON files there (bin/evaluate --output=RUN/NAME.json), with what is
missing named. The folder of bin/train --seeds stands for the runs in it; runs that differ in their
seed only are one row, mean and standard deviation. With the model it adds, on a few test images: a
curve over eps, errors by class, images, loss surface, features. Comparisons that a run has made
(RUN/comparison) are included.

A leaderboard is one page over all that a folder holds, at any depth: runs (those that differ in
their seed are one row), results of bin/evaluate --output, study.json of bin/study; beside them
AutoAttack's published table for MNIST. Files that cannot be read are named and left out. It is
written to FOLDER/leaderboard.html.

A report on the same runs is replaced, a report on other runs only with --overwrite. A file that is
no report is never replaced.

examples:
  bin/report --run_dir=runs/adr_digits
  bin/report --run_dir=runs/adr_mnist --run_dir=runs/trades_mnist --output=both.html
  bin/report --run_dir=runs/adr_mnist --evaluation=result.json
  bin/report --leaderboard=results
"""


def parser() -> Parser:
    """The command line."""
    result = Parser(
        prog="report",
        description="Writes a report on one or several training runs: a single HTML file, to be "
        "opened in any\nbrowser, without a network.",
        epilog=EPILOG,
    )
    result.add_argument(
        "--run_dir",
        metavar="DIR",
        action="append",
        help=f"folder of a run, finished or not; may be repeated (default: {DEFAULT_RUN})",
    )
    result.add_argument(
        "--leaderboard",
        metavar="FOLDER",
        help="instead of a report: one table over all runs and results in a folder",
    )
    result.add_argument(
        "--output",
        metavar="FILE",
        help="default: report.html in the first run folder, or leaderboard.html in FOLDER",
    )
    result.add_argument(
        "--evaluation",
        metavar="FILE",
        action="append",
        default=[],
        help="result of bin/evaluate that lies outside its run folder; may be repeated",
    )
    result.add_argument(
        "--examples",
        type=whole(5),
        default=EXAMPLES,
        metavar="N",
        help=f"test images for what is computed with the model, 5 or more (default: {EXAMPLES})",
    )
    result.add_argument(
        "--no_model", action="store_true", help="read files alone, compute nothing with a model"
    )
    result.add_argument(
        "--data_dir", metavar="DIR", help="TensorFlow datasets; default: TFDS_DATA_DIR"
    )
    result.add_argument(
        "--seed", type=whole(0), default=0, metavar="N", help="of what is computed (default: 0)"
    )
    result.add_argument("--overwrite", action="store_true", help="replace a report on other runs")
    return result


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    options = parser().parse_args(argv)
    if options.leaderboard:
        return _leaderboard(options, argv)
    folders = list(dict.fromkeys(options.run_dir or [DEFAULT_RUN]))
    output = options.output or os.path.join(folders[0], "report.html")
    # TensorFlow takes seconds to import: not before the arguments are known to be right.
    with quiet_start():
        import tensorflow as tf

        from robust_tf import modules, report
        from robust_tf.report import model_analysis, page, saving

    tf.get_logger().setLevel("ERROR")  # it warns of many small graphs, which are meant
    start = time.monotonic()
    page.plotly()  # missing, it is better said now than at the end
    for name in options.imports:
        modules.load(name)
    runs = _runs(folders)
    _attach(runs, options.evaluation)
    replaces = saving.check_free(output, folders, options.overwrite)
    read = model_analysis.Datasets(options.data_dir)
    analyses = []
    for run in runs:
        if options.no_model:
            analyses.append(model_analysis.of_threat(run))
            continue
        analyses.append(
            model_analysis.analyze(run, read, options.examples, options.seed, progress=_progress)
        )
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    line = shlex.join(["bin/report", *argv])
    report.write(output, report.build(runs, analyses, line, made, folders))
    for run, analysis in zip(runs, analyses, strict=True):
        for note in dict.fromkeys([*run.notes, *analysis.notes]):
            print(f"{run.name}: {note}", file=sys.stderr)
    done = "replaced" if replaces else "wrote"
    print(f"{done} {output} in {time.monotonic() - start:.0f} seconds; open it in a browser.")
    return 0


def _leaderboard(options: Any, argv: Sequence[str]) -> int:
    """The page over a folder."""
    for name in ("run_dir", "evaluation"):
        if getattr(options, name):
            raise UserError(
                f"--{name} goes without --leaderboard, which takes all that lies in its folder."
            )
    with quiet_start():
        from robust_tf import modules
        from robust_tf.cli import leaderboard
    for name in options.imports:
        modules.load(name)
    line = shlex.join(["bin/report", *argv])
    leaderboard.write(options.leaderboard, options.output, options.overwrite, line)
    return 0


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _runs(folders: Sequence[str]) -> list[Any]:
    """The runs and the comparisons that they made, with names that differ."""
    from robust_tf.runs import read_run

    paths = []
    for folder in folders:
        for path in _of_seeds(folder) or [folder]:
            paths.append(path)
            paths += _comparisons(path)
    paths = list(
        dict.fromkeys(os.path.normpath(path) if "://" not in path else path for path in paths)
    )
    bases = [os.path.basename(path) for path in paths]
    runs: list[Any] = []
    for path, base in zip(paths, bases, strict=True):
        name, above = base, os.path.dirname(os.path.abspath(path))
        if os.path.basename(above) == "comparison":
            name = f"{os.path.basename(os.path.dirname(above))}/{base}"
        elif base == "comparison" or base.startswith("seed-") or bases.count(base) > 1:
            name = f"{os.path.basename(above)}/{base}"
        if name in [run.name for run in runs]:
            name = path
        runs.append(read_run(path, name, tolerant=True))
    return runs


def _of_seeds(folder: str) -> list[str]:
    """The runs of `bin/train --seeds` in their folder; [] where it is the folder of one run."""
    import tensorflow as tf

    from robust_tf import files

    if not files.is_folder(folder) or files.exists(os.path.join(folder, "identity.json")):
        return []
    names = [name.rstrip("/") for name in tf.io.gfile.listdir(folder)]
    seeds = sorted(int(n.removeprefix("seed-")) for n in names if re.fullmatch(r"seed-\d+", n))
    found = [os.path.join(folder, f"seed-{seed}") for seed in seeds]
    return [path for path in found if files.exists(os.path.join(path, "identity.json"))]


def _comparisons(run_dir: str) -> list[str]:
    """The folders of the runs that a run was compared with: one each, in version 0.1 one in all."""
    import tensorflow as tf

    from robust_tf import files

    folder = os.path.join(run_dir, "comparison")
    if not files.is_folder(folder):
        return []
    names = ["", *sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))]
    found = [os.path.join(folder, name).rstrip("/") for name in names]
    return [path for path in found if files.exists(os.path.join(path, "identity.json"))]


def _attach(runs: Sequence[Any], paths: Sequence[str]) -> None:
    """Adds evaluations that lie elsewhere to the runs that they name.

    Raises:
      UserError: a file that is no evaluation, or of a run or weights that are not among these.
    """
    from robust_tf import files, modules
    from robust_tf.evaluation import reproduce_command
    from robust_tf.runs.results import read_result

    for path in paths:
        content = files.read_json(path)
        if not isinstance(content, dict) or "evaluation" not in content:
            raise UserError(f"{path} is not a result of bin/evaluate.")
        named = str(content.get("run_dir", ""))
        own = [run for run in runs if os.path.abspath(run.path) == os.path.abspath(named)]
        own = own or [run for run in runs if os.path.basename(run.path) == os.path.basename(named)]
        if len(own) == 1:
            other = reproduce_command.foreign(content, own[0].fingerprint)
            if other:
                raise UserError(f"{path} cannot join {own[0].path}: {other}.")
            read = {os.path.abspath(os.path.join(own[0].path, m.file)) for m in own[0].results}
            if os.path.abspath(path) in read:  # with its run
                continue
        if len(own) != 1:
            known = ", ".join(run.path for run in runs)
            raise UserError(f"{path} is of {named or 'no run'}, which is not one of {known}.")
        modules.import_recorded(content.get("modules"), path)
        try:
            own[0].results.append(read_result(path, content))
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error


def run() -> None:
    """Console entry point."""
    sys.exit(main())


if __name__ == "__main__":
    run()
