"""Thirty and more ways in which a service does not serve, each with the answer that a user is to get.

`status` is what the pod's status says: written by the simulated kubelet where `kubelet` is set, else by the real
scheduler or controllers, whose words are kept here for the tests without a cluster.
"""

from typing import Any

from controller.causes import Planning
from controller.cluster import Hold
from controller.trigger import Verdict
from tests.controller.failure import Failure, Object, container, unplaced
from tests.controller.plane import kubelet


def _solved(**over: Any) -> Object:
    default: Object = {"state": "solved", "decision": "d-1", "generation": 1}
    return {"planning": Planning(**default | over)}


def _claim(name: str, **over: Any) -> Object:
    room = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": name}, "spec": room | over}


def _volume(claim: str) -> Object:
    return {"volumes": [{"name": "w", "persistentVolumeClaim": {"claimName": claim}}]}


_NO_ROOM = "2 x 8xH200 tp8 wait for 8 free GPUs in one node of h200s; the most that a node has is 4"
_CORE = "/api/v1/namespaces/{}"
_PULL = (
    'rpc error: code = NotFound desc = failed to pull and unpack image "registry.example/vllm:v1": not found; '
    "see https://bob:hunter2@registry.example/v2/?token=hf_abcdefgh1234"
)
_INIT = {"initContainers": [{"name": "fetch", "image": "registry.example/fetch:v1"}]}
_SMALL = {"nodeSelector": {"pool": "small"}}

_FOUR = {"requests.nvidia.com/gpu": "4"}
_PULLING = 'Back-off pulling image "registry.example/vllm:v1"'
_XID = "1 of 16 GPUs: Xid 79 on node a"
_MISSED = "missed: ttft p95 of 40 %"

