"""The entry point as a process of its own: an interrupt after the command is over."""

import signal
import subprocess
import sys

import pytest

SLOW_EXIT = """
import atexit, time
import pipeline.cli.main as command

def leave():
    print("leaving", flush=True)
    time.sleep(60)

atexit.register(leave)
command.main = lambda: CODE
print("done")
command.console()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("code", [0, 1])
def test_an_interrupt_while_the_process_ends_is_silent_and_keeps_the_exit_code(
    number: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-c", SLOW_EXIT.replace("CODE", str(code))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        assert process.stdout.readline() == "leaving\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, said) == (code, "")
