"""How much slower this machine is now than the one that limits on CPU time were set on."""

import subprocess
import sys
import time
from functools import cache

# Two reference operations on an otherwise idle core of a two-core virtual machine: one that only computes, and one
# that touches as much memory as starting a command does.
NOMINAL_LOOP_S, NOMINAL_IMPORTS_S = 0.30, 0.25
SLACK = 1.5  # what touches much memory suffers more than either of the two, and a host may be slow for a moment only
_IMPORTS = "import time, numpy, pydantic.main, yaml; print(time.process_time())"


@cache
def pace() -> float:
    """Limits on CPU seconds are multiplied by this: at least 1, and 1.5 on a machine as fast as that one.

    Timed in the same run, as CPU seconds too depend on what else runs on the host.
    """
    loop, imports = (sorted(each() for _ in range(3))[1] for each in (_loop_s, _imports_s))
    slower = max(loop / NOMINAL_LOOP_S, imports / NOMINAL_IMPORTS_S)
    return max(SLACK * slower, 1.0)


def _loop_s() -> float:
    began = time.process_time()
    total = 0
    for i in range(5_000_000):
        total += i
    return time.process_time() - began


def _imports_s() -> float:
    return float(subprocess.run([sys.executable, "-c", _IMPORTS], capture_output=True, text=True, check=True).stdout)
