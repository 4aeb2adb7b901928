"""A service by form and by YAML, its mistakes shown where they are."""

import re
import urllib.error

from playwright.sync_api import Page, expect

from tests.controller.pages.browsing import BROWSER, ready, shot, sound, until
from tests.controller.running import Up

pytestmark = BROWSER


def apply_with(page: Page, line: str) -> None:
    """Add a line to the YAML that is shown, and apply it."""
    page.locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type(line)
    page.keyboard.press("Escape")
    expect(sound(page)).to_be_visible()
    page.wait_for_timeout(1200)
    page.get_by_role("button", name="Apply").click()


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
    apply_with(page, "  priority: 3")
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
    apply_with(page, "  approval: Manual")
    expect(page.get_by_text("Somebody changed it since this page was opened")).to_be_visible()
    assert up.ask("GET", "/api/v1/services/default/by-form")["spec"]["priority"] == 7


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
