"""What tasks of the tests do, without TensorFlow: `main` as of a command."""

import json
import os
import signal
import sys
import time
from pathlib import Path


def main(arguments):
    """WHAT OUTPUT [MORE]: writes what it sees, waits, fails or kills its process."""
    what, output, *more = arguments
    if what == "wait":
        try:
            Path(f"{output}.pid").write_text(str(os.getpid()))
            for _ in range(3000):  # Ray's request is seen between two lines, not inside of one
                time.sleep(0.1)
        except KeyboardInterrupt:
            Path(f"{output}.asked").touch()
            return 130
    if what == "stubborn":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        Path(f"{output}.pid").write_text(str(os.getpid()))
        time.sleep(300)
    if what == "refuse":
        print("note: before", file=sys.stderr)
        print(f"error: {more[0]}", file=sys.stderr)
        return 2
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    seen = {name: os.environ.get(name) for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")}
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES")
    Path(output).write_text(json.dumps({**seen, "gpu": gpu, "more": more}))
    return 0
