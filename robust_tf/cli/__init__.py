"""The commands: one file each, `main(argv) -> exit status`; errors of the user are one line."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from robust_tf import modules

Main = Callable[..., int]


# Of options: what cannot be empty.
_PATHS = ("DIR", "FILE", "PATH", "PATHS")


class UserError(Exception):
    """Something that the user can mend; the message says what and how."""


class Parser(argparse.ArgumentParser):
    """argparse that raises `UserError` where it would exit, and takes no abbreviations.

    Every command has `--import` (`imports` in what is parsed) and `--no_import`, which is in force
    from then on.

    Args:
      prog: the command, such as 'train'; help shows it, and each `bin/COMMAND` in its texts, by the
        name under which it was started, see `command_name`.
      description: what it does.
      epilog: kinds, examples.
    """

    def __init__(self, prog: str, description: str, epilog: str):
        super().__init__(
            prog=command_name(prog),
            description=_by_name(description),
            epilog=_by_name(epilog),
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        own = self.add_argument_group("modules of your own")
        own.add_argument(
            "--import",
            dest="imports",
            action="extend",
            type=lambda text: [part.strip() for part in text.split(",") if part.strip()],
            default=[],
            metavar="LIST",
            help="such as my_lab or lab/my_lab.py, divided by commas: imported first, so that its "
            "attacks, methods, networks, data and figures have names; may be repeated",
        )
        own.add_argument(
            "--no_import",
            action="store_true",
            help="import no module but those of --import, also where a run or a recipe names one",
        )

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """As argparse's."""
        options = super().parse_args(*args, **kwargs)
        for action in self._actions:
            given = getattr(options, action.dest, None)
            values = given if isinstance(given, list) else [given]
            if action.metavar in _PATHS and any(one == "" for one in values):
                self.error(f"{action.option_strings[0]} is empty: give a {action.metavar}")
        if options.no_import:
            modules.refuse()
        return options

    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        """As argparse's, commands in the help by their names."""
        if kwargs.get("help"):
            kwargs["help"] = _by_name(kwargs["help"])
        return super().add_argument(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raises `UserError`."""
        raise UserError(f"{message}; see {self.prog} --help.")


def command_name(command: str) -> str:
    """How a user types a command: `bin/train` in a clone, `robust-tf-train` if installed."""
    if os.environ.get("ROBUST_TF_PROG", "").startswith("bin/"):  # set by the launchers
        return f"bin/{command}"
    module = os.path.basename(os.path.dirname(sys.argv[0])) == "cli"
    return f"python -m robust_tf.cli.{command}" if module else f"robust-tf-{command}"


def _by_name(text: str) -> str:
    return re.sub(r"\bbin/(\w+)", lambda found: command_name(found[1]), text)


def command(main: Main) -> Main:
    """Makes errors of the user one line `error: ...` on stderr, and the exit status 2.

    These are `UserError`, `ValueError`, `OSError` (files, disks), `data.DataError`, and an
    `ImportError` that says which package to install. Anything else is a defect and keeps its
    traceback. Ctrl-C gives 130.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
        if "" not in sys.path and os.getcwd() not in sys.path:
            sys.path.append("")  # last, so that no file there takes the name of a package
        try:
            with warnings.catch_warnings(), modules.scope():
                warnings.showwarning = _show
                return main(argv)
        except KeyboardInterrupt as error:  # `Stopped` says more, and by which signal
            print(str(error) or "interrupted", file=sys.stderr)
            return getattr(error, "status", 130)
        except Exception as error:
            if not _of_the_user(error):
                raise
            # gin adds where it was called from, of no use to who types a command
            message = re.sub(r"\n\s*In call to configurable .*", "", str(error)).strip()
            print(f"error: {message}", file=sys.stderr)
            return 2

    return wrapped


def _show(
    message: Warning | str, category: type[Warning], *where: object, **options: object
) -> None:
    """One line, without the place in the program; none for what is addressed to developers."""
    if not issubclass(category, (DeprecationWarning, PendingDeprecationWarning)):
        print(f"{getattr(category, 'kind', 'warning')}: {message}", file=sys.stderr)


@contextlib.contextmanager
def quiet_start() -> Iterator[Callable[[str], None]]:
    """Without the lines that TensorFlow's C++ writes as it starts, whatever the settings.

    They go straight to file descriptor 2, so that is where they are caught; if the start fails they
    are shown. On a machine without a GPU the search for one is part of the start. Gives a function
    that writes a line there nevertheless.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield lambda text: _write(terminal, text)
            if "tensorflow" in sys.modules:
                sys.modules["tensorflow"].config.list_logical_devices()
        except (ValueError, OSError, KeyboardInterrupt):  # of the user: its message is enough
            raise
        except BaseException:
            caught.seek(0)
            os.write(terminal, caught.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _write(descriptor: int, text: str) -> None:
    with os.fdopen(os.dup(descriptor), "w") as terminal:
        print(text, file=terminal)


def _of_the_user(error: Exception) -> bool:
    if isinstance(error, (UserError, ValueError, OSError)):
        return True
    if isinstance(error, MemoryError) and str(error):  # said by us; Python's own says nothing
        return True
    if isinstance(error, ImportError) and "pip install" in str(error):
        return True  # an extra of the library is missing
    from robust_tf.data import DataError  # imports TensorFlow: not for --help

    return isinstance(error, DataError)


def whole(least: int) -> Callable[[str], int]:
    """An argparse type: whole numbers from `least` on."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number >= {least}")
        return value

    return convert


def seed_list(text: str) -> list[int]:
    """An argparse type: '0,1,2', whole numbers >= 0 that differ."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be whole numbers >= 0 that differ, divided by commas, such as 0,1,2"
        )
    return [int(part) for part in parts]
