"""A real control plane on the loopback: etcd, kube-apiserver, kube-controller-manager, kube-scheduler.

Built once by `build.sh` into a cache outside the repository, then started in seconds. The API server's audit log is the
oracle of tests: who wrote what, when. Every process dies with the test process that started it.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

BUILD = Path(__file__).with_name("build.sh")
CACHE = Path(os.environ.get("MUSTER_TEST_CACHE") or Path.home() / ".cache" / "muster-tests")
VERSION = "1.20.2"
NEEDED = ("apt-get", "curl", "dpkg", "openssl", "setpriv")
USERS: Mapping[str, tuple[str, ...]] = {
    "admin": ("system:masters",),
    "muster-controller": (),
    "tenant-a": ("team-a",),
    "tenant-b": ("team-b",),
}
_GOGC = "400"  # memory for processor time, of which two cores have less: a sixth of an API server's at 100 writes/s
AUDIT_POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: None, verbs: [get, list, watch]}
  - level: Request
    resources: [{group: muster.dev}, {group: coordination.k8s.io}, {group: apps}, {group: ""}, {group: policy},
      {group: scheduling.k8s.io}, {group: gateway.networking.k8s.io}]
  - {level: Metadata}
"""


def programs() -> Path:
    """The folder of the built programs; builds them if need be, skips aloud where they can't be built."""
    folder = CACHE / f"control-plane-{VERSION}"
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing:
        pytest.skip(f"the control plane of the tests needs {', '.join(missing)} (Debian)")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "control-plane.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process builds, the others wait
        built = subprocess.run(["bash", str(BUILD), str(folder)], capture_output=True, text=True, check=False)
    if built.returncode:
        pytest.skip(f"the control plane could not be built: {built.stderr[-500:]}")
    return folder


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@dataclass
class Plane:
    """A control plane in a folder. `fair`: API priority and fairness, so that 429 can be met."""

    folder: Path
    programs: Path
    fair: bool = False
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Of the API server."""
        return f"https://127.0.0.1:{self.ports['apiserver']}"

    @property
    def authority(self) -> Path:
        """The file that the API server's certificate is checked with."""
        return self.folder / "certs" / "apiserver.crt"

    @property
    def audit_log(self) -> Path:
        return self.folder / "audit.log"

    @staticmethod
    def token(user: str) -> str:
        """The bearer token of one of `USERS`."""
        return f"{user}-token"

    def kubeconfig(self, user: str = "admin", url: str | None = None) -> Path:
        """A kubeconfig file of a user, for the API server itself or for a proxy before it."""
        path = self.folder / f"kubeconfig-{user}-{abs(hash(url)) % 10_000}.json"
        cluster: dict[str, object] = {"server": url or self.url, "certificate-authority": str(self.authority)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "c", "user": {"token": self.token(user)}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c", "namespace": "default"}}],
        }
        path.write_text(json.dumps(config), "utf-8")
        path.chmod(0o600)
        return path

    def start(self) -> None:
        """All four, ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        names = ("etcd", "peer", "apiserver", "manager", "scheduler")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        key = ["openssl", "genrsa", "-out", str(self.folder / "sa.key"), "2048"]
        subprocess.run(key, check=True, capture_output=True)
        rows = [f'{self.token(user)},{user},{user},"{",".join(groups)}"' for user, groups in USERS.items()]
        (self.folder / "tokens.csv").write_text("\n".join(rows) + "\n", "utf-8")
        (self.folder / "audit.yaml").write_text(AUDIT_POLICY, "utf-8")
        for name in ("etcd", "apiserver", "manager", "scheduler"):
            self.run(name)

    def run(self, name: str) -> None:
        """Start one program and wait until it answers; what it wrote before is still there."""
        with (self.folder / f"{name}.log").open("ab") as log:
            words = ["setpriv", "--pdeathsig", "KILL", *map(str, self._words(name))]
            env = {"GOGC": _GOGC, **os.environ}
            self.processes[name] = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env)
        if name in ("etcd", "apiserver"):
            self.await_ready(name)

    def await_ready(self, name: str, seconds: float = 60.0) -> None:
        """Wait until a program answers; raises with the end of its log."""
        url = f"http://127.0.0.1:{self.ports['etcd']}/health" if name == "etcd" else f"{self.url}/readyz"
        end_s = time.monotonic() + seconds
        while not self._answers(url):
            if self.processes[name].poll() is not None or time.monotonic() > end_s:
                raise RuntimeError(f"{name} does not answer: {self._end_of_log(name)}")
            time.sleep(0.05)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a program as a crash does."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        process.wait()

    def freeze(self, name: str) -> None:
        """SIGSTOP: its connections stay open and nothing answers."""
        self.processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGCONT)

    def compact(self) -> None:
        """Forget all history of etcd, so that watches from an old resource version get 410."""
        at = f"http://127.0.0.1:{self.ports['etcd']}/v3"
        revision = _post(f"{at}/kv/range", {"key": "AA=="})["header"]["revision"]  # type: ignore[index]
        _post(f"{at}/kv/compaction", {"revision": revision, "physical": True})

    def stop(self) -> None:
        """End all programs, the ones that others need last."""
        for name in ("scheduler", "manager", "apiserver", "etcd"):
            if name in self.processes:
                self.kill(name)

    def kubectl(self, *words: str, user: str = "admin", stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        """A command of kubectl's, as people type it."""
        command = [str(self.programs / "kubectl"), f"--kubeconfig={self.kubeconfig(user)}", *words]
        home = {**os.environ, "HOME": str(self.folder)}
        return subprocess.run(command, capture_output=True, text=True, input=stdin, check=False, env=home)

    def request(
        self, method: str, path: str, body: object = None, *, user: str = "admin", kind: str = "application/json"
    ) -> tuple[int, dict[str, object]]:
        """One call of the API with nothing in between; the status and the JSON that came back."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token(user)}", "Content-Type": kind}
        asked = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=30, context=self.trust()) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"{}")

    def trust(self) -> ssl.SSLContext:
        """TLS that trusts this API server alone."""
        return ssl.create_default_context(cafile=str(self.authority))

    def _answers(self, url: str) -> bool:
        try:
            context = self.trust() if url.startswith("https") else None
            headers = {"Authorization": f"Bearer {self.token('admin')}"}
            asked = urllib.request.Request(url, headers=headers)
            with urllib.request.urlopen(asked, timeout=2, context=context) as answer:
                return bool(answer.status == 200)
        except (OSError, ssl.SSLError):
            return False

    def _end_of_log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")[-1500:]

    def _words(self, name: str) -> Iterable[object]:
        ports, at = self.ports, self.folder
        etcd, peer = f"http://127.0.0.1:{ports['etcd']}", f"http://127.0.0.1:{ports['peer']}"
        config = None if name in ("etcd", "apiserver") else self.kubeconfig()
        fairness = (
            ["--enable-priority-and-fairness=true"]
            if self.fair
            else [
                "--enable-priority-and-fairness=false",
                "--max-requests-inflight=0",
                "--max-mutating-requests-inflight=0",
            ]
        )
        return {
            "etcd": [
                self.programs / "etcd", f"--data-dir={at}/etcd", f"--listen-client-urls={etcd}",
                f"--advertise-client-urls={etcd}", f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}", "--unsafe-no-fsync",
            ],
            "apiserver": [
                self.programs / "kube-apiserver", f"--etcd-servers={etcd}", f"--secure-port={ports['apiserver']}",
                "--bind-address=127.0.0.1", f"--cert-dir={at}/certs", f"--token-auth-file={at}/tokens.csv",
                "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/16",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-signing-key-file={at}/sa.key", f"--service-account-key-file={at}/sa.key",
                "--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none",
                "--allow-privileged=true", f"--audit-policy-file={at}/audit.yaml", f"--audit-log-path={self.audit_log}",
                "--audit-log-maxsize=100000",
                *fairness,
            ],
            "manager": [
                self.programs / "kube-controller-manager", f"--kubeconfig={config}", "--leader-elect=false",
                f"--service-account-private-key-file={at}/sa.key", "--bind-address=127.0.0.1", "--port=0",
                f"--secure-port={ports['manager']}", f"--cert-dir={at}/manager", "--controllers=*,-nodeipam",
                "--node-monitor-grace-period=1h", "--kube-api-qps=1000", "--kube-api-burst=2000",
            ],
            "scheduler": [
                self.programs / "kube-scheduler", f"--kubeconfig={config}", "--leader-elect=false",
                "--bind-address=127.0.0.1", "--port=0", f"--secure-port={ports['scheduler']}",
                f"--cert-dir={at}/scheduler", "--kube-api-qps=1000", "--kube-api-burst=2000",
            ],
        }[name]  # fmt: skip


def _post(url: str, body: object) -> dict[str, object]:
    asked = urllib.request.Request(url, json.dumps(body).encode())
    with urllib.request.urlopen(asked, timeout=30) as answer:
        found: dict[str, object] = json.loads(answer.read())
        return found
