"""Readings as the reader process sends them: numbers in a fixed order, packed. JSON was half of what both spent.

A line is "R" and, in base 64, a head and doubles: the values of the tier in the order of `telemetry.fields`, then those
of each link; NaN = not told. It stays a line, so that what a driver's library may print in between costs that line
alone. What else there is to say (who the GPUs are, Xids, a lost GPU, MIG devices) is said in JSON (`telemetry.wire`).
"""

import binascii
import math
import struct
from collections.abc import Mapping
from functools import cache

from telemetry.errors import BadRecord
from telemetry.fields import CLOCK_EVENT_MASK, FIELDS, LINK_FIELDS
from telemetry.sample import TIERS, Reading, Tier
from telemetry.wire import LAST_S, LONGEST_LINE, Message, decode, encode

NAMES: Mapping[Tier, tuple[str, ...]] = {
    tier: tuple(field.name for field in FIELDS if field.tier == tier) + (CLOCK_EVENT_MASK,) * (tier == "hot")
    for tier in TIERS
}
LINK_NAMES = tuple(field.name for field in LINK_FIELDS)
_MARK = b"R"
_HEAD = struct.Struct("<BHHdd")  # tier, GPU, links, when, took
Links = tuple[Mapping[str, float], ...]


def line(message: Message) -> bytes:
    """A message as the agent reads it fastest, with its end."""
    if not isinstance(message, Reading) or message.lost or message.instances:
        return encode(message)
    values, links = message.values, message.links
    numbers = [values.get(name, math.nan) for name in NAMES[message.tier]]
    for link in links:
        numbers += [link.get(name, math.nan) for name in LINK_NAMES]
    head = _HEAD.pack(TIERS.index(message.tier), message.gpu, len(links), message.at_s, message.took_s)
    return _MARK + binascii.b2a_base64(head + _doubles(len(numbers)).pack(*numbers))


class Unpacker:
    """Takes the lines of one reader. Links that read as they did before are the same object as before."""

    def __init__(self) -> None:
        self._links: dict[int, tuple[bytes, Links]] = {}

    def message(self, text: bytes) -> Message:
        """The message of a line of either kind. Raises BadRecord."""
        if text[:1] != _MARK:
            return decode(text)
        if len(text) > LONGEST_LINE:
            raise BadRecord(f"a line of {len(text):,} bytes; at most {LONGEST_LINE:,} are read")
        try:
            return self._reading(binascii.a2b_base64(text[1:], strict_mode=True))
        except (ValueError, IndexError, struct.error) as error:
            raise BadRecord(f"no packed reading: {error}") from None

    def _reading(self, body: bytes) -> Reading:
        kind, gpu, count, at_s, took_s = _HEAD.unpack_from(body)
        tier = TIERS[kind]
        names = NAMES[tier]
        if not (0 <= at_s < LAST_S and 0 <= took_s < LAST_S):
            raise ValueError("a time that is none")
        values = _told(names, _doubles(len(names)).unpack_from(body, _HEAD.size))
        rest = body[_HEAD.size + 8 * len(names) :]
        return Reading(gpu, tier, at_s, values, self._linked(gpu, count, rest) if rest else (), took_s=took_s)

    def _linked(self, gpu: int, count: int, text: bytes) -> Links:
        before = self._links.get(gpu)
        if before is None or before[0] != text:
            before = self._links[gpu] = (text, _all_links(text, count))
        return before[1]


def _all_links(text: bytes, count: int) -> Links:
    numbers, width = _doubles(count * len(LINK_NAMES)).unpack(text), len(LINK_NAMES)
    return tuple(_told(LINK_NAMES, numbers[start : start + width]) for start in range(0, len(numbers), width))


def _told(names: tuple[str, ...], numbers: tuple[float, ...]) -> dict[str, float]:
    return {name: value for name, value in zip(names, numbers, strict=True) if value - value == 0.0}  # finite


@cache
def _doubles(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}d")
