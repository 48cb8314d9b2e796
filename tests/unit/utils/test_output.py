"""The work continues where nobody reads what it prints (`| head -1`, a closed terminal) or the log's disk is full."""

import os
import subprocess
import sys

import pytest

PRINTS = """
import os, subprocess, sys, time
from pathlib import Path
from fastscnn.utils.output import outlive_reader
outlive_reader()
from rich.console import Console
from fastscnn.utils.progress import say
print("first", flush=True)
{gone}
for number in range(3):
    print("line", number, flush=True)
    say("progress")
    Console().print("table")
    print("to stderr", file=sys.stderr)
subprocess.run([sys.executable, "-c", "print('a child')"], check=True)
print("at the end")
Path(sys.argv[1]).write_text("the result")
"""
COMMAND = """
import sys
from pathlib import Path
from fastscnn.cli.launch import launch
def command(config):
    for number in range(3):
        print("line", number, flush=True)
    Path("result").write_text("the result")
if __name__ == "__main__":
    launch("dashboard", command)
"""


def without_reader(arguments, cwd, *, stderr):
    """Run Python with a stdout (and stderr) whose reader is gone; returns what came of it and the text of stderr."""
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        errors = theirs if stderr else subprocess.PIPE
        done = subprocess.run([sys.executable, *arguments], cwd=cwd, stdout=theirs, stderr=errors, timeout=120)
    finally:
        os.close(theirs)
    return done.returncode, (done.stderr or b"").decode()


@pytest.mark.parametrize("options", [[], ["-u"]], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("both", [False, True], ids=["stdout", "both"])
def test_work_continues_without_a_reader(options, both, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PRINTS.format(gone=""))
    code, errors = without_reader([*options, str(program), "result"], tmp_path, stderr=both)
    assert code == 0, errors
    assert (tmp_path / "result").read_text() == "the result"
    assert errors == ("" if both else "to stderr\n" * 3)


def test_a_command_ends_as_its_work_does(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(COMMAND)
    code, errors = without_reader(["-u", str(program)], tmp_path, stderr=False)
    assert (code, errors) == (0, "")
    assert (tmp_path / "result").read_text() == "the result"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_of_the_log_is_one_sentence(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PRINTS.format(gone="").replace(", check=True", ""))  # the child is no command of ours
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, str(program), "result"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, timeout=120
        )
    lines = done.stderr.decode().splitlines()
    assert [line for line in lines if "stdout cannot be written" in line] == lines[:1]
    assert (tmp_path / "result").read_text() == "the result"


def test_a_terminal_that_is_closed_is_no_end(tmp_path):
    """A run in the background whose terminal window is closed: every write fails from then on."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    program = tmp_path / "program.py"
    program.write_text(PRINTS.format(gone="sys.stdin.readline()"))
    process = subprocess.Popen(
        [sys.executable, str(program), "result"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=theirs,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(theirs)
    assert b"first" in os.read(ours, 1000)
    os.close(ours)
    _, errors = process.communicate(b"\n", timeout=120)
    assert process.returncode == 0, errors
    assert (tmp_path / "result").read_text() == "the result"
