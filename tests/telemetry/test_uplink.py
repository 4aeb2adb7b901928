"""The agent and a controller on loopback: the whole state is told, at once when it changes, and to nobody else."""

import json
import time
from pathlib import Path

import pytest

from telemetry.report import Reply
from telemetry.uplink import Uplink, address
from tests.telemetry.agent_runner import free_port, running
from tests.telemetry.controller_stub import Stub, controller, self_signed
from tests.telemetry.fake_nvml.state import FakeNvml


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"))


def uplink(stub: Stub, ca: Path | str, token_file: Path | str = "", every_s: float = 0.05) -> Uplink:
    def nothing(reply: Reply, sent_s: float) -> None:
        """Caps are another test's."""

    return Uplink(address(stub.url), str(ca), str(token_file), every_s, lambda: b"{}", nothing)


def results(one: Uplink, count: int = 1) -> dict[str, int]:
    """What came of the first reports; zeros left out."""
    one.start()
    began = time.monotonic()
    while sum(one.results.values()) < count and time.monotonic() - began < 10:
        time.sleep(0.01)
    one.stop()
    return {name: number for name, number in one.results.items() if number}


@pytest.mark.nvml
def test_the_whole_state_is_told_and_what_changes_is_told_at_once(
    nvml: FakeNvml, nvml_library: Path, certificate: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "token"
    secret.write_text("first\n", "utf-8")
    more = {"controller_ca": str(certificate), "controller_token_file": str(secret), "report_s": 60.0}
    with (
        controller(certificate) as stub,
        running(nvml, nvml_library, free_port(), controller=stub.url, **more) as agent,
    ):
        agent.wait_for(lambda a: len(a.values("muster_gpu_pcie_width")) == 8)
        secret.write_text("second\n", "utf-8")
        pushed_s = time.monotonic()
        stub.answer = _acts_on_xids
        nvml.push_xid(5, 79)
        told = stub.wait_for(lambda report: bool(report["faults"]))
        assert stub.reports[1][0] - pushed_s < 2.0
        acted = stub.wait_for(lambda report: any(fault["phase"] == "acted" for fault in report["faults"]))
        assert agent.values("muster_agent_reports_total")['result="ok"'] >= 2
    assert [token for _, token, _ in stub.reports][:2] == ["Bearer first", "Bearer second"]
    assert (told["node"], told["driver"], told["driver_hung"]) == ("node-1", "580.159.04", False)
    fault = next(one for one in told["faults"] if one["part"] == "xid 79")
    assert (fault["gpu"], fault["phase"], fault["severity"]) == (5, "confirmed", "fatal_node")
    assert fault["uuid"] == told["gpus"][5]["uuid"]
    assert told["gpus"][5]["values"]["power_w"] == 76.5
    assert [(one["gpu"], one["xid"], one["count"]) for one in told["xids"]] == [(5, 79, 1)]
    sequences = [report["sequence"] for _, _, report in stub.reports]
    assert sequences == sorted(set(sequences))
    assert acted["changes"] > told["changes"] > 0


def _acts_on_xids(report: dict[str, object]) -> dict[str, object]:
    faults = report["faults"]
    assert isinstance(faults, list)
    return {"acted": [{key: fault[key] for key in ("detector", "gpu", "part", "job")} for fault in faults]}


def test_a_certificate_that_nobody_signed_gets_no_report(certificate: Path, tmp_path: Path) -> None:
    with controller(certificate) as stub:
        stranger = self_signed(tmp_path)
        assert results(uplink(stub, stranger)) == {"unreachable": 1}
        assert results(uplink(stub, "")) == {"unreachable": 1}
        wrong_name = Uplink(address(stub.url.replace("127.0.0.1", "localhost")), str(certificate), "", 9, bytes, print)
        assert results(wrong_name) == {"unreachable": 1}
    assert stub.reports == []


def test_a_redirect_and_a_refusal_are_not_followed_and_reports_go_on(certificate: Path) -> None:
    with controller(certificate) as elsewhere, controller(certificate) as stub:
        stub.status, stub.location = 307, f"{elsewhere.url}/v1/report"
        one = uplink(stub, certificate)
        assert results(one) == {"refused": 1}
        assert one.why == "the controller answered 307"
        assert elsewhere.reports == []


def test_a_bad_reply_is_told_apart_and_changes_nothing() -> None:
    with controller(None) as stub:
        stub.answer = lambda report: {"caps": [{"uuid": "a"}]}
        assert results(uplink(stub, "")) == {"bad_reply": 1}
        stub.answer = lambda report: {"caps": ["x" * 100] * 4000}
        assert results(uplink(stub, "")) == {"bad_reply": 1}


def test_failures_are_tried_again_later_and_later_and_a_kept_connection_may_be_closed() -> None:
    with controller(None) as stub:
        one = uplink(stub, "", every_s=0.1)
        one.start()
        _wait(lambda: one.results["ok"] >= 3)
        port = stub.server_port
    _wait(lambda: one.results["unreachable"] >= 2)
    with controller(None, port):
        before = one.results["ok"]
        _wait(lambda: one.results["ok"] > before)
    one.stop()
    assert one.results["refused"] == one.results["bad_reply"] == 0


def test_a_token_file_that_holds_none_is_told_without_its_words(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("se\ncret", "utf-8")
    with controller(None) as stub:
        one = uplink(stub, "", secret)
        assert results(one) == {"unreachable": 1}
        assert "cret" not in one.why.replace("secret", "")
        assert results(uplink(stub, "", tmp_path / "absent")) == {"unreachable": 1}
    assert stub.reports == []


@pytest.mark.nvml
def test_a_controller_that_never_answers_holds_nothing_up(nvml: FakeNvml, nvml_library: Path) -> None:
    with controller(None) as stub:
        stub.silent = True
        with running(nvml, nvml_library, free_port(), controller=stub.url) as agent:
            agent.wait_for(lambda a: len(a.values("muster_gpu_power_watts")) == 8)
            nvml.push_xid(1, 94)
            took_s = agent.wait_for(lambda a: 1.0 in a.values("muster_gpu_xid_events_total").values())
    assert took_s < 1.0


def test_an_answer_that_dribbles_is_cut_off() -> None:
    with controller(None) as stub:
        stub.silent = True
        one = uplink(stub, "")
        one.start()
        _wait(lambda: bool(stub.reports))
        one.look(time.monotonic() + 10.0)
        assert one.results["unreachable"] == 0
        one.look(time.monotonic() + 16.0)  # as the loop would, seconds later
        _wait(lambda: one.results["unreachable"] == 1)
        one.stop()


def test_what_the_agent_sends_is_one_object_of_plain_values(tmp_path: Path) -> None:
    from telemetry.agent import Agent
    from telemetry.settings import Settings
    from telemetry.tell import next_sequence, report

    agent = Agent(Settings("node-1"), "boot", 0.0)
    body = json.loads(report(agent, next_sequence(0), 5.0).encoded())
    assert (body["schema"], body["node"], body["boot_id"], body["sent_s"]) == (1, "node-1", "boot", 5.0)
    assert next_sequence(body["sequence"] + 10**9) == body["sequence"] + 10**9 + 1


def _wait(told: object, within_s: float = 10.0) -> None:
    began = time.monotonic()
    while not told():  # type: ignore[operator]
        assert time.monotonic() - began < within_s
        time.sleep(0.01)
