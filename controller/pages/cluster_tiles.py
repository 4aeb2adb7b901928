"""Nodes with their GPUs as tiles, by node group. Pure: HTML from views."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from controller.pages.context import Context
from controller.pages.parts import STATES, badge, chip, empty, folded, icon, note, text
from controller.pages.states import HEALTH
from controller.pages.words import degrees, said, share, short, watts
from controller.web.model import GpuTile, NodeRow
from planner.units import counted

COLOURS = ("load", "temperature", "health")
_MOST_NODES = 150
_MANY = 24
_DIGITS = re.compile(r"(\d+)")
_DEEPEST = 46  # percent of a colour in a tile's ground: text on it stays readable
_COLD_C, _HOT_C = 30.0, 85.0


def groups(made: Context, rows: Sequence[NodeRow], colour: str, find: str, chosen: tuple[str, int] | None) -> str:
    """All nodes that have a word, by group; where there are many, small."""
    if not rows:
        words = "Name node groups in a ClusterInventory, and run the agent on nodes that have GPUs."
        return f'<div class="m-card">{empty("No node has GPUs", words, "dns")}</div>'
    found = [row for row in rows if _has(row, find)]
    if not found:
        return f'<div class="m-card">{empty("No node matches", f"Nothing has “{find}” in it.", "search_off")}</div>'
    by_group: dict[str, list[NodeRow]] = {}
    for row in sorted(found, key=_order)[:_MOST_NODES]:
        by_group.setdefault(row.group or "in no group", []).append(row)
    look = _Look(colour, chosen, len(found) > _MANY, made.tint)
    body = "".join(_group(name, inside, look) for name, inside in by_group.items())
    left = len(found) - _MOST_NODES
    more = note(f"{left} more nodes are not shown: find them by name, GPU or service.") if left > 0 else ""
    return f'<div class="m-groups">{body}</div>{more}'


@dataclass(frozen=True, slots=True)
class _Look:
    """What tiles are coloured by, which one is open, whether they have room for words, and the
    colours of services."""

    colour: str
    chosen: tuple[str, int] | None
    small: bool
    tint: Callable[[str], str]


def _order(row: NodeRow) -> tuple[str, list[tuple[int, str]]]:
    """By group, then by name as people count: `node-2` before `node-10`."""
    return row.group, [(int(part), "") if part.isdecimal() else (0, part) for part in _DIGITS.split(row.name)]


def _has(row: NodeRow, find: str) -> bool:
    low = find.strip().lower()
    words = (row.name, row.gpu, row.group, row.zone, row.power_domain, *(one.service for one in row.placements))
    return not low or any(low in one.lower() for one in words)


def _group(name: str, rows: Sequence[NodeRow], look: _Look) -> str:
    first = rows[0]
    held, total = sum(row.held for row in rows), sum(row.gpus for row in rows)
    about = [first.gpu, f"zone {first.zone}" if first.zone else "", first.power_domain]
    about += ["spot" if first.spot else "", "owned" if first.owned else ""]
    head = (
        f'<div class="m-row" style="margin:0 0 4px;gap:8px"><h2 class="m-sub">{text(name)}</h2>'
        f"{' '.join(chip(word) for word in about if word)}"
        f'<span class="m-note">{counted(len(rows), "node")}, {held} of {total} GPUs in use</span></div>'
    )
    nodes = "".join(_node(row, look) for row in rows)
    label, wide = f"Node group {escape(name)}", (156 if look.small else 370) * len(rows) - 10
    css = "m-nodes small" if look.small else "m-nodes"
    return f'<section aria-label="{label}" style="width:{wide}px">{head}<div class="{css}">{nodes}</div></section>'


def _node(row: NodeRow, look: _Look) -> str:
    tiles = "".join(_tile(tile, look, row.out) for tile in row.tiles)
    why = ""
    if row.out and row.why and not look.small:
        whole = said(row.why)
        why = f'<div class="m-wrong">{folded(text(_cut(whole)), whole if _cut(whole) != whole else "")}</div>'
    power = "" if look.small else f'<span class="m-note">{watts(row.power_w)}</span>'
    return (
        f'<section class="m-card m-node{" out" if row.out else ""}" aria-label="Node {escape(row.name)}">'
        f'<div class="m-head"><span>{text(row.name)}</span><span>{_state(row)}</span>{power}</div>'
        f'<div class="m-tiles">{tiles}</div>{why}</section>'
    )


def _state(row: NodeRow) -> str:
    if row.out:
        return badge("bad", "out")
    if not row.ready:
        return badge("warn", "not ready")
    if not row.open:
        return badge("soft", "closed")
    return badge("soft", "not heard") if row.heard_s is None or row.heard_s > 60 else ""


def _cut(words: str) -> str:
    return words if len(words) <= 80 else words[:79] + "…"


def _tile(tile: GpuTile, look: _Look, out: bool) -> str:
    """`out`: its node is, so that no service gets it."""
    state, word = HEALTH[tile.health]
    ill = tile.health in ("faulty", "lost", "degraded", "suspect")
    figures = {"load": share(tile.busy_ratio, 0), "temperature": degrees(tile.temperature_c), "health": ""}
    holder = short(tile.service) or ("out" if out or tile.health in ("faulty", "lost") else "free")
    about = f"{word}, load {figures['load']}, {figures['temperature']}, {holder}"
    name = escape(f"GPU {tile.index} of {tile.node}: {about}")
    chosen = "chosen" if look.chosen == (tile.node, tile.index) else ""
    bar = f";box-shadow:inset 3px 0 {look.tint(tile.service)}" if tile.service else ""
    css = " ".join(filter(None, ("m-tile", "" if tile.service else "free", chosen)))
    call = f"emitEvent('gpu',{{node:'{escape(tile.node)}',index:{tile.index}}})"
    sign = icon(STATES[state][1]) if ill or (look.colour == "health" and not look.small) else ""
    shown = word if tile.health in ("faulty", "lost") else figures[look.colour] or ("ok" if tile.health == "ok" else "")
    mark = f"<i class=m-{state}>{sign}</i>" if sign else ""
    head = f"<b>{mark if look.small else mark + text(shown)}</b>"
    holds = "" if look.small else f"<span>{text(holder)}</span>"  # the whole width is the name's
    return (
        f'<button id="gpu-{escape(tile.node)}-{tile.index}" class="{css}" style="{_ground(tile, look.colour)}{bar}" '
        f'title="{name}" aria-label="{name}" onclick="{call}">{head}{holds}</button>'
    )


def _ground(tile: GpuTile, colour: str) -> str:
    """The tile's ground: the deeper, the more of what is looked at; ill GPUs stand out under any."""
    if tile.health in ("faulty", "lost"):
        return "background:color-mix(in srgb, var(--bad) 12%, var(--card));border-color:var(--bad)"
    if colour == "health":
        tone = HEALTH[tile.health][0]
        return f"background:color-mix(in srgb, var(--{tone}) {10 if tone == 'good' else 16}%, var(--card))"
    if colour == "load":
        return f"background:color-mix(in srgb, var(--accent) {_DEEPEST * (tile.busy_ratio or 0.0):.0f}%, var(--card))"
    return f"background:color-mix(in srgb, var(--warn) {_DEEPEST * _warm(tile.temperature_c):.0f}%, var(--card))"


def _warm(celsius: float | None) -> float:
    return min(max(((celsius or _COLD_C) - _COLD_C) / (_HOT_C - _COLD_C), 0.0), 1.0)


def legend(colour: str) -> str:
    """What the colours say."""
    if colour == "health":
        found = (("good", "healthy"), ("soft", "watched or not heard"), ("warn", "degraded"), ("bad", "faulty or lost"))
        return f'<div class="m-row" style="min-height:0;gap:16px">{"".join(badge(*one) for one in found)}</div>'
    tone, low, high = {
        "load": ("accent", "0 %", "100 % of the time computing"),
        "temperature": ("warn", f"{_COLD_C:.0f} °C", f"{_HOT_C:.0f} °C"),
    }[colour]
    deep = f"color-mix(in srgb, var(--{tone}) {_DEEPEST}%, var(--card))"
    ramp = f'<span class="m-ramp" style="background:linear-gradient(90deg, var(--card), {deep})"></span>'
    ends = [f'<span class="m-note">{one}</span>' for one in (low, high)]
    return f'<div class="m-row" style="min-height:0;gap:8px">{ends[0]}{ramp}{ends[1]}</div>'
