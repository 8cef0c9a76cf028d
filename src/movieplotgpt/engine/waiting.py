"""How OpenMP's threads wait for each other, and how many there are: decided before PyTorch is imported, and so without it.

By default a thread that waits keeps its processor busy. Beside another busy process it does so while the thread that it waits
for has no processor to run on. A thread that waits in a loop for a short time and then sleeps leaves it the processor:
`benchmarks/busy_neighbour.py` measures what that costs alone and saves beside a busy process.
"""

from __future__ import annotations

import os
import sys

from movieplotgpt.engine.threads import VARIABLE as THREADS
from movieplotgpt.engine.threads import thread_count

SPINS = (
    3_000  # turns of the loop before a thread sleeps: alone 5 % slower, beside a busy process half as fast, not a third
)
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # of GNU's OpenMP, which PyTorch's packages for Linux use


def choose_waiting() -> None:
    """Set how threads wait, and their number where a container has fewer processors than the machine shows.

    What the environment says already is left as it is. Call it before anything imports torch.
    """
    if sys.platform != "linux":
        return
    if not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
    threads = thread_count()
    if THREADS not in os.environ and threads < len(os.sched_getaffinity(0)):
        os.environ[THREADS] = str(threads)
