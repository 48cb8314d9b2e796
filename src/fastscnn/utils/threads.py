"""How long the threads of an OpenMP library spin while they wait for each other."""

import os

WAITING = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}
"""libgomp, which torch has on Linux, counts looks at memory: 1,000 are 10 to 50 us. Others count milliseconds."""
CHOICES = ("OMP_WAIT_POLICY", *WAITING)
"""Environment variables by which a user chooses that."""


def wait_briefly() -> None:
    """Let threads that wait go to sleep soon, in this process and those that it starts; before torch is imported.

    By itself libgomp looks 300,000 times, for milliseconds: where other processes keep the cores busy, a thread uses up
    its share of a core by waiting for another one that has none. Going to sleep at once is slower where nobody else is
    there. Between the two neither is lost (`results/busy_machine.json`). Nothing is changed where the user has chosen.
    """
    if not any(name in os.environ for name in CHOICES):
        os.environ |= WAITING
