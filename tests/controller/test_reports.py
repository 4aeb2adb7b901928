"""What agents tell is checked, put in order and read; nothing else gets in."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.reports import BadReport, Kept, Report, caps_in_force, fault_words, overrun_words, parse, state, take
from telemetry.report import Report as Sent

XID = {
    "detector": "xid", "severity": "fatal_gpu", "action": "reset_gpu", "phase": "confirmed", "value": 1.0, "gpu": 3,
    "uuid": "GPU-3", "part": "xid 79", "job": "", "since_s": 5.0, "last_hit_s": 5.0,
    "words": "Xid 79: fell off the bus",
}  # fmt: skip
GPU3 = {
    "gpu": 3,
    "uuid": "GPU-3",
    "model": "H100",
    "up": True,
    "at_s": 5.0,
    "values": {"power_limit_enforced_w": 700.0},
}


def sent(sequence: int = 1, *, node: str = "n1", boot: str = "b1", at_s: float = 5.0, **rows: object) -> bytes:
    """A report as the agent encodes it."""
    return Sent(node, boot, sequence, at_s, 0, **{"gpus": [GPU3], **rows}).encoded()  # type: ignore[arg-type]


def test_what_the_agent_encodes_is_read() -> None:
    report = parse(sent(7, faults=[XID]))
    assert (report.node, report.boot_id, report.sequence) == ("n1", "b1", 7)
    assert report.faults[0].out
    assert fault_words(report) == "GPU 3: Xid 79: fell off the bus"


@pytest.mark.parametrize(
    "change", [{"phase": "suspect"}, {"phase": "probation"}, {"severity": "app"}, {"severity": "degraded"}]
)
def test_what_is_not_certain_or_not_fatal_takes_no_node_out(change: dict[str, str]) -> None:
    assert fault_words(parse(sent(faults=[{**XID, **change}]))) == ""


def test_a_hung_driver_and_a_lost_gpu_take_their_node_out() -> None:
    assert fault_words(parse(sent(driver_hung=True))) == "the driver does not answer"
    assert fault_words(parse(sent(gpus=[{**GPU3, "up": False}]))) == "GPU 3 is lost"


def test_a_report_for_another_node_is_refused() -> None:
    with pytest.raises(BadReport, match="got n1, allowed: n2, which the token is bound to"):
        take(parse(sent()), "n2", None, 10.0)


def test_reports_of_a_boot_come_in_their_order_or_not_at_all() -> None:
    kept = take(parse(sent(5)), "n1", None, 10.0)
    for old in (5, 4):
        with pytest.raises(BadReport, match=f"got {old}, allowed: above 5"):
            take(parse(sent(old)), "n1", kept, 11.0)
    assert take(parse(sent(6)), "n1", kept, 11.0).report.sequence == 6


def test_a_new_boot_begins_anew_and_a_straggler_of_the_old_one_is_refused() -> None:
    kept = take(parse(sent(500)), "n1", None, 10.0)
    again = take(parse(sent(2, boot="b2", at_s=60.0)), "n1", kept, 61.0)
    assert again.report.boot_id == "b2"
    with pytest.raises(BadReport, match="b1, which is over"):
        take(parse(sent(501, at_s=9.0)), "n1", again, 62.0)


def test_a_fault_has_a_beginning_and_an_end() -> None:
    kept: Kept | None = None
    for sequence, faults in enumerate(([], [XID], [XID], []), 1):
        kept = take(parse(sent(sequence, faults=faults)), "n1", kept, 10.0 * sequence)
    assert kept is not None
    assert (kept.faulty_since_s, kept.well_since_s) == (20.0, 40.0)
    node = state("n1", kept)
    assert (node.fault, node.faulty_since_s, node.well_since_s, node.heard_s) == ("", 20.0, 40.0, 40.0)


def test_a_node_that_never_reported_is_unheard_of() -> None:
    assert state("n1", None).heard_s == 0.0


def test_caps_in_force_are_what_was_read_back() -> None:
    assert caps_in_force({"n1": take(parse(sent()), "n1", None, 1.0)}) == {"GPU-3": 700.0}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "schema"),
        ({"node": ""}, "node"),
        ({"node": "n" * 300}, "node"),
        ({"sequence": -1}, "sequence"),
        ({"sequence": 1 << 70}, "sequence"),
        ({"sent_s": "soon"}, "sent_s"),
        ({"gpus": [{}]}, "gpus.0.gpu"),
        ({"gpus": [GPU3] * 300}, "gpus"),
        ({"faults": [{**XID, "severity": "dreadful"}]}, "faults.0.severity"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], said: str) -> None:
    with pytest.raises(BadReport, match=said):
        parse(json.dumps({**json.loads(sent()), **change}).encode())


def test_too_much_is_refused_before_it_is_read() -> None:
    with pytest.raises(BadReport, match="allowed: up to 4,194,304"):
        parse(b"[" * (5 << 20))


@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    ).map(lambda x: json.dumps(x).encode())
)
def test_whatever_the_bytes_the_outcome_is_a_report_or_one_line(body: bytes) -> None:
    try:
        outcome: Report | str = parse(body)
    except BadReport as error:
        outcome = str(error)
    assert isinstance(outcome, Report) or "\n" not in outcome


def test_overruns_are_told_in_words_the_first_of_them() -> None:
    rows = [{"kind": "power", "gpu": i} for i in range(4)] + [{"kind": "time", "words": "chat takes 2 x its time"}]
    assert overrun_words(parse(sent(1, overruns=rows[3:]))) == "GPU 3: power; chat takes 2 x its time"
    assert overrun_words(parse(sent(1, overruns=rows))).endswith("GPU 2: power and 2 more")


def test_an_overrun_names_the_service_and_the_gpu() -> None:
    late = {"kind": "latency_over_slo", "gpu": 2, "job": "a-job", "words": "too late"}
    gpu = {"gpu": 2, "uuid": "u", "pods": [["default", "chat-0", "engine"]]}
    report = parse(sent(1, overruns=[late], gpus=[gpu]))
    assert overrun_words(report, lambda space, pod: f"{space}/chat") == "default/chat on GPU 2: too late"
    assert overrun_words(report) == "a-job on GPU 2: too late"
