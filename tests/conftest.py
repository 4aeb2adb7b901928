"""What all tests share: the folder of shared data, and the rule that in CI nothing important is skipped."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent
NEVER_SKIPPED_IN_CI = ("cluster", "browser", "nvml")  # marks; and every test that asks for the fixture `shared`

# A deadline per example measures the machine's other work, not ours.
settings.register_profile("muster", deadline=None)
settings.load_profile("muster")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published traces, instances and measurements; it lies beside the checkout and is not part of it."""
    folder = Path(os.environ.get("MUSTER_SHARED") or ROOT.parent / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(
            f"no shared data at {folder}: ask the maintainers for the folder 'shared', put it beside the checkout "
            "or set MUSTER_SHARED to its path"
        )
    return folder


def _everything_can_be_installed() -> bool:
    """Whether this is CI, as root, on Debian: what is missing there is a fault of ours."""
    return os.environ.get("CI") == "true" and os.geteuid() == 0 and Path("/etc/debian_version").exists()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test that must run in CI into a failure with the same reason."""
    report = yield
    important = "shared" in getattr(item, "fixturenames", ()) or any(map(item.get_closest_marker, NEVER_SKIPPED_IN_CI))
    if report.skipped and not hasattr(report, "wasxfail") and important and _everything_can_be_installed():
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"in CI, as root on Debian, this test must run. {reason}"
    return report
