"""The process of a task: `python -m robust_tf.engines.child MODULE ARGUMENTS`.

It ends when the process that started it does, however that ended: it holds the other end of the
standard input, which closes then.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time

GRACE = 10.0  # seconds from the request to end, after which a process is ended


def main() -> int:
    """Calls `main` of the module; its exit status."""
    # Ignored where the parent was started in the background; here it is how to ask for the end.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    module, *arguments = sys.argv[1:]
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    called = importlib.import_module(module)
    sys.argv = [str(called.__file__), *arguments]  # by which its messages name the command
    return called.main(arguments)


def _end_with_the_parent() -> None:
    os.read(0, 1)  # nothing is ever written: it returns when the other end is closed
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE)
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
