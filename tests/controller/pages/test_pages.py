"""A person at a browser: every page of a running Muster, a service by form and by YAML, a fault and what comes of it.

Needs Debian's chromium; MUSTER_SHOTS names a folder that screenshots of every page are saved in.
"""

import os
import re
import shutil
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

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
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(_CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)"),
]


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


@pytest.fixture
def page(up: Up, browser: Browser) -> Iterator[Page]:
    """A page at 1280x720 that fails the test for anything that a script of it complains of or asks of elsewhere."""
    yield from looking(up, browser, "light")


@pytest.fixture(params=["light", "dark"])
def themed(up: Up, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The same in both themes."""
    yield from looking(up, browser, request.param)


def looking(up: Up, browser: Browser, theme: str) -> Iterator[Page]:
    context: BrowserContext = browser.new_context(viewport={"width": 1280, "height": 720}, base_url=up.address)
    context.add_cookies([{"name": "muster_theme", "value": theme, "url": up.address}])
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


def ready(page: Page) -> None:
    """Wait until the page is connected: what is pressed before is not heard."""
    page.wait_for_function("() => window.socket && window.socket.connected")
    page.wait_for_timeout(600)


def held(page: Page) -> Locator:
    """Tiles of GPUs that serve."""
    return page.locator(".m-tile:not(.free)")


def sound(page: Page) -> Locator:
    """What says that the service that is written can be applied."""
    return page.locator(".m-badge.m-good", has_text="valid")


@pytest.mark.parametrize("path", PAGES)
def test_every_page_shows_what_it_is_and_has_no_room_to_scroll_sideways(themed: Page, path: str) -> None:
    answer = themed.goto(path)
    assert answer is not None
    assert answer.status == 200
    expect(themed.locator("h1")).to_have_count(1)
    ready(themed)
    themed.wait_for_timeout(2500)
    assert themed.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert themed.get_by_role("navigation", name="Pages").is_visible()
    assert themed.locator(".m-off, .m-stale").count() == 0
    shot(themed, path.strip("/").partition("/")[0] or "overview")


def test_every_picture_has_a_name_and_every_field_a_label(page: Page) -> None:
    for path in PAGES:
        page.goto(path)
        ready(page)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('button, a, input, select, [role=img], canvas')]
            .filter((one) => one.offsetParent && !one.closest('[role=img]:not(:scope)') && !one.closest('.cm-editor'))
            .filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.length))
            .map((one) => one.outerHTML.slice(0, 120))"""
        )
        assert nameless == [], path


def test_links_keep_the_range_of_time(page: Page) -> None:
    page.goto("/?range=24h")
    page.get_by_role("link", name="Cluster").click()
    expect(page).to_have_url(re.compile(r"/cluster\?range=24h"))
    expect(page.get_by_role("link", name="Last 24 hours")).to_have_attribute("aria-current", "page")


def test_two_moments_can_be_shared_as_an_address(page: Page) -> None:
    page.goto("/power")
    page.get_by_role("button", name="Choose a time").click()
    page.get_by_label("From (UTC)").fill("2026-01-02T03:00")
    page.get_by_label("To (UTC)").fill("2026-01-02T05:00")
    page.get_by_role("button", name="Show this time").click()
    expect(page).to_have_url(re.compile(r"/power\?from=2026-01-02T03%3A00&to=2026-01-02T05%3A00"))
    page.get_by_role("link", name="Events").click()
    expect(page).to_have_url(re.compile(r"/events\?from=2026-01-02T03%3A00"))
    expect(page.get_by_text("Nothing happened in this time")).to_be_visible()


def test_everything_is_reached_by_the_keyboard(page: Page) -> None:
    page.goto("/cluster")
    ready(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the content"
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.innerText")
        )
    order = [reached.index(name) for name in ("Overview", "Events", "Last 6 hours", "Use the dark theme", "Submit")]
    assert order == sorted(order)
    assert any(str(one).startswith("GPU 0 of") for one in reached)


