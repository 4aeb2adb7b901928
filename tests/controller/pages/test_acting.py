"""What a person changes: a budget, an approval, a fault, and what comes of it."""

import re

from playwright.sync_api import Page, expect

from tests.controller.pages.browsing import BROWSER, ready, shot, until
from tests.controller.running import Up, a_body

pytestmark = BROWSER


def test_what_other_limits_would_cost_is_worked_out_and_kept(page: Page) -> None:
    page.goto("/plans/default/chat")
    ready(page)
    page.get_by_role("button", name="Work it out").click()
    expect(page.get_by_text(re.compile(r"\d+ of \d+ plans"))).to_be_visible()
    expect(page.get_by_text("Pareto front: cost against power")).to_be_visible(timeout=120_000)
    shot(page, "plan-explained")
    page.reload()
    expect(page.get_by_text("Pareto front: cost against latency")).to_be_visible()


def test_a_budget_is_set_in_place_and_a_wrong_one_is_refused_there(page: Page, up: Up) -> None:
    page.goto("/power")
    ready(page)
    field = page.get_by_label("New budget of rack-1")
    field.fill("lots")
    page.get_by_role("button", name="Set budget").click()
    expect(page.get_by_text("allowed: a power such as")).to_be_visible()
    field.fill("3.9kW")
    page.get_by_role("button", name="Set budget").click()
    until(lambda: up.ask("GET", "/api/v1/powerdomains/rack-1")["spec"]["budget"] == "3.9kW", 10)


def test_a_plan_waits_for_approval_where_a_service_asks_for_that(page: Page, up: Up) -> None:
    up.ask("POST", "/api/v1/services", a_body("asks", 2.0, approval="Manual"))
    until(lambda: up.ask("GET", "/api/v1/services/default/asks/view")["service"]["awaits_approval"], 60)
    page.goto("/plans/default/asks")
    ready(page)
    expect(page.get_by_text("A new plan waits for you")).to_be_visible()
    shot(page, "plan-approval")
    page.get_by_role("button", name="Approve this plan").click()
    until(lambda: not up.ask("GET", "/api/v1/services/default/asks/view")["service"]["awaits_approval"], 30)
    expect(page.get_by_text("A new plan waits for you")).to_be_hidden(timeout=15_000)
    up.ask("DELETE", "/api/v1/services/default/asks")


def test_a_fault_is_injected_and_the_plan_follows(page: Page, up: Up) -> None:
    placed = [
        (node["name"], row["gpu_indices"][0])
        for node in up.ask("GET", "/api/v1/nodes")["items"]
        for row in node["placements"]
        if row["service"] == "default/chat" and row["gpu_indices"]
    ]
    node, index = placed[0]
    page.goto("/cluster?colour=health")
    ready(page)
    page.get_by_role("button", name=re.compile(f"GPU {index} of {node}:")).click()
    panel = page.get_by_role("complementary", name="GPU")
    expect(panel.get_by_text(f"GPU {index} of {node}")).to_be_visible()
    page.wait_for_timeout(2500)
    shot(page, "cluster-gpu")
    panel.get_by_role("button", name="Xid 79").click()
    expect(panel.get_by_text("reports Xid 79")).to_be_visible()
    expect(panel.get_by_text(re.compile("faulty|lost")).first).to_be_visible(timeout=60_000)
    shot(page, "cluster-fault")
    page.goto("/events")
    expect(page.get_by_text("Node quarantined").first).to_be_visible(timeout=60_000)
    expect(page.get_by_text(re.compile(f"ew faults: {node}")).first).to_be_visible(timeout=60_000)
    shot(page, "events-fault")
    up.ask("POST", "/api/v1/faults", {"node": node, "gpu": index, "kind": "clear"})
    until(lambda: up.ask("GET", "/api/v1/services/default/chat/view")["service"]["ready"], 90)
