"""What a first and a second signal do, to Python and to what waits outside of it."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from robust_tf import stopping
from robust_tf.cli import command


def test_a_signal_raises_where_nothing_is_saved():
    usual = signal.getsignal(signal.SIGTERM)
    with pytest.raises(stopping.Stopped) as error, stopping.handled():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    assert error.value.status == 143 and "SIGTERM" in str(error.value)
    assert signal.getsignal(signal.SIGTERM) is usual


@pytest.mark.parametrize("outer", [stopping.handled, stopping.deferred])
def test_a_first_signal_waits_and_a_second_one_does_not(outer):
    """In a command, where a thread watches, a second one would end the process; see below."""
    with pytest.raises(stopping.Stopped) as error, outer(), stopping.deferred():
        assert stopping.asked() is None
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        assert stopping.asked() == signal.SIGINT
        if outer is stopping.deferred:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
    assert error.value.status == (143 if outer is stopping.deferred else 130)
    assert stopping.asked() is None


def test_handlers_of_a_program_stay_its_own():
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append(1))
    try:
        with stopping.handled(), stopping.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
            assert stopping.asked() is None
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [1]


def test_a_command_has_the_status_of_its_signal(capsys):
    @command
    def main(argv=None):
        with stopping.handled():
            os.kill(os.getpid(), argv)
            time.sleep(10)

    assert [main(signal.SIGINT), main(signal.SIGTERM)] == [130, 143]
    assert capsys.readouterr()[1].split("\n")[1] == "ended by SIGTERM"


def ended(program, signals):
    """Status and words of a program that says when it is ready, and of each signal a line."""
    text = "import ctypes, signal, time\nfrom robust_tf import stopping\n" + textwrap.dedent(
        program
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", text],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    limit = threading.Timer(120, process.kill)
    limit.start()
    try:
        process.stdout.readline()
        words = b""
        for number in signals:
            process.send_signal(number)
            words += process.stderr.readline()
        process.wait()  # and only then is read what it writes, which it waits for
        return process.returncode, (words + process.stderr.read()).decode()
    finally:
        limit.cancel()
        process.kill()
        process.communicate()


# The main thread takes no signal and runs no handler: as when TensorFlow waits for another worker.
# From the moment that it is ready it is in C: a pipe does not hold so much, and nobody reads it.
STUCK = """
stopping.PATIENCE = 1.0
with stopping.handled(){more}:
    signal.pthread_sigmask(signal.SIG_BLOCK, stopping.SIGNALS)
    text = b"ready\\n" + bytes(1 << 22)
    ctypes.CDLL(None).write(1, text, ctypes.c_size_t(len(text)))
"""


def test_what_waits_outside_of_python_ends_too():
    status, words = ended(STUCK.format(more=""), [signal.SIGTERM])
    assert status == 143 and words == "SIGTERM: ended, in the middle of what it waited for.\n"


def test_what_waits_outside_of_python_is_saved_by_another_thread():
    program = """
    import sys
    def save():
        print("kept", file=sys.stderr, flush=True)
        {then}
    """
    for then, more in (("pass", ""), ("raise OSError('disk full')", "not saved: disk full\n")):
        stuck = STUCK.format(more=", stopping.saving(save)")
        status, words = ended(textwrap.dedent(program).format(then=then) + stuck, [signal.SIGTERM])
        assert status == 143
        assert words == f"kept\n{more}SIGTERM: ended, in the middle of what it waited for.\n"


def test_a_second_signal_ends_even_what_is_being_saved():
    status, words = ended(
        STUCK.format(more=", stopping.deferred()"), [signal.SIGTERM, signal.SIGINT]
    )
    assert status == 130
    assert words.splitlines() == [
        "SIGTERM: saving after the current steps; a second signal ends at once.",
        "SIGINT: the second signal: ended at once.",
    ]


def test_an_ignored_signal_stays_ignored():
    program = """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stopping.handled(), stopping.deferred(), stopping.at_once():
        print("ready", flush=True)
        time.sleep(2)
    """
    assert ended(program, [signal.SIGINT]) == (0, "")


def test_a_handler_of_a_program_has_all_the_time_it_needs():
    """As has one that came later: nobody else ends the process, also at a second signal."""
    program = """
    came = []
    stopping.PATIENCE = 0.2
    {early}
    with stopping.handled(){more}:
        {late}
        print("ready", flush=True)
        while len(came) < 2:
            time.sleep(0.01)
        time.sleep(1)
    """
    own = (
        'signal.signal(signal.SIGTERM, lambda *_: (came.append(1), print("own", file=sys.stderr)))'
    )
    for places in ({"early": own, "late": ""}, {"early": "", "late": own}):
        for more in ("", ", stopping.deferred()"):
            text = "import sys\n" + textwrap.dedent(program).format(more=more, **places)
            assert ended(text, [signal.SIGTERM] * 2) == (0, "own\nown\n")


def test_what_replaces_handlers_is_put_right():
    with pytest.raises(stopping.Stopped), stopping.handled():
        assert not stopping.usual(signal.SIGTERM)
        restore = stopping.restored()
        signal.signal(signal.SIGTERM, lambda *_: None)
        restore()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    assert stopping.usual(signal.SIGTERM)
