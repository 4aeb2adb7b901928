"""What the overview says beside its title, and of services that have no plan or one that waits."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from controller.pages.headline import headline
from controller.pages.overview_changes import tells
from controller.pages.plan_parts import allocations
from controller.pages.states import waits_words, why_of
from controller.web.model import Change, diff
from controller.web.model_plans import outcome
from tests.controller.pages.test_words_of_pages import SERVICE, seen

RUNS = {"usdPerHour": 2.4, "allocations": [{"gpu": "L4", "replicas": 3, "nodeGroup": "small"}]}
NONE = outcome({"planned": {"ratePerSecond": 0, "cause": "nodes_changed"}})
ASKED = outcome({**RUNS, "decisionId": "d-2", "planned": {"ratePerSecond": 1.0, "cause": "first_plan"}})
IMPOSSIBLE = replace(SERVICE, key="default/impossible", ready=False, reason="Infeasible", replicas=0, replicas_ready=0)
DOWN = replace(SERVICE, key="default/alpha", ready=False, reason="HardwareFault", replicas_ready=0)


def test_what_has_no_plan_is_named_first_then_what_nobody_serves() -> None:
    made = headline(seen(SERVICE, DOWN, IMPOSSIBLE))
    assert made.index("no plan possible for impossible") < made.index("alpha: no replica serves")
    assert made.count("m-badge m-bad") == 2
    assert "not observed" not in made
    assert "no replica serves" not in headline(seen(SERVICE, replace(DOWN, rate_per_s=0.0)))
    starting = headline(seen(SERVICE, replace(DOWN, reason="Starting")))
    assert "alpha: no replica serves yet" in starting
    assert "m-warn" in starting


def test_a_plan_that_waits_is_told_with_its_cost_where_nothing_runs() -> None:
    words = waits_words(ASKED)
    assert words.startswith("A plan waits for approval: 3 replicas on 3 GPUs for ")
    assert words.endswith("$2.40/h")
    assert words in allocations(NONE, waits=ASKED)
    assert "at no request it needs none" in allocations(NONE)
    assert "at no request" not in allocations(replace(NONE, rate_per_s=1.0))
    assert "There is no place" in allocations(NONE, feasible=False)
    row = replace(SERVICE, replicas=0, replicas_ready=0, planned_per_s=None, awaits_approval=True)
    assert "at no request" not in why_of(row)


def test_what_moved_nothing_is_no_news() -> None:
    def change(before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
        one, two = outcome(before), outcome(after)
        return Change(1.0, "default/chat", "d", two.cause, "", two.usd_per_hour, diff("default/chat", one, two))

    nodes = {"planned": {"cause": "nodes_changed"}}
    assert not tells(change(nodes, nodes))
    assert not tells(change(RUNS, {**RUNS, **nodes}))
    assert tells(change(RUNS, {**RUNS, "planned": {"cause": "rate_up"}}))
    assert tells(change(nodes, {**RUNS, **nodes}))