def test_the_keyboard_opens_a_gpu_and_comes_back_to_it(page: Page) -> None:
    page.goto("/cluster")
    ready(page)
    held(page).first.focus()
    tile = page.evaluate("document.activeElement.id")
    page.keyboard.press("Enter")
    panel = page.get_by_role("complementary", name="GPU")
    expect(panel).to_be_visible()
    expect(page).to_have_url(re.compile(r"gpu="))
    page.wait_for_timeout(2500)
    assert page.evaluate("document.activeElement.closest('.m-drawer') !== null")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(page).not_to_have_url(re.compile(r"gpu="))
    assert page.evaluate("document.activeElement.id") == tile


def test_what_has_the_focus_keeps_it_while_figures_change(page: Page) -> None:
    page.goto("/")
    ready(page)
    clock = page.locator(".m-live")
    before = clock.inner_text()
    page.get_by_role("table", name="Services").get_by_role("link", name="chat").focus()
    expect(clock).not_to_have_text(before, timeout=15_000)
    page.wait_for_timeout(4500)
    assert page.evaluate("document.activeElement.innerText") == "chat"


def test_charts_are_patched_with_the_points_that_are_new(page: Page) -> None:
    page.goto("/services/default/chat?range=15m")
    ready(page)
    last = """() => { const one = document.querySelector('.nicegui-echart');
        const data = getElement(+one.id.slice(1)).chart.getOption().series[0].data;
        return data[data.length - 1][0]; }"""
    first = page.evaluate(last)
    until(lambda: page.evaluate(last) > first, 20)


def test_a_mistake_in_yaml_is_shown_where_it_is(page: Page) -> None:
    page.goto("/submit?by=yaml")
    ready(page)
    expect(sound(page)).to_be_visible()
    page.locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type("  priority: urgent")
    page.keyboard.press("Escape")
    expect(page.get_by_text("spec.priority", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("line 14"))).to_be_visible()
    expect(page.locator(".m-fault")).to_contain_text("priority: urgent")
    expect(page.get_by_role("button", name="Apply")).to_be_disabled()
    shot(page, "submit-fault")
    page.get_by_role("button", name="Form", exact=True).click()
    expect(page.locator("#f-priority-wrong")).to_contain_text("allowed")


def test_the_editor_completes_fields_of_the_schema_with_what_they_mean(page: Page) -> None:
    page.goto("/submit?by=yaml")
    ready(page)
    page.locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type("  constr", delay=40)
    expect(page.locator(".cm-tooltip-autocomplete")).to_contain_text("constraints")
    expect(page.locator(".cm-completionInfo")).to_contain_text("forbidden or demanded")
    shot(page, "submit-completion")
    page.wait_for_timeout(300)
    page.keyboard.press("Enter")
    page.keyboard.type("maxRep", delay=40)
    expect(page.locator(".cm-tooltip-autocomplete")).to_contain_text("maxReplicas")
    page.wait_for_timeout(300)  # the editor takes an Enter that comes at once for a new line
    page.keyboard.press("Enter")
    page.keyboard.type("3", delay=40)
    expect(page.locator(".cm-content")).to_contain_text("maxReplicas: 3")
    expect(sound(page)).to_be_visible()


def test_the_form_and_the_yaml_are_one_service(page: Page) -> None:
    page.goto("/submit")
    ready(page)
    page.get_by_label("First token within").fill("soon")
    expect(page.locator("#f-ttft-wrong")).to_contain_text("allowed: a duration")
    page.get_by_label("First token within").fill("750ms")
    expect(sound(page)).to_be_visible()
    page.get_by_role("button", name="YAML", exact=True).click()
    expect(page.locator(".cm-content")).to_contain_text("ttft: 750ms")


