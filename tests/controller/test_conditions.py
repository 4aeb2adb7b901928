"""What a status says: each seeded failure has its answer, nothing moves by itself, nothing secret is said."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import conditions, names, pods
from controller.causes import ORDER, Facts, Planning
from controller.cluster import Kind, Node, Running, Target
from controller.crds.kinds import ServiceStatus
from controller.crds.reasons import CONDITIONS, REASONS
from controller.redact import shown
from controller.trigger import Verdict
from tests.controller.failure import Failure, deployment, facts, template
from tests.controller.failures import FAILURES

SERVICE: dict[str, Any] = {"metadata": {"name": "chat", "namespace": "a", "generation": 1}}


def seeded(failure: Failure) -> Facts:
    """The facts of a failure as a cluster would say them, without one."""
    service = {"metadata": {"name": failure.name, "namespace": "a", "generation": 1}}
    made = template(failure)
    made["metadata"]["name"] = f"{failure.name}-pod"
    workload = deployment(failure)
    if failure.kubelet:
        made["spec"]["nodeName"] = "big"
    if failure.workload:
        row = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": failure.workload}
        workload["status"] = {"conditions": [row]}
    found = []
    if failure.status is not None:
        for number in (1, 2):
            pod = json.loads(json.dumps(made))
            pod["metadata"]["name"] += str(number)
            found.append({**pod, "status": failure.status(pod)})
    return facts(failure, service, found, [workload], 2 if failure.serves else 0)


def said(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(row for row in status["conditions"] if row["type"] == kind)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.name)
def test_a_failure_is_answered(failure: Failure) -> None:
    known = seeded(failure)
    status = conditions.status(known)
    ready = said(status, "Ready")
    assert ready["status"] == ("True" if failure.serves else "False")
    assert ready["reason"] == failure.reason, ready
    for words in failure.words:
        assert words in status["why"], status["why"]
    assert [row["type"] for row in status["conditions"]] == list(CONDITIONS)
    assert all(row["reason"] in REASONS for row in status["conditions"])
    assert not re.search("hunter2|abcdefgh1234", json.dumps(status))
    assert "" not in status.values()
    ServiceStatus.model_validate(status)


def test_there_are_thirty_failures_and_every_reason_has_its_place() -> None:
    assert len(FAILURES) >= 30
    assert set(ORDER) <= set(REASONS)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.name)
def test_a_minute_later_nothing_is_written(failure: Failure) -> None:
    first = seeded(failure)
    status = conditions.status(first)
    later = replace(first, service={**first.service, "status": status}, now=first.now + timedelta(seconds=61))
    assert conditions.status(later) == status


KIND = Kind("chat-k", "chat", "2xL4 tp2", "serve", "l4s", 2, 5.0)
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def known(**over: Any) -> Facts:
    plan = Planning("solved", "d-1", 1)
    default: dict[str, Any] = {
        "service": SERVICE,
        "now": NOW,
        "verdict": Verdict(),
        "targets": (Target(KIND, 2),),
        "running": (Running(KIND, 2, 2, 2),),
        "planning": plan,
    }
    return Facts(**default | over)


def test_a_service_that_serves_says_so_and_names_no_cause() -> None:
    status = conditions.status(known())
    states = {row["type"]: row["status"] for row in status["conditions"]}
    true = {"Accepted", "Planned", "Applied", "Ready", "TelemetryFresh"}
    assert states == {kind: str(kind in true) for kind in CONDITIONS}
    assert (status["why"], status["desiredReplicas"], status["readyReplicas"], status["gpus"]) == ("-", 2, 2, 4)
    assert status["selector"] == "muster.dev/service=chat"


def test_the_time_of_a_condition_moves_with_its_state_alone() -> None:
    first = conditions.status(known())
    served = {**SERVICE, "status": first}
    later = known(service=served, now=NOW + timedelta(hours=1), running=(Running(KIND, 2, 2, 1),), paused=True)
    second = conditions.status(later)
    assert said(second, "Applied") == said(first, "Applied")
    assert said(second, "Ready")["lastTransitionTime"] == "2026-03-01T13:00:00Z"
    assert said(second, "RebalanceHeld")["lastTransitionTime"] == "2026-03-01T13:00:00Z"


def test_what_is_said_of_a_miss_stays_while_it_lasts_and_is_said_anew_of_another_spec() -> None:
    first = conditions.status(known(slo="Missed", missed="p99 TTFT 812 ms over 500 ms"))
    served = {**SERVICE, "status": first}
    second = conditions.status(known(service=served, slo="Missed", missed="p99 TTFT 640 ms over 500 ms"))
    assert said(second, "Degraded") == said(first, "Degraded")
    meta = {**SERVICE["metadata"], "generation": SERVICE["metadata"]["generation"] + 1}
    other = known(service={**served, "metadata": meta}, slo="Missed", missed="p99 TPOT 50 ms over 40 ms")
    assert said(conditions.status(other), "Degraded")["message"] == "p99 TPOT 50 ms over 40 ms"


def test_while_a_new_spec_is_planned_what_serves_is_ready_for_the_old_one() -> None:
    newer = {"metadata": {**SERVICE["metadata"], "generation": 2}}
    status = conditions.status(known(service=newer))
    assert (said(status, "Planned")["status"], said(status, "Planned")["reason"]) == ("Unknown", "Solving")
    assert (said(status, "Ready")["status"], said(status, "Ready")["observedGeneration"]) == ("True", 1)
    assert (status["observedGeneration"], said(status, "Planned")["observedGeneration"]) == (2, 2)
    refused = conditions.status(known(service=newer, problems=("spec.slos: got none",)))
    assert (said(refused, "Ready")["reason"], said(refused, "Ready")["observedGeneration"]) == ("InvalidSpec", 2)
    assert "2 of 2 replicas serve" in said(refused, "Ready")["message"]
    assert said(refused, "Applied")["status"] == "True"


def test_a_better_plan_of_the_same_spec_that_waits_does_not_make_what_serves_unready() -> None:
    waits = known(planning=Planning("awaiting_approval", "d-2", 1))
    status = conditions.status(waits)
    assert (said(status, "Ready")["status"], said(status, "Applied")["status"]) == ("True", "True")
    assert status["why"] == "AwaitingApproval: decision d-2 waits: muster approve chat"
    newer = {"metadata": {**SERVICE["metadata"], "generation": 2}}
    status = conditions.status(replace(waits, service=newer))
    assert (said(status, "Ready")["reason"], said(status, "Applied")["reason"]) == ("AwaitingApproval",) * 2


def test_a_spec_that_changed_while_paused_is_not_planned_and_says_so() -> None:
    newer = {"metadata": {**SERVICE["metadata"], "generation": 2}}
    status = conditions.status(known(service=newer, paused=True))
    assert (said(status, "Planned")["status"], said(status, "Planned")["reason"]) == ("Unknown", "Paused")
    assert (said(status, "Ready")["status"], said(status, "Ready")["observedGeneration"]) == ("True", 1)
    fresh = conditions.status(known(planning=Planning(), targets=(), running=(), paused=True))
    assert (said(fresh, "Ready")["reason"], said(fresh, "Applied")["reason"]) == ("Paused", "Paused")


def test_a_plan_of_no_replicas_is_ready() -> None:
    status = conditions.status(known(targets=(), running=()))
    assert (said(status, "Ready")["status"], said(status, "Ready")["reason"]) == ("True", "ScaledToZero")


def test_a_message_is_never_longer_than_1024_characters() -> None:
    status = conditions.status(known(problems=[f"spec.field{i}: got {'x' * 200}" for i in range(50)]))
    assert max(len(row["message"]) for row in status["conditions"]) <= 1024
    assert len(status["why"]) <= 80


def test_a_pod_that_was_evicted_does_not_hide_the_one_that_fails_in_its_place() -> None:
    def pod(name: str, **status: Any) -> dict[str, Any]:
        return {"metadata": {"name": name}, "spec": {"nodeName": "n"}, "status": status}

    waiting = {"name": "engine", "image": "i:1", "state": {"waiting": {"reason": "ErrImagePull"}}}
    gone, new = pod("a", phase="Failed", reason="Evicted"), pod("b", phase="Pending", containerStatuses=[waiting])
    status = conditions.status(known(running=(Running(KIND, 2, 2, 1),), pods=(gone, new)))
    assert said(status, "Ready")["reason"] == "ImagePullFailed"
    assert said(status, "Degraded")["status"] == "True"


@pytest.mark.parametrize(
    "words",
    [
        "https://bob:hunter2@registry/v2", "Authorization: Bearer hunter2", "Authorization: Basic hunter2",
        "GET /x?token=hunter2&a=1", "password=hunter2", "X-Amz-Signature=hunter2", "key hf_hunter2hunter2",
        "eyJhunter2.eyJhunter2.hunter2",
    ],
)  # fmt: skip
def test_secrets_are_not_shown(words: str) -> None:
    assert "hunter2" not in shown(words)


def test_names_of_secrets_are_shown() -> None:
    words = 'secret "hf-token" not found; couldn\'t find key password in Secret team/token'
    assert shown(words) == words


@pytest.mark.parametrize(
    ("message", "reason", "words"),
    [
        (
            "0/5 nodes are available: 2 Insufficient nvidia.com/gpu, 3 node(s) had untolerated taint {a: b}. "
            "preemption: 0/5 nodes are available: 5 No preemption victims found.",
            "WaitingForGPU", "3 had taint {a: b}, 2 have too few free GPUs (of 5 nodes)",
        ),
        ("no nodes available to schedule pods", "Unschedulable", "no nodes available"),
        (
            "0/2 nodes are available: 2 node(s) had volume node affinity conflict.",
            "VolumeUnavailable", "another zone",
        ),
    ],
)  # fmt: skip
def test_the_schedulers_words_are_read_in_old_and_new_style(message: str, reason: str, words: str) -> None:
    row = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    pod = {"metadata": {"name": "x"}, "spec": {"containers": []}, "status": {"conditions": [row]}}
    found = pods.trouble(pod, NOW)
    assert found is not None
    assert (found.reason, words in found.text) == (reason, True), found


def test_a_container_that_runs_again_after_a_crash_is_still_said_to_crash() -> None:
    end = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    one = {"name": "engine", "ready": False, "restartCount": 3, "state": {"running": {}}, "lastState": end}
    pod = {"metadata": {"name": "x"}, "spec": {"nodeName": "n"}, "status": {"containerStatuses": [one]}}
    found = pods.trouble(pod, NOW)
    assert str(found) == "pod x: container engine exited with 137 (OOMKilled) 3 times"


def test_pod_security_is_named() -> None:
    message = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false'
    row = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    found = pods.refusal({"kind": "Deployment", "metadata": {"name": "d"}, "status": {"conditions": [row]}})
    assert found is not None
    assert (found.reason, "restricted:latest" in found.text) == ("PodRefused", True)


_WORDS = st.sampled_from(
    ["", "OOMKilled", "Completed", "CrashLoopBackOff", "ErrImagePull", "PodInitializing", "x" * 2000]
)
_TIMES = st.sampled_from([None, "", "not a time", "2026-03-01T11:00:00Z", "2026-03-01T11:59:59.123456Z"])
_STATE = st.fixed_dictionaries(
    {},
    optional={
        "waiting": st.fixed_dictionaries({}, optional={"reason": _WORDS, "message": _WORDS}),
        "running": st.fixed_dictionaries({}, optional={"startedAt": _TIMES}),
        "terminated": st.fixed_dictionaries(
            {}, optional={"exitCode": st.integers(0, 255), "reason": _WORDS, "message": _WORDS}
        ),
    },
)
_CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {"name": st.just("engine")},
        optional={
            "ready": st.booleans(), "restartCount": st.integers(0, 9), "state": st.none() | _STATE,
            "lastState": st.none() | _STATE, "image": _WORDS,
        },
    ),
    max_size=2,
)  # fmt: skip
_CONDITION = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["Ready", "ContainersReady", "PodScheduled", "DisruptionTarget"]),
        "status": st.sampled_from(["True", "False", "Unknown"]),
    },
    optional={"reason": _WORDS, "message": _WORDS, "lastTransitionTime": _TIMES},
)
_STATUS = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "phase": st.sampled_from(["Pending", "Running", "Failed", "Succeeded", "Unknown"]), "reason": _WORDS,
        "message": _WORDS, "startTime": _TIMES, "conditions": st.none() | st.lists(_CONDITION, max_size=4),
        "containerStatuses": st.none() | _CONTAINERS, "initContainerStatuses": st.none() | _CONTAINERS,
    },
)  # fmt: skip


@given(st.lists(_STATUS, max_size=3), st.booleans())
def test_whatever_a_pod_says_the_status_is_one_that_the_server_takes(statuses: list[Any], bound: bool) -> None:
    spec = {"containers": [{"name": "engine"}]} | ({"nodeName": "n"} if bound else {})
    found = [{"metadata": {"name": f"p{i}"}, "spec": spec, "status": one} for i, one in enumerate(statuses)]
    facts_ = known(pods=found, running=(Running(KIND, 2, 2, 0),))
    status = conditions.status(facts_)
    ServiceStatus.model_validate(status)
    assert said(status, "Ready")["status"] == "False"
    assert all(row["reason"] in REASONS and row["message"] for row in status["conditions"])
    assert max(len(row["message"]) for row in status["conditions"]) <= 1024
    assert 0 < len(status["why"]) <= 80
    later = replace(facts_, service={**SERVICE, "status": status})
    assert conditions.status(later) == status


def test_a_service_that_serves_without_a_plan_for_what_is_asked_says_both() -> None:
    kind = Kind("chat-k", "a/chat", "H100 tp1", "serve", "h100s", 1, 10.0)
    planning = Planning("infeasible", "d-1", 1, "needs 8 H100", "2 nodes more in h100s", "what fits carries 5 of 9")
    known = Facts(
        SERVICE, datetime(2026, 1, 1, tzinfo=UTC), planning=planning, targets=(Target(kind, 2),),
        running=(Running(kind, 2, 2, 2),),
    )  # fmt: skip
    status = conditions.status(known)
    ready = said(status, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "PartiallyServing")
    assert ready["message"] == (
        "what fits carries 5 of 9; needs 8 H100; cheapest relaxation: 2 nodes more in h100s; 2 of 2 replicas serve"
    )
    assert (said(status, "Planned")["status"], said(status, "Planned")["reason"]) == ("False", "Infeasible")
    assert status["why"].startswith("what fits carries 5 of 9; 2 nodes more in h100s would do")
    none = conditions.status(replace(known, running=(Running(kind, 2, 2, 0),)))
    assert said(none, "Ready")["reason"] == "Infeasible"


def waiting_pod(name: str) -> dict[str, Any]:
    """A pod of two GPUs that no scheduler has said anything of."""
    limits = {"resources": {"limits": {"nvidia.com/gpu": "2"}}}
    meta = {"name": name, "labels": {names.KIND: KIND.name}}
    return {"metadata": meta, "spec": {"containers": [limits]}, "status": {"phase": "Pending"}}


def test_a_pod_that_no_nodes_free_gpus_hold_waits_for_gpus_though_no_scheduler_says_so() -> None:
    of_one = tuple(Node(f"n{i}", "l4s", 4, 3) for i in range(3))
    facts = known(running=(Running(KIND, 2),), pods=[waiting_pod("a"), waiting_pod("b")], nodes=of_one)
    status = conditions.status(facts)
    ready, degraded = said(status, "Ready"), said(status, "Degraded")
    assert (ready["status"], ready["reason"]) == ("False", "WaitingForGPU")
    assert "needs 4 L4 in l4s, 3 free, at most 1 in a node" in ready["message"]
    assert "pod a: needs 2 GPUs in one node of l4s, none has them (and 1 more)" in ready["message"]
    assert (degraded["status"], degraded["reason"]) == ("True", "WaitingForGPU")
    some = conditions.status(replace(facts, running=(Running(KIND, 2, 1, 1),)))
    assert said(some, "Degraded")["status"] == "False"
    room = conditions.status(replace(facts, nodes=(*of_one, Node("n3", "l4s", 4, 2))))
    assert said(room, "Ready")["reason"] == "Starting"
