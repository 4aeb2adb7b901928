"""A running Muster with a service, and a browser at its pages.

Needs Debian's chromium; MUSTER_SHOTS names a folder that screenshots of every page are saved in.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.controller.pages.browsing import CHROMIUM, looking, until
from tests.controller.running import Up, a_body, running

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


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    (folder / "inventory.yaml").write_text(_INVENTORY)
    with running(folder / "state", "--no-auth", "--speed", "30", "--inventory", str(folder / "inventory.yaml")) as made:
        made.ask("POST", "/api/v1/services", a_body("chat", 10.0))
        until(lambda: made.ask("GET", "/api/v1/services/default/chat/view")["service"]["ready"], 90)
        yield made


@pytest.fixture(scope="module")  # not longer: while it is open, no test of another module can run an event loop
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        made = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
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
