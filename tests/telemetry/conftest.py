"""The fake NVML library, built once, and a node of eight GPUs behind it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.telemetry.fake_nvml.state import FakeNvml, build


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled library; skipped where there is no compiler."""
    if shutil.which("gcc") is None:
        pytest.skip("the fake NVML library needs gcc (Debian: apt-get install gcc libc6-dev)")
    try:
        return build(tmp_path_factory.mktemp("nvml"))
    except subprocess.CalledProcessError as error:
        pytest.fail(f"the fake NVML library does not compile:\n{error.stderr}")


@pytest.fixture
def nvml(tmp_path: Path) -> FakeNvml:
    """Eight idle GPUs."""
    return FakeNvml(tmp_path)
