"""Units for bare hosts: systemd takes them, they start our commands, and they hold no more powers than they need."""

import re
import shlex
import shutil
import subprocess
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
PROGRAM = "/usr/local/bin/muster"


def service(unit: Path) -> dict[str, list[str]]:
    """Keys of [Service] with all their values; a key may stand more than once."""
    found: dict[str, list[str]] = defaultdict(list)
    section = ""
    for line in unit.read_text("utf-8").replace("\\\n", " ").splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_the_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here: the other tests read the units")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text("utf-8").replace(PROGRAM, "/bin/true"), "utf-8")  # muster need not be installed here
    said = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True)
    assert (said.returncode, [line for line in said.stderr.splitlines() if unit.name in line]) == (0, [])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_a_command_of_ours_with_options_that_it_has(unit: Path) -> None:
    (start,) = service(unit)["ExecStart"]
    program, command, *words = shlex.split(start)
    assert program == PROGRAM
    with (ROOT / "pyproject.toml").open("rb") as file:
        module, _, function = (
            tomllib.load(file)["project"]["entry-points"]["muster.commands"][command].partition(":")
        )  # fmt: skip
    source = (ROOT / f"{module.replace('.', '/')}.py").read_text("utf-8")
    assert f"def {function}(" in source
    options = [word for word in words if word.startswith("--")]
    assert options
    assert [one for one in options if not re.search(rf"^    {one[2:].replace('-', '_')}:", source, re.MULTILINE)] == []


def test_the_agent_is_nobody_and_the_setter_is_root_with_one_power() -> None:
    agent, setter = (service(ROOT / "deploy" / "systemd" / f"muster-{name}.service") for name in ("agent", "setter"))
    assert (agent["DynamicUser"], agent["CapabilityBoundingSet"]) == (["yes"], ["CAP_SYSLOG"])
    assert (setter["User"], setter["CapabilityBoundingSet"]) == (["root"], ["CAP_SYS_ADMIN"])
    assert setter["Group"] == agent["User"]
    assert (setter["RestrictAddressFamilies"], setter["PrivateNetwork"]) == (["AF_UNIX"], ["yes"])
    for unit in (agent, setter):
        assert unit["Restart"] == ["always"]
        for key in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "ProtectKernelModules", "RestrictSUIDSGID"):
            assert unit[key] == ["yes"]
        assert unit["ProtectSystem"] == ["strict"]
    # What would close the GPUs to an agent that starts before their driver.
    assert not {"DeviceAllow", "DevicePolicy", "PrivateDevices", "ProtectClock", "ProtectKernelLogs"} & agent.keys()
