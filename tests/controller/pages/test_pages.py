"""A person at a browser: every page of a running Muster, a service by form and by YAML, a fault and what comes of it.

Needs Debian's chromium; MUSTER_SHOTS names a folder that screenshots of every page are saved in.
"""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.controller.running import Up, a_body, running

PAGES = ("/", "/submit", "/services/default/chat", "/plans/default/chat", "/cluster", "/power", "/events")
_INVENTORY = """
apiVersion: muster.dev/v1alpha1
kind: ClusterInventory
metadata: {name: small}
spec:
  powerDomains: [{name: rack-1, budget: 4kW}]
  nodeGroups:
    - {name: h100, gpu: H100-SXM, gpusPerNode: 4, nodes: 3, zone: a, pricePerHour: $2.60, powerDomain: rack-1}
    - {name: l40s, gpu: L40S, gpusPerNode: 4, nodes: 2, zone: b, pricePerHour: $0.90}
"""
_CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(_CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    (folder / "inventory.yaml").write_text(_INVENTORY)
    with running(folder / "state", "--no-auth", "--speed", "30", "--inventory", str(folder / "inventory.yaml")) as made:
        made.ask("POST", "/api/v1/services", a_body("chat", 10.0))
        until(lambda: made.ask("GET", "/api/v1/services/default/chat/view")["service"]["ready"], 90)
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        made = play.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(params=["light", "dark"])
def page(up: Up, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page at 1280x720 that fails the test for anything that a script of it complains of or asks of elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 720}, base_url=up.address)
    context.add_cookies([{"name": "muster_theme", "value": request.param, "url": up.address}])
    made = context.new_page()
    wrong: list[str] = []
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    host = up.address.removeprefix("http://")
    made.on("request", lambda one: None if one.url.split("/")[2] == host else wrong.append(f"asked {one.url}"))
    yield made
    context.close()
    assert wrong == []


def until(true: Callable[[], object], seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.3)


def shot(page: Page, name: str) -> None:
    if folder := os.environ.get("MUSTER_SHOTS"):
        theme = "dark" if page.evaluate("document.cookie").find("=dark") >= 0 else "light"
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}-{theme}.png"))


@pytest.mark.parametrize("path", PAGES)
def test_every_page_shows_what_it_is_and_has_no_room_to_scroll_sideways(page: Page, path: str) -> None:
    answer = page.goto(path)
    assert answer is not None
    assert answer.status == 200
    expect(page.locator("h1")).to_be_visible()
    page.wait_for_timeout(2500)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.get_by_role("navigation", name="Pages").is_visible()
    shot(page, path.strip("/").partition("/")[0] or "overview")


def test_links_keep_the_range_of_time(page: Page) -> None:
    page.goto("/?range=24h")
    page.get_by_role("link", name="Cluster").click()
    expect(page).to_have_url(re.compile(r"/cluster\?range=24h"))


def test_everything_is_reached_by_the_keyboard(page: Page) -> None:
    page.goto("/cluster")
    page.wait_for_timeout(1500)
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.innerText")
        )
    assert {"Overview", "Submit", "Power", "Events", "Range of time"} <= reached
    assert any(str(one).startswith("GPU 0 of") for one in reached)


def test_a_mistake_in_yaml_is_shown_where_it_is(page: Page) -> None:
    page.goto("/submit")
    expect(page.get_by_text("It is sound")).to_be_visible()
    editor = page.locator(".cm-content")
    editor.click()
    page.keyboard.press("Control+End")
    page.keyboard.type("  priority: urgent\n")
    expect(page.get_by_text("spec.priority", exact=True)).to_be_visible()
    expect(page.locator(".m-fault")).to_be_visible()
    expect(page.get_by_role("button", name="Apply")).to_be_disabled()
    shot(page, "submit-fault")


def test_a_service_is_submitted_by_the_form_and_by_yaml(page: Page, up: Up) -> None:
    theme = "dark" if "dark" in page.context.cookies()[0]["value"] else "light"
    page.goto("/submit")
    page.get_by_label("Name", exact=True).fill(f"form-{theme}")
    page.get_by_label("Requests per second").fill("2")
    page.get_by_role("button", name="Write it as YAML").click()
    expect(page.locator(".cm-content")).to_contain_text(f"form-{theme}")
    page.wait_for_timeout(800)
    page.get_by_role("button", name="Dry run").click()
    expect(page.get_by_text("nothing is applied")).to_be_visible(timeout=60_000)
    shot(page, "submit-plan")
    page.get_by_role("button", name="Apply").click()
    expect(page).to_have_url(re.compile(rf"/services/default/form-{theme}"), timeout=15_000)
    page.goto(f"/submit?service=default/form-{theme}")
    editor = page.locator(".cm-content")
    expect(editor).to_contain_text(f"form-{theme}")
    editor.click()
    page.keyboard.press("Control+End")
    page.keyboard.type("  priority: 3\n")
    page.wait_for_timeout(1200)
    page.get_by_role("button", name="Apply").click()
    expect(page).to_have_url(re.compile(rf"/services/default/form-{theme}"), timeout=15_000)
    until(lambda: up.ask("GET", f"/api/v1/services/default/form-{theme}")["spec"]["priority"] == 3, 20)
    up.ask("DELETE", f"/api/v1/services/default/form-{theme}")


def test_a_fault_is_injected_and_the_plan_follows(page: Page, up: Up) -> None:
    placed = [
        (node["name"], row["gpu_indices"][0])
        for node in up.ask("GET", "/api/v1/nodes")["items"]
        for row in node["placements"]
        if row["service"] == "default/chat" and row["gpu_indices"]
    ]
    node, index = placed[0]
    page.goto("/cluster?colour=health")
    page.get_by_role("button", name=re.compile(f"GPU {index} of {node}:")).click()
    expect(page.get_by_role("dialog").get_by_text(f"GPU {index} of {node}")).to_be_visible()
    page.wait_for_timeout(2500)
    shot(page, "cluster-gpu")
    page.get_by_role("button", name="Inject").click()
    expect(page.get_by_text("reports Xid 79")).to_be_visible()
    page.goto("/events")
    expect(page.get_by_text("NodeQuarantined").first).to_be_visible(timeout=60_000)
    expect(page.get_by_text(re.compile(f"new faults: {node}")).first).to_be_visible(timeout=60_000)
    shot(page, "events-fault")
    up.ask("POST", "/api/v1/faults", {"node": node, "gpu": index, "kind": "clear"})
    until(lambda: up.ask("GET", "/api/v1/services/default/chat/view")["service"]["ready"], 90)
