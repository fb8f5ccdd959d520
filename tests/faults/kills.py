"""SIGKILL at random moments of a training, an evaluation with a record, an export and a report."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from robust_tf import files
from tests.faults import jobs
from tests.faults.harness import Count, case, finished_run
from tests.training import runs

LIMIT = 900  # seconds after which a process counts as hung


def processes() -> Any:
    """Those of a server that has imported everything once: each begins within milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.jobs", "tests.faults.together"])
    return context


def whole(work: Callable[..., None], *arguments: str) -> float:
    """Runs `work` to its end in a process; the seconds that it took."""
    process = processes().Process(target=work, args=arguments)
    began = time.monotonic()
    process.start()
    process.join(LIMIT)
    if process.exitcode != 0:
        process.kill()
        raise RuntimeError(f"{work.__name__} ended with {process.exitcode}, undisturbed")
    return time.monotonic() - began


def killed(work: Callable[..., None], arguments: Sequence[str], after: float) -> bool:
    """Starts `work` and kills it after so many seconds; whether it had not ended before."""
    process = processes().Process(target=work, args=tuple(arguments))
    process.start()
    process.join(after)
    process.kill()
    process.join()
    return process.exitcode != 0


def _temporary(folder: Path) -> list[str]:
    """Files of a killed process that are still there, in the folder and below."""
    names = [Path(path) / name for path, _, some in os.walk(folder) for name in some]
    return [str(name) for name in names if files.is_leftover(name) or "_temp" in str(name)]


@case("SIGKILL", "of a training, then the same command", short=2, long=20)
def of_training(place: Path, tries: int, rng: random.Random) -> Count:
    straight, count = finished_run(), Count()
    seconds = whole(jobs.train, str(place / "first"))
    runs.assert_same_run(straight, place / "first")
    for number in itertools.count():
        if count.tries == tries:
            break
        folder = place / f"run{number}"
        moment = rng.uniform(0.3, 1) * seconds
        if not killed(jobs.train, [str(folder)], moment):
            seconds *= 0.7  # it had ended before: no try
            continue
        half = _summary_is_whole(folder)
        begun = (folder / "checkpoints" / "last").is_dir()
        whole(jobs.train, str(folder))
        try:
            assert not half, half
            runs.assert_same_run(straight, folder)
            assert not _temporary(folder), _temporary(folder)
        except AssertionError as error:
            count.lost.append(f"killed after {moment:.1f} s: {str(error)[:300]}")
            continue
        count.survived("went on to the same bits" if begun else "began anew to the same bits")
        shutil.rmtree(folder)
    return count


def _summary_is_whole(folder: Path) -> str:
    """What is wrong with the files that a killed training has left; '' if each is whole."""
    for name in ("summary.json", "run.json", "identity.json"):
        if (folder / name).exists():
            try:
                files.read_json(folder / name)
            except files.FileError as error:
                return str(error)
    return ""


def _outputs(
    place: Path,
    tries: int,
    rng: random.Random,
    work: Callable[..., None],
    read: Callable[[Path], Any],
    name: str,
) -> Count:
    """Kills what writes one file or folder; it must be absent or whole, and whole in the end."""
    count, run = Count(), place / "run"
    shutil.copytree(finished_run(), run)
    seconds = whole(work, str(run), str(place / f"straight{name}"))
    wanted = read(place / f"straight{name}")
    for number in itertools.count():
        if count.tries == tries:
            break
        output = place / f"out{number}{name}"
        moment = rng.uniform(0.2, 1) * seconds
        if not killed(work, [str(run), str(output)], moment):
            seconds *= 0.7  # it had ended before: no try
            continue
        there = output.exists()
        if there and read(output) != wanted:
            count.lost.append(f"killed after {moment:.1f} s: what is there is not whole")
            continue
        record = Path(f"{output}.partial").exists()
        whole(work, str(run), str(output))
        how = "went on from its record" if record else "made anew"
        count.check(
            read(output) == wanted and not Path(f"{output}.partial").exists(),
            f"{how}, the same",
            f"killed after {moment:.1f} s: the result differs",
        )
    return count


@case("SIGKILL", "of an evaluation with --output", short=2, long=20)
def of_evaluation(place: Path, tries: int, rng: random.Random) -> Count:
    return _outputs(place, tries, rng, jobs.evaluated, jobs.result_of, ".json")


@case("SIGKILL", "of an export", short=1, long=20)
def of_export(place: Path, tries: int, rng: random.Random) -> Count:
    return _outputs(place, tries, rng, jobs.exported, jobs.logits_of, "")


@case("SIGKILL", "of a report", short=1, long=20)
def of_report(place: Path, tries: int, rng: random.Random) -> Count:
    return _outputs(place, tries, rng, jobs.reported, jobs.page_of, ".html")
