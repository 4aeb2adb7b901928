"""A story: what is done to an embedded cluster, and when, as a list of calls of the API. Read from a file, and played.

Times count from the story's start, in the cluster's own time. A story that was interrupted goes on where it was: the
next step is kept with the cluster, and a call that was made already is answered with a conflict, which is well.

Where replicas will stand nobody knows beforehand. So a step may choose a GPU when its time has come, as
`places: {broken: {service: default/chat}}`: one of a replica that serves then, on the node of which most GPUs are in
use. From there on `$broken.node` and `$broken.gpu`, as whole values in bodies of this step and later ones, say which.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planner.errors import BadInput
from planner.units import DURATION
from planner.yaml_text import dump, read

Method = Literal["POST", "PUT", "PATCH", "DELETE"]
Ask = Callable[[Method, str, Mapping[str, Any] | None, str], int]
"""Makes a call (method, path, body, idempotency key); gives its status."""

Place = tuple[str, int]
"""A node, and the index of a GPU on it."""

_PLACE = re.compile(r"\$([a-z][a-z0-9-]{0,62})\.(node|gpu)")
_TRIES, _AGAIN_S, _LONGEST_S = 6, 0.2, 2.0


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CallShape(_Shape):
    """One call of the API."""

    method: Method = "POST"
    path: str = Field(pattern=r"^/api/v1/[^?#\s]{1,500}$")
    body: dict[str, Any] | None = None


class PlaceShape(_Shape):
    """A GPU to choose: of a replica of this service (namespace/name), in this node group where one is named."""

    service: str = Field(pattern=r"^[a-z0-9.-]{1,63}/[a-z0-9.-]{1,253}$")
    group: str | None = None


class StepShape(_Shape):
    """What is done at a time."""

    at: str
    say: str = Field(min_length=1, max_length=300)
    places: dict[str, PlaceShape] = Field(default={}, max_length=10)
    calls: list[CallShape] = Field(default=[], max_length=50)


class StoryShape(_Shape):
    """The whole story, and the cluster that it begins in. `speed`: simulated seconds per second."""

    name: str = Field(min_length=1, max_length=100)
    speed: float = Field(gt=0, le=100_000)
    lasts: str
    inventory: dict[str, Any]
    steps: list[StepShape] = Field(min_length=1, max_length=500)


@dataclass(frozen=True, slots=True)
class Step:
    """Calls to make `at_s` seconds after the start."""

    at_s: float
    say: str
    calls: tuple[CallShape, ...]
    places: Mapping[str, PlaceShape] = field(default_factory=dict)


Choose = Callable[[str, PlaceShape], Place | None]
"""The place of a name: as it was chosen before, else chosen now and kept. None where the service has no replica."""


@dataclass(frozen=True, slots=True)
class Story:
    """Steps in order of time. `inventory`: the hardware as an inventory file has it."""

    name: str
    speed: float
    lasts_s: float
    inventory: Mapping[str, Any]
    steps: tuple[Step, ...]


def load(path: Path) -> Story:
    """The story in a file; raises BadInput."""
    documents = read(path)
    if len(documents) != 1:
        raise BadInput(f"{path}: got {len(documents)} documents, allowed: one story")
    plain = documents[0].root.plain()
    try:
        shape = StoryShape.model_validate(plain)
        steps = tuple(Step(DURATION.parse(one.at), one.say, tuple(one.calls), one.places) for one in shape.steps)
        lasts_s = DURATION.parse(shape.lasts)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(f"{path}: {where}: {first['msg']}") from None
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from None
    if any(later.at_s < one.at_s for one, later in pairwise(steps)):
        raise BadInput(f"{path}: steps: got times that fall, allowed: times in order")
    known: set[str] = set()
    for step in steps:
        known |= set(step.places)
        if unknown := {name for call in step.calls for name in _named(call.body)} - known:
            raise BadInput(f"{path}: steps: got ${min(unknown)}, allowed: places of this step or one before")
    return Story(shape.name, shape.speed, lasts_s, shape.inventory, steps)


def inventory_text(story: Story) -> str:
    """The story's inventory as a file of its own."""
    return dump(dict(story.inventory))


def placed(story: Story, places: Mapping[str, Place]) -> Story:
    """The story with the places that were chosen when it was played."""
    steps = (replace(one, calls=tuple(_at(call, places) for call in one.calls)) for one in story.steps)
    return replace(story, steps=tuple(steps))


def play(
    story: Story, begun: int, now_s: float, ask: Ask, choose: Choose = lambda name, wanted: None
) -> Iterator[tuple[int, Step, list[str]]]:
    """Do the steps from number `begun` whose time has come, `now_s` after the start.

    Gives the number of the next step, the step that was done, and what was refused of it, in words.
    """
    wanted = {name: one for step in story.steps for name, one in step.places.items()}
    for index, step in enumerate(story.steps[begun:], start=begun):
        if step.at_s > now_s:
            return
        refused = []
        names = [*step.places, *(name for call in step.calls for name in _named(call.body))]
        chosen = {name: choose(name, wanted[name]) for name in dict.fromkeys(names)}
        places = {name: one for name, one in chosen.items() if one is not None}
        refused += [f"${name}: {wanted[name].service} has no replica that serves" for name in chosen.keys() - places]
        for place, call in enumerate(_at(one, places) for one in step.calls):
            if list(_named(call.body)):
                continue
            status = _asked(ask, call, f"{story.name}-{index}-{place}"[:128])
            if status >= 400 and not _done_already(call, status):
                refused.append(f"{call.method} {call.path}: {status}")
        yield index + 1, step, refused


def _named(value: object) -> Iterator[str]:
    """Names of places in a body."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _named(one)
    elif isinstance(value, str) and (found := _PLACE.fullmatch(value)):
        yield found[1]


def _at(call: CallShape, places: Mapping[str, Place]) -> CallShape:
    """A call with the places that are known."""
    return call if call.body is None else call.model_copy(update={"body": _filled(call.body, places)})


def _filled(value: Any, places: Mapping[str, Place]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(one, places) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, places) for one in value]
    found = _PLACE.fullmatch(value) if isinstance(value, str) else None
    return places[found[1]][found[2] == "gpu"] if found and found[1] in places else value


def _asked(ask: Ask, call: CallShape, key: str) -> int:
    """What a call is answered; one that came too soon, or met a server in trouble, is made again under its key."""
    status = 0
    for attempt in range(_TRIES):
        status = ask(call.method, call.path, call.body, key)
        if status != 429 and status < 500:
            break
        time.sleep(min(_AGAIN_S * 2**attempt, _LONGEST_S))
    return status


def _done_already(call: CallShape, status: int) -> bool:
    """Whether a refusal says that a kill came between the deed and our note of it."""
    return status == 409 or (status == 404 and call.method == "DELETE")
