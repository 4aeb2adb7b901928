"""Plans in a process of its own: a decision takes seconds of CPU, and the controller's threads must not wait for it.

One snapshot in, one answer out, a line of JSON each. The process ends when its standard input does, so it never
outlives the controller.
"""

import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import Any

import orjson

from controller.pipes import hang_up
from planner.errors import MusterError

_LONGEST_S = 300.0
_NICE = 10


class PlanningFailed(MusterError):
    """No answer: the snapshot could not be read, the planner failed, or it took too long."""


class PlanChild:
    """Decides, one snapshot at a time; the process is started when it is needed, and anew after it failed."""

    def __init__(self, longest_s: float = _LONGEST_S) -> None:
        self._longest_s = longest_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def decide(self, snapshot: Mapping[str, Any]) -> Mapping[str, Any]:
        """The decision as an object of kind Plan; raises PlanningFailed."""
        with self._lock:
            if self._stopped:
                raise PlanningFailed("planning ended with the controller")
            process = self._started()
            timer = threading.Timer(self._longest_s, process.kill)
            timer.start()
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(orjson.dumps(snapshot) + b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except OSError:
                line = b""
            finally:
                timer.cancel()
            if not line:
                code = process.wait()
                self._end()
                raise PlanningFailed(f"planning ended with exit code {code}; allowed are {self._longest_s:g} s")
        try:
            answer = orjson.loads(line)
        except ValueError:
            raise PlanningFailed(
                f"planning ended in the middle of its answer; allowed are {self._longest_s:g} s"
            ) from None
        if "error" in answer:
            raise PlanningFailed(answer["error"])
        plan: Mapping[str, Any] = answer["plan"]
        return plan

    def stop(self) -> None:
        """End the process for good, also in the middle of a decision."""
        self._stopped = True
        if (process := self._process) is not None:
            process.kill()  # whoever waits for its answer gets none
        with self._lock:
            self._end()

    def _end(self) -> None:
        if (process := self._process) is not None:
            hang_up(process)
            self._process = None

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "controller.plan_child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,  # Ctrl-C is for us, who end it
            )
        return self._process


def answer(line: bytes) -> Mapping[str, Any]:
    """What to say to one snapshot."""
    from controller.decision import decide, decision_id
    from planner.spec.plan_file import plan_document

    try:
        snapshot = orjson.loads(line)
        return {"plan": plan_document(decide(snapshot), decision_id(snapshot))}
    except MusterError as error:
        return {"error": str(error)}
    except Exception as error:  # a defect: those who wait for a plan are told, and the log says where it is
        traceback.print_exc(file=sys.stderr)
        return {"error": f"the planner failed ({type(error).__name__}); the controller's log says more"}


def main() -> None:
    """Answer until standard input ends, after whoever else wants the processor: a plan may be late, a lease may not.

    What libraries print goes to standard error, so that answers are alone.
    """
    os.nice(_NICE)
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        for line in sys.stdin.buffer:
            made = orjson.dumps(answer(line)) + b"\n"
            try:
                answers.write(made)
                answers.flush()
            except BrokenPipeError:
                os._exit(0)  # who asked is dead


if __name__ == "__main__":
    main()
