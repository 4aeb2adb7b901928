"""What the agent is told: one noun, which the command line fills and the agent's own process reads as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything but secrets: those stay in files that are named here.

    `state`: folder for what must survive the agent; empty = nothing does. `replay`: a recording in place of a driver.
    `jobs`: unix socket on which jobs tell of their steps; empty = none. `controller`: URL, empty = metrics only.
    `setter`: the unix socket of the process that sets limits. `pods`: the kubelet's socket; empty = no labels of pods.
    `xids`: what Xids mean to the owner, by code (`telemetry.xid_policy`).
    """

    node: str
    host: str = "127.0.0.1"
    port: int = 9410
    hot_s: float = 1.0
    warm_s: float = 5.0
    cold_s: float = 60.0
    dcgm: bool = True
    token_file: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    record: str = ""
    replay: str = ""
    replay_speed: float = 1.0
    state: str = ""
    jobs: str = ""
    kmsg: str = "/dev/kmsg"
    controller: str = ""
    controller_ca: str = ""
    controller_token_file: str = ""
    report_s: float = 5.0
    setter: str = ""
    pods: str = ""
    allow_no_gpu: bool = False
    sysfs: str = "/sys"
    version: str = ""
    xids: Mapping[str, str] = field(default_factory=dict)

    def dumped(self) -> str:
        """As one word for the command line."""
        return json.dumps(asdict(self))


def loaded(text: str) -> Settings:
    """Settings from `Settings.dumped`."""
    return Settings(**json.loads(text))


def token(path: str) -> str:
    """The token in a file, without the space around it; empty where no file is named. Raises OSError."""
    return Path(path).read_text("utf-8", "surrogateescape").strip() if path else ""
