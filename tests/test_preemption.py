"""Who may be ended by a signal: a process that the command line owns, and no notebook."""

import os
import signal
import subprocess
import sys
import time

import pytest

from inception_jax.preemption import PreemptedError, PreemptionHandler
from tests.conftest import ROOT


def wait_for(condition):
    until = time.monotonic() + 5
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    assert condition()


def test_a_process_that_the_command_line_does_not_own_survives_a_signal_and_stops_later():
    with PreemptionHandler() as preemption:
        os.kill(os.getpid(), signal.SIGINT)
        wait_for(lambda: preemption.is_requested)
        with pytest.raises(PreemptedError):
            preemption.raise_if_requested()


def test_a_second_interrupt_raises_in_a_process_that_the_command_line_does_not_own():
    before = signal.getsignal(signal.SIGINT)
    with PreemptionHandler() as preemption, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            wait_for(lambda: preemption.is_requested)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("owned", "code"), [(True, 75), (False, 0)])
def test_an_interrupt_ends_the_process_of_a_command_and_no_kernel(owned, code):
    program = (
        "import os, signal, time\n"
        "from inception_jax.preemption import PreemptionHandler, PreemptedError\n"
        f"PreemptionHandler.owns_process = {owned}\n"
        "with PreemptionHandler() as preemption:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(1)\n"  # one long call, as compiling is
        "print('alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "" if owned else "alive\n"), done.stderr
