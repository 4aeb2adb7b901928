"""A person who looks around: every page, by mouse and by keyboard, while figures change."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.controller.pages.browsing import BROWSER, PAGES, held, ready, shot, until

pytestmark = BROWSER


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
    page.get_by_label("To (UTC)").fill("2026-01-02T03:00")
    page.get_by_role("button", name="Show this time").click()
    assert (
        page.get_by_label("To (UTC)").evaluate("one => one.validationMessage") == "The end must be later than the start"
    )
    expect(page).to_have_url(re.compile(r"/power$"))
    page.get_by_label("To (UTC)").fill("2026-01-02T05:00")
    page.get_by_role("button", name="Show this time").click()
    expect(page).to_have_url(re.compile(r"/power\?from=2026-01-02T03%3A00&to=2026-01-02T05%3A00"))
    expect(page.get_by_text("2 Jan 03:00\N{EN DASH}05:00 UTC, charts only")).to_be_visible()
    page.get_by_role("link", name="Events").click()
    expect(page).to_have_url(re.compile(r"/events\?from=2026-01-02T03%3A00"))
    expect(page.get_by_text("Nothing happened in this time")).to_be_visible()
    page.get_by_role("link", name="Back to now").click()
    expect(page).to_have_url(re.compile(r"/events$"))


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
