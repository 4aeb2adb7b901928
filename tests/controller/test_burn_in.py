"""The Job that proves a node: one for each time that it is out, on that node alone, allowed where nobody has root."""

from controller.health import OUT_SINCE, burn_in_job, burn_in_name, quarantined, verdict
from tests.controller.objects import a_node


def out(name: str, since: str) -> dict[str, object]:
    node = a_node(name)
    node["metadata"]["annotations"] = {OUT_SINCE: since}
    return node


def test_a_node_that_is_taken_out_again_is_not_proved_by_the_job_of_the_last_time() -> None:
    first, again = out("a", "2026-01-01T00:00:00Z"), out("a", "2026-01-02T00:00:00Z")
    assert burn_in_name(first) != burn_in_name(again)
    assert burn_in_name(first) == burn_in_name(out("a", "2026-01-01T00:00:00Z"))


def test_long_names_of_nodes_fit_and_are_told_apart() -> None:
    long = [out(f"{'rack-7-' * 8}node-{i}.cluster.internal", "2026-01-01T00:00:00Z") for i in range(2)]
    names = {burn_in_name(node) for node in long}
    assert len(names) == 2
    assert all(len(name) <= 63 for name in names)


def test_the_job_has_the_node_to_itself_and_what_the_restricted_profile_asks_for() -> None:
    job = burn_in_job(out("a", "2026-01-01T00:00:00Z"), "muster-system", "burn:1", ("burn",))
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert (spec["nodeName"], spec["tolerations"]) == ("a", [{"operator": "Exists"}])
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "8"}
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert [(one["kind"], one["name"]) for one in job["metadata"]["ownerReferences"]] == [("Node", "a")]


def test_the_job_is_pulled_and_run_as_the_operator_says() -> None:
    plain = burn_in_job(out("a", "2026-01-01T00:00:00Z"), "muster-system", "burn:1", ())["spec"]["template"]["spec"]
    assert not {"runtimeClassName", "imagePullSecrets"} & plain.keys()
    job = burn_in_job(out("a", "2026-01-01T00:00:00Z"), "muster-system", "burn:1", (), "nvidia", ("registry",))
    spec = job["spec"]["template"]["spec"]
    assert (spec["runtimeClassName"], spec["imagePullSecrets"]) == ("nvidia", [{"name": "registry"}])


def test_a_quarantine_forgets_the_test_before_it_and_a_job_that_runs_is_no_verdict() -> None:
    notes = quarantined(a_node("a"), "Xid 79", 0.0)["metadata"]["annotations"]
    assert notes["muster.dev/burn-in"] is None
    assert [verdict(job) for job in ({}, {"status": {"active": 1}})] == ["running", "running"]
    assert verdict({"status": {"succeeded": 1}}) == "passed"
    assert verdict({"status": {"failed": 1}}) == "failed"