def test_a_service_is_submitted_by_the_form_and_by_yaml(page: Page, up: Up) -> None:
    page.goto("/submit")
    ready(page)
    page.get_by_label("Name", exact=True).fill("by-form")
    page.get_by_label("Requests per second").fill("2")
    expect(page.locator(".cm-content")).to_contain_text("ratePerSecond: 2")
    expect(page.get_by_role("button", name="Dry run")).to_be_enabled()
    page.get_by_role("button", name="Dry run").click()
    expect(page.get_by_text("nothing is applied")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Cost against the objective")).to_be_visible(timeout=90_000)
    page.get_by_text("Refused, and why").click()
    shot(page, "submit-plan")
    assert "by-form" not in str(up.ask("GET", "/api/v1/services"))
    page.get_by_role("button", name="Apply").click()
    expect(page).to_have_url(re.compile("/services/default/by-form"), timeout=15_000)
    page.goto("/submit?service=default/by-form&by=yaml")
    ready(page)
    expect(page.locator(".cm-content")).to_contain_text("by-form")
    page.locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type("  priority: 3")
    page.keyboard.press("Escape")
    expect(sound(page)).to_be_visible()
    page.wait_for_timeout(1200)
    page.get_by_role("button", name="Apply").click()
    expect(page).to_have_url(re.compile("/services/default/by-form"), timeout=15_000)
    until(lambda: up.ask("GET", "/api/v1/services/default/by-form")["spec"]["priority"] == 3, 20)
    _is_not_written_over(page, up)
    up.ask("DELETE", "/api/v1/services/default/by-form")


def _raised(up: Up) -> bool:
    """A change by somebody else; False where the service's status was written in between."""
    path, kind = "/api/v1/services/default/by-form", "application/merge-patch+json"
    version = up.ask("GET", path)["metadata"]["resourceVersion"]
    try:
        up.ask("PATCH", path, {"spec": {"priority": 7}}, {"Content-Type": kind, "If-Match": f'"{version}"'})
    except urllib.error.HTTPError as error:
        if error.code != 412:
            raise
        return False
    return True


def _is_not_written_over(page: Page, up: Up) -> None:
    """What somebody else changed while the page was open stays."""
    page.goto("/submit?service=default/by-form&by=yaml")
    ready(page)
    expect(page.locator(".cm-content")).to_contain_text("priority: 3")
    until(lambda: _raised(up), 20)
    page.locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type("  approval: Manual")
    page.keyboard.press("Escape")
    expect(sound(page)).to_be_visible()
    page.wait_for_timeout(1200)
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("Somebody changed it since this page was opened")).to_be_visible()
    assert up.ask("GET", "/api/v1/services/default/by-form")["spec"]["priority"] == 7


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


def test_events_are_found_by_kind_and_by_word_and_can_be_held(page: Page) -> None:
    page.goto("/events")
    ready(page)
    page.get_by_role("button", name="Plans", exact=True).click()
    expect(page).to_have_url(re.compile("kind=plans"))
    expect(page.get_by_text("Plan solved").first).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("no such thing")
    expect(page.get_by_text("No event matches")).to_be_visible()
    page.get_by_label("Find events").fill("chat")
    expect(page.get_by_text("Replanned").first).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name=re.compile("Resume|Show"))).to_be_visible()


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


def test_what_is_typed_slowly_is_never_typed_over(page: Page) -> None:
    page.goto("/submit?by=yaml")
    ready(page)
    page.locator(".cm-content").click()
    page.keyboard.press("Control+End")
    words = "# " + "every letter comes while the one before is being checked " * 2
    page.keyboard.type(words, delay=90)
    expect(page.locator(".cm-content")).to_contain_text(words.strip())
    page.wait_for_timeout(2000)
    page.get_by_role("button", name="Form", exact=True).click()
    page.get_by_label("Requests per second").fill("3")
    expect(page.locator(".cm-content")).to_contain_text("ratePerSecond: 3")