FAILURES = (
    # The API server makes no pods.
    Failure(
        "quota", "QuotaExceeded", ("quota q is spent", "needs 8 nvidia.com/gpu", "0 of 4 used"),
        workload='pods "x" is forbidden: exceeded quota: q, requested: requests.nvidia.com/gpu=8, '
        "used: requests.nvidia.com/gpu=0, limited: requests.nvidia.com/gpu=4",
        needs=((f"{_CORE}/resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": _FOUR}}),),
    ),
    Failure(
        "limits", "PodRefused", ("maximum cpu usage per Container is 1",),
        pod={"containers": [container(resources={"limits": {"nvidia.com/gpu": "8", "cpu": "9"}})]},
        workload='pods "x" is forbidden: maximum cpu usage per Container is 1, but limit is 9',
        needs=(
            (
                f"{_CORE}/limitranges",
                {"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}},
            ),
        ),
    ),
    Failure(
        "priority", "PodRefused", ("no PriorityClass", "gold"), pod={"priorityClassName": "gold"},
        workload='pods "x" is forbidden: no PriorityClass with name gold was found',
    ),
    # No node takes them.
    Failure(
        "gpus", "WaitingForGPU", ("needs 16 H200 in h200s", "8 free", "at most 4 in a node"), pod=_SMALL,
        status=unplaced(
            "0/9 nodes are available: 1 node(s) had taint {muster.dev/gpu-fault: }, that the pod didn't tolerate, "
            "2 Insufficient nvidia.com/gpu, 6 node(s) didn't match Pod's node affinity."
        ),
    ),
    Failure(
        "taint", "Unschedulable", ("taint", "muster.dev/gpu-fault"), pod={"nodeSelector": {"pool": "faulty"}},
        status=unplaced(
            "0/2 nodes are available: 1 node(s) had taint {muster.dev/gpu-fault: }, that the pod didn't tolerate, 1 "
            "node(s) didn't match node selector."
        ),
    ),
    Failure(
        "affinity", "Unschedulable", ("lack labels asked for",), pod={"nodeSelector": {"pool": "nowhere"}},
        status=unplaced("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."),
    ),
    Failure(
        "cpu", "Unschedulable", ("too little free cpu",),
        pod={"containers": [container(resources={"limits": {"cpu": "5000"}})]},
        status=unplaced("0/3 nodes are available: 3 Insufficient cpu."),
    ),
    Failure(
        "claim", "VolumeUnavailable", ('persistentvolumeclaim "weights" not found',), pod=_volume("weights"),
        status=unplaced('0/3 nodes are available: 3 persistentvolumeclaim "weights" not found.'),
    ),
    Failure(
        "unbound", "VolumeUnavailable", ("unbound", "PersistentVolumeClaims"), pod=_volume("weights"),
        needs=((f"{_CORE}/persistentvolumeclaims", _claim("weights", storageClassName="")),),
        status=unplaced("0/3 nodes are available: 3 pod has unbound immediate PersistentVolumeClaims."),
    ),
    # A node can't start them.
    Failure(
        "pull", "ImagePullFailed", ("ImagePullBackOff", "registry.example/vllm:v1"), kubelet=True,
        status=lambda pod: kubelet.waiting(pod, "ImagePullBackOff", _PULLING),
    ),
    Failure(
        "errpull", "ImagePullFailed", ("ErrImagePull", "registry.example/vllm:v1"), kubelet=True,
        status=lambda pod: kubelet.waiting(pod, "ErrImagePull", _PULL),
    ),
    Failure(
        "imagename", "ImagePullFailed", ("InvalidImageName", "VLLM:v1"), kubelet=True,
        pod={"containers": [container(image="VLLM:v1")]},
        status=lambda pod: kubelet.waiting(pod, "InvalidImageName", 'Failed to apply default image tag "VLLM:v1"'),
    ),
    Failure(
        "secret", "ConfigMissing", ('secret "hf-token" not found',), kubelet=True,
        status=lambda pod: kubelet.waiting(pod, "CreateContainerConfigError", 'secret "hf-token" not found'),
    ),
    Failure(
        "configmap", "ConfigMissing", ("couldn't find key rules in ConfigMap", "team/routes"), kubelet=True,
        status=lambda pod: kubelet.waiting(
            pod, "CreateContainerConfigError", "couldn't find key rules in ConfigMap team/routes"
        ),
    ),
    Failure(
        "mount", "VolumeUnavailable", ("ContainerCreating since", "volume"), kubelet=True,
        status=lambda pod: kubelet.creating(pod, 12),
    ),
    Failure(
        "initpull", "ImagePullFailed", ("ImagePullBackOff", "registry.example/fetch:v1"), kubelet=True, pod=_INIT,
        status=lambda pod: kubelet.waiting(pod, "ImagePullBackOff", init=True),
    ),
    Failure(
        "initcrash", "InitFailed", ("init container fetch exited with 1 (Error) 4 times",), kubelet=True, pod=_INIT,
        status=lambda pod: kubelet.crashed(pod, 1, "Error", 4, init=True),
    ),
    # They end.
    Failure(
        "oom", "OutOfMemory", ("container engine exited with 137 (OOMKilled) 3 times",), kubelet=True,
        status=lambda pod: kubelet.crashed(pod, 137, "OOMKilled", 3),
    ),
    Failure(
        "crash", "CrashLooping", ("container engine exited with 1 (Error) 7 times",), kubelet=True,
        status=lambda pod: kubelet.crashed(pod, 1, "Error", 7, "HF_TOKEN=hf_abcdefgh1234 is not valid"),
    ),
    Failure(
        "segfault", "CrashLooping", ("exited with 139 (Error, signal 11) 2 times",), kubelet=True,
        status=lambda pod: kubelet.crashed(pod, 139, "Error", 2),
    ),
    Failure(
        "start", "StartFailed", ("exited with 128 (StartError)", "vllm"), kubelet=True,
        status=lambda pod: kubelet.crashed(pod, 128, "StartError", 2, 'exec: "vllm": not found in $PATH'),
    ),
    Failure(
        "evicted", "Evicted", ("evicted from", "ephemeral-storage"), kubelet=True, bare=True,
        status=lambda pod: kubelet.ended("Evicted", "The node was low on resource: ephemeral-storage."),
    ),
    Failure(
        "lost", "NodeLost", ("does not answer", "big"), kubelet=True, bare=True,
        status=lambda pod: {"reason": "NodeLost", "phase": "Running", "message": "Node big is not responding"},
    ),
    Failure(
        "preempted", "Preempted", ("higher priority",), kubelet=True, bare=True,
        status=lambda pod: kubelet.ended("Preempting", "Preempted in order to admit critical pod"),
    ),
    Failure(
        "deadline", "DeadlineExceeded", ("deadline",), kubelet=True, bare=True,
        status=lambda pod: kubelet.ended("DeadlineExceeded", "Pod was active longer than specified deadline"),
    ),
    Failure(
        "device", "NodeRefused", ("UnexpectedAdmissionError", "big"), kubelet=True, bare=True,
        status=lambda pod: kubelet.ended("UnexpectedAdmissionError", "Allocate failed due to no healthy devices"),
    ),
    # They run and do not serve.
    Failure(
        "weights", "WaitingForWeights", ("container engine runs since", "weights"), kubelet=True,
        status=lambda pod: kubelet.running(pod, 4),
    ),
    Failure(
        "probe", "NotServing", ("container engine runs since", "probe never passed"), kubelet=True,
        status=lambda pod: kubelet.running(pod, 90),
    ),
    Failure(
        "unready", "NotServing", ("probe fails since", "container engine runs since"), kubelet=True,
        status=lambda pod: kubelet.unready(pod, 20),
    ),
    Failure(
        "fetching", "WaitingForWeights", ("init container fetch runs since",), kubelet=True, pod=_INIT,
        status=lambda pod: kubelet.running(pod, 12, init=True),
    ),
    Failure("silent", "NodeLost", ("node big says no more",), kubelet=True, status=kubelet.silent),
    # Nothing is to run, or nothing may.
    Failure(
        "spec", "InvalidSpec", ("spec.slos[0].ttft", "soon", "such as 200ms"), planned=False,
        facts={"problems": ("spec.slos[0].ttft: got 'soon', allowed: a duration such as 200ms",)},
    ),
    Failure(
        "infeasible", "Infeasible", ("2 nodes more in h200s",), planned=False,
        facts=_solved(
            state="infeasible", message="needs 24 H200, 16 there are", relaxation="2 nodes more in h200s"
        ),
    ),
    Failure(
        "failed", "PlanFailed", ("no source states the bandwidth",), planned=False,
        facts=_solved(state="failed", message="no source states the bandwidth of X1"),
    ),
    Failure(
        "approval", "AwaitingApproval", ("d-1", "muster approve approval"), planned=False,
        facts=_solved(state="awaiting_approval"),
    ),
    Failure("solving", "Solving", ("generation 1",), planned=False, facts=_solved(state="solving")),
    Failure("unplanned", "NotPlanned", ("no plan",), planned=False),
    Failure(
        "refused", "ApplyFailed", told=0, words=("Deployment x", "must be no more than 63"),
        facts={"refused": "Deployment x: metadata.labels: must be no more than 63 characters"},
    ),
    Failure(
        "held", "NoSpareCapacity", ("2 x 8xH200 tp8 wait for 8 free GPUs in one node of h200s",), told=0,
        facts={"held": (Hold("NoSpareCapacity", _NO_ROOM),)},
    ),
    Failure(
        "queue", "FleetBudgetSpent", ("other services move 8 replicas",), told=0,
        facts={"held": (Hold("FleetBudgetSpent", "other services move 8 replicas, as many as may"),)},
    ),
    Failure(
        "rival", "RivalAutoscaler", ("HorizontalPodAutoscaler mine targets",), told=0,
        facts={"held": (Hold("RivalAutoscaler", "HorizontalPodAutoscaler mine targets rival-k"),)},
    ),
    Failure("paused", "Paused", ("muster.dev/paused",), told=0, facts={"paused": True}),
    Failure(
        "fault", "HardwareFault", ("1 of 16 GPUs", "Xid 79"), kubelet=True, facts={"faults": _XID},
        status=lambda pod: kubelet.crashed(pod, 134, "Error", 5),
    ),
    # Everything serves, and still.
    Failure(
        "faulty", "Serving", ("HardwareFault", "Xid 79"), serves=True, facts={"faults": _XID}
    ),
    Failure("idle", "Serving", ("Paused", "muster.dev/paused"), serves=True, facts={"paused": True}),
    Failure("stale", "Serving", ("Stale", "no rate was heard"), serves=True, facts={"verdict": Verdict(stale=True)}),
    Failure("slo", "Serving", ("SLOMissed", "ttft p95 of 40 %"), serves=True, facts={"slo": _MISSED}),
    Failure("cooling", "Serving", ("CoolingDown",), serves=True, facts={"verdict": Verdict(held="due")}),
)  # fmt: skip
