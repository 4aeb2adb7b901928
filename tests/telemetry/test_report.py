"""The controller's replies: what is taken, what is refused in words, whatever comes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import BadInput
from telemetry.capping import Grant, Held, due, granted
from telemetry.errors import BadRecord
from telemetry.fault import Subject
from telemetry.report import MOST_REPLY_BYTES, MOST_ROWS, Allotment, Cap, Reply, brief, reply
from telemetry.uplink import Address, address


def _reply(**body: object) -> Reply:
    return reply(json.dumps(body).encode())


def test_a_reply_holds_caps_what_was_acted_on_and_allotments() -> None:
    taken = _reply(
        caps=[{"uuid": "GPU-1", "watts": 350, "lease_s": 10, "later": "key"}],
        acted=[{"detector": "xid", "gpu": 3, "part": "xid 79"}],
        allotments=[{"uuid": "", "power_w": 4000}],
    )
    assert taken == Reply(
        (Cap("GPU-1", 350.0, 10.0),), (("xid", Subject(3, "xid 79")),), (Allotment("", power_w=4000.0),)
    )
    assert _reply() == Reply()
    assert (_reply(next_s=1).next_s, _reply(next_s=0.001).next_s, _reply(next_s=None).next_s) == (1.0, 0.2, None)


@pytest.mark.parametrize(
    ("cap", "why"),
    [
        ({"uuid": "a", "watts": 0, "lease_s": 1}, "watts is '0'"),
        ({"uuid": "a", "watts": -5, "lease_s": 1}, "watts"),
        ({"uuid": "a", "watts": float("nan"), "lease_s": 1}, "watts is 'nan'"),
        ({"uuid": "a", "watts": 10**400, "lease_s": 1}, "watts"),
        ({"uuid": "a", "watts": True, "lease_s": 1}, "watts"),
        ({"uuid": "a", "watts": 300, "lease_s": 3601}, "lease_s"),
        ({"uuid": "a", "watts": 300}, "lease_s is 'None'"),
        ({"uuid": "", "watts": 300, "lease_s": 1}, "uuid is empty"),
        ({"uuid": ["a"], "watts": 300, "lease_s": 1}, "uuid"),
        ("a", "holds what is no object"),
    ],
)
def test_one_bad_cap_refuses_the_reply_whole(cap: object, why: str) -> None:
    good = {"uuid": "b", "watts": 300, "lease_s": 1}
    with pytest.raises(BadRecord, match="caps") as refused:
        _reply(caps=[good, cap])
    assert why in str(refused.value)


def test_a_gpu_that_is_capped_twice_and_too_much_of_anything_are_refused() -> None:
    cap = {"uuid": "a", "watts": 300, "lease_s": 1}
    bodies: tuple[dict[str, object], ...] = (
        {"caps": [cap, cap]},
        {"caps": [cap] * (MOST_ROWS + 1)},
        {"acted": {}},
        {"caps": None},
    )
    for body in bodies:
        with pytest.raises(BadRecord):
            _reply(**body)
    with pytest.raises(BadRecord, match="more than"):
        reply(b" " * (MOST_REPLY_BYTES + 1))


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_ROW = st.dictionaries(
    st.sampled_from(["uuid", "watts", "lease_s", "detector", "gpu", "part", "job", "power_w", "rate_per_s"]), _JSON
)
_BODY = st.dictionaries(st.sampled_from(["caps", "acted", "allotments", "next_s", "x"]), st.lists(_ROW | _JSON) | _JSON)


@given(body=st.binary(max_size=200) | (_BODY | _JSON).map(lambda one: json.dumps(one).encode()))
def test_whatever_a_controller_answers_is_a_sound_reply_or_a_refusal_in_words(body: bytes) -> None:
    try:
        taken = reply(body)
    except BadRecord:
        return
    assert all(0 < cap.watts <= 1e5 and 0 < cap.lease_s <= 3600 and cap.uuid for cap in taken.caps)
    assert len({cap.uuid for cap in taken.caps}) == len(taken.caps)


def test_a_deep_nest_is_refused() -> None:
    with pytest.raises(BadRecord):
        reply(b"[" * 100_000)


def test_a_lease_counts_from_when_the_report_was_sent_and_a_renewal_keeps_the_time_of_its_grant() -> None:
    first = granted([Cap("a", 300.0, 10.0)], 100.0, 101.0, {})
    assert first == {"a": Grant(300.0, 110.0, 101.0)}
    assert granted([Cap("a", 300.0, 10.0)], 105.0, 105.5, first) == {"a": Grant(300.0, 115.0, 101.0)}
    assert granted([Cap("a", 290.0, 10.0)], 105.0, 105.5, first) == {"a": Grant(290.0, 115.0, 105.5)}
    assert granted([], 105.0, 105.5, first) == {}


def test_the_setter_is_asked_for_what_changed_lower_limits_first_and_never_for_a_lease_that_is_over() -> None:
    held = {
        "same": Held(300.0, 300.0, 110.0), "up": Held(300.0, 300.0, 110.0), "down": Held(600.0, 600.0, 110.0),
        "renewed": Held(300.0, 300.0, 105.0), "over": Held(600.0, 600.0, 90.0),
    }  # fmt: skip
    wanted = {
        "up": Grant(400.0, 110.0, 0), "same": Grant(300.0, 110.5, 0), "renewed": Grant(300.0, 110.0, 0),
        "down": Grant(500.0, 110.0, 0), "over": Grant(500.0, 99.0, 0),
    }  # fmt: skip
    assert list(due(wanted, held, 100.0)) == ["down", "renewed", "up"]


def test_plain_http_is_for_this_host_only() -> None:
    assert address("https://controller.example") == Address(True, "controller.example", 443, "/v1/report")
    assert address("https://[fd00::1]:8443/agents/") == Address(True, "fd00::1", 8443, "/agents")
    assert address("http://127.0.0.1:80/x").secure is False
    for url in (
        "http://controller.example", "http://10.0.0.1", "http://127.0.0.1.example", "ftp://a", "https://", "a.example",
        "https://user:secret@a", "https://a:99999", "https://a/x y", "https://a/?b=c", "https://a\r\n.b",
    ):  # fmt: skip
        with pytest.raises(BadInput, match="--controller"):
            address(url)


def test_a_report_leaves_out_what_is_no_number() -> None:
    assert brief({"power_w": float("nan"), "energy_j": 5.0, "pcie_width": 16.0}) == {"energy_j": 5.0}
