"""Threads that take keys from a queue, and the mark that a new leader puts on everything before they start."""

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from controller.kube.applier import Applier, NotLeading
from controller.kube.rest import ApiError
from controller.kube.workqueue import WorkQueue
from planner.errors import MusterError

Object = Mapping[str, Any]
_LOG = logging.getLogger("muster")
_STAMPING = 8


def work(queue: WorkQueue, one: Callable[[str], None]) -> None:
    """Do the keys of a queue until it is closed or this process leads no more; what fails is tried again later."""
    while (found := queue.get()) is not None:
        key, _ = found
        try:
            one(key)
            queue.forget(key)
        except NotLeading:
            return
        except MusterError as error:
            if not (isinstance(error, ApiError) and error.status == 409):  # seen too early: the caches come after
                _LOG.warning("%s: %s", key, error)
            queue.retry(key)
        except Exception:  # a defect in one service must not stop the others; it is told and tried again later
            _LOG.exception("%s", key)
            queue.retry(key)
        finally:
            queue.done(key)


def stamp(applier: Applier, found: Iterable[Object]) -> None:
    """Mark objects as this leader's, so that nothing its predecessor sent is accepted any more. Raises ApiError."""

    def stamped(obj: Object) -> ApiError | None:
        try:
            applier.stamp(obj)
        except ApiError as error:
            return error  # 409: it changed since; the old leader's sight of it is as old
        return None

    with ThreadPoolExecutor(_STAMPING) as pool:
        for error in pool.map(stamped, found):
            if error is not None and error.status not in (404, 409):
                raise error
