"""Reasons and colours in a real browser: whole without a mouse, and the same on every page."""

import pytest
from playwright.sync_api import Page, expect

from tests.controller.pages.browsing import BROWSER, ready, shot, until
from tests.controller.running import Up, a_body

pytestmark = BROWSER


@pytest.fixture(scope="module", autouse=True)
def _huge(up: Up) -> None:
    """A service that no plan can serve."""
    up.ask("POST", "/api/v1/services", a_body("huge", 90_000.0))
    until(lambda: up.ask("GET", "/api/v1/services/default/huge/view")["service"]["reason"] == "Infeasible", 90)


def test_the_banner_says_the_whole_reason(page: Page, up: Up) -> None:
    told = up.ask("GET", "/api/v1/services/default/huge/view")["service"]
    assert "cheapest relaxation" in told["explained"]
    page.goto("/services/default/huge")
    banner = page.locator(".m-banner")
    expect(banner).to_contain_text("cheapest relaxation")
    assert "…" not in banner.inner_text()
    assert banner.evaluate("one => [...one.querySelectorAll('*')].every(e => e.scrollWidth <= e.clientWidth + 1)")
    expect(page.locator(".m-badge.m-good", has_text="ms")).to_have_count(0)
    expect(page.get_by_text("No replica serves, so nothing is measured.")).to_be_visible()
    expect(page.get_by_label("Replicas ready")).to_contain_text("none")
    shot(page, "infeasible")


def test_a_folded_reason_opens_by_the_keyboard_and_stays_open(page: Page) -> None:
    page.goto("/")
    ready(page)
    folded = page.locator("tr.m-under details").first
    folded.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(folded.locator(".m-note")).to_be_visible()
    expect(folded.locator(".m-note")).to_contain_text("cheapest relaxation")
    page.wait_for_timeout(5000)  # figures were patched meanwhile
    expect(folded.locator(".m-note")).to_be_visible()
    page.goto("/services/default/huge")
    ready(page)
    state = page.get_by_role("table", name="State").locator("details").nth(1)
    state.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(state.locator(".m-note")).to_contain_text("cheapest relaxation")


def test_a_service_has_one_colour_on_all_pages(page: Page) -> None:
    found = set()
    for path, place in (
        ("/", "tr:has(a:text-is('chat')) .m-swatch"),
        ("/services/default/chat", ".m-row > .m-html .m-swatch, .m-row > .m-swatch"),
        ("/plans/default/chat", ".m-row > .m-html .m-swatch, .m-row > .m-swatch"),
    ):
        page.goto(path)
        ready(page)
        found.add(page.locator(place).first.evaluate("one => getComputedStyle(one).backgroundColor"))
    page.goto("/cluster")
    ready(page)
    shadow = page.locator(".m-tile:not(.free)").first.evaluate("one => getComputedStyle(one).boxShadow")
    assert len(found) == 1
    assert shadow.startswith(found.pop())


def test_headings_of_charts_take_one_line_beside_what_says_their_colours(page: Page) -> None:
    page.goto("/")
    ready(page)
    heads = page.locator(".m-legend")
    assert heads.count() == 3
    for index in range(3):
        box, title = heads.nth(index).bounding_box(), heads.nth(index).locator("h2").bounding_box()
        assert box is not None
        assert title is not None
        assert title["height"] == box["height"] == 18
    expect(heads.nth(1)).to_contain_text("Cost of what runs, by service")
