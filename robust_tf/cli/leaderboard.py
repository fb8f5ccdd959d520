"""`bin/report --leaderboard`: reads a folder of results and writes the page."""

from __future__ import annotations

import datetime
import os
import sys
import time

from robust_tf import report
from robust_tf.report import entries, leaderboard, result_files, saving
from robust_tf.studies.leaderboard import rows_of


def write(folder: str, output: str | None, overwrite: bool, command: str) -> None:
    """Writes the leaderboard of a folder, and says what was left out.

    Args:
      folder: with run folders, results of `bin/evaluate` and `study.json` files, at any depth.
      output: the page; None: leaderboard.html in the folder.
      overwrite: also replaces a page on another folder.
      command: that asks for it.

    Raises:
      FileError: no such folder, or no place for the page. ValueError: Jinja is not installed.
    """
    start = time.monotonic()
    output = output or os.path.join(folder, "leaderboard.html")
    found = result_files.search(folder)
    replaces = saving.check_free(output, [folder], overwrite)
    rows, left_out = rows_of(found)
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    everything = [*rows, *entries.published()]
    report.write(output, leaderboard.build(everything, left_out, folder, command, made))
    for one in left_out:
        print(f"left out: {one}", file=sys.stderr)
    done = "replaced" if replaces else "wrote"
    print(
        f"{done} {output} in {time.monotonic() - start:.0f} seconds: {len(rows)} rows, "
        f"{len(left_out)} left out; open it in a browser."
    )
