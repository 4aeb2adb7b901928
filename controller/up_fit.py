"""Whether Muster can run on a cluster at all: asked before it begins, so that nobody waits for what cannot come."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from controller.kube.discovery import Served, discover
from controller.kube.rest import Api, ApiError
from controller.kube.run import LEASE
from planner.errors import BadInput, MusterError

_INSTALL = "muster install --print | kubectl apply -f -"
_OURS = ("gpuservices", "plans", "clusterinventories", "powerdomains")
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_SHOWN = 6


class Unfit(MusterError):
    """A cluster that Muster cannot run on as things are."""


class Right(NamedTuple):
    """Something that must be allowed: in all namespaces, or to one object in one of them."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        whole = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {whole}" + (f" in {self.namespace}" if self.namespace else "")


def check(api: Api, namespace: str, auth: bool) -> None:
    """Raises Unfit. `namespace`: of the lease; `auth`: whether the cluster is asked who callers are."""
    _answers(api)
    try:
        _has_types(discover(api))
        _has(api, namespace)
        _may(api, namespace, auth)
    except ApiError as error:
        raise Unfit(str(error)) from None


def check_prometheus(url: str, token_file: Path | None) -> None:
    """Raises BadInput for what could never be asked; a Prometheus that does not answer now may do so later."""
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise BadInput(f"--prometheus: got {url[:100]!r}, allowed: an address such as http://127.0.0.1:9090")
    if token_file is None:
        return
    if not url:
        raise BadInput("--prometheus-token-file: got it without --prometheus, allowed: with it")
    try:
        token_file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no text"
        raise BadInput(f"--prometheus-token-file: {token_file}: cannot be read ({why}), allowed: a token") from None


def cluster_id(api: Api) -> str:
    """What tells a cluster from others, whatever address leads to it: as is usual, the UID of kube-system.

    The address, for who may not look at that."""
    try:
        return str(api.request("GET", "/api/v1/namespaces/kube-system")["metadata"]["uid"])
    except (ApiError, KeyError):
        return "".join(one if one.isalnum() else "-" for one in api.server.partition("://")[2])


def _answers(api: Api) -> None:
    try:
        version = api.request("GET", "/version")
    except ApiError as error:
        if error.status == 401:
            raise Unfit("refuses the credentials of the kubeconfig, allowed: some that count") from None
        if error.status == 403:
            return  # it answers, and hides its version
        raise Unfit(f"does not answer as an API server does ({error})") from None
    if "gitVersion" not in version:
        raise Unfit("answers, but not as an API server does, allowed: the address of one")


def _has_types(served: Served) -> None:
    if missing := [plural for plural in _OURS if served.get(plural) is None]:
        raise Unfit(f"has no {', '.join(missing)}: Muster's custom resources are not installed; do so by: {_INSTALL}")


def _has(api: Api, namespace: str) -> None:
    try:
        api.request("GET", f"/api/v1/namespaces/{namespace}")
    except ApiError as error:
        if error.status == 404:
            words = f"--namespace: got {namespace}, which the cluster does not have, allowed: one that is there"
            raise Unfit(f"{words}; make it by: kubectl create namespace {namespace}") from None
        if error.status != 403:  # who may use a namespace need not be allowed to look at it
            raise


def _may(api: Api, namespace: str, auth: bool) -> None:
    missing = [str(right) for right in _rights(namespace, auth) if not _allowed(api, right)]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise Unfit(
            f"does not let the kubeconfig's user {', '.join(missing[:_SHOWN])}{more}, which Muster needs;"
            " roles: deploy/chart/muster/templates/rbac-controller.yaml"
        )


def _rights(namespace: str, auth: bool) -> Iterator[Right]:
    """One for each thing that Muster does: what lacks one of them would fail late, or in silence."""
    yield from (Right("update", "coordination.k8s.io", "leases", namespace, LEASE), Right("list", "", "nodes"))
    yield from (
        Right("list", "", "pods"),
        Right("list", "", "resourcequotas"),
        Right("create", "apps", "deployments"),
        Right("patch", "", "nodes"),
    )
    yield from (Right(verb, "muster.dev", "gpuservices") for verb in ("list", "patch"))
    yield from (Right("create", "muster.dev", "plans"), Right("list", "events.k8s.io", "events"))
    if auth:
        yield Right("create", "authentication.k8s.io", "tokenreviews")
        yield Right("create", "authorization.k8s.io", "subjectaccessreviews")


def _allowed(api: Api, right: Right) -> bool:
    """Whether it is; a server that does not say lets us find out."""
    asked = {key: value for key, value in right._asdict().items() if value}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    try:
        status = api.request("POST", _REVIEWS, review).get("status") or {}
    except ApiError as error:
        if error.status not in (403, 404):
            raise
        return True
    return bool(status.get("allowed"))
