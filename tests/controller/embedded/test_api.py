"""The embedded cluster answers as an API server does: the same conversation with both, word for word what matters."""

from pathlib import Path

import pytest

from controller.embedded.api import EmbeddedApi
from controller.embedded.store import InUse, Store
from controller.kube.rest import MERGE, ApiError
from tests.controller.embedded.conversation import MAPS, SPACE, a_map, conversation
from tests.controller.live import Site
from tests.controller.plane.plane import Plane


def test_both_answer_alike(plane: Plane) -> None:
    site = Site(plane)
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}
    site.api.request("POST", "/api/v1/namespaces", space)
    theirs = conversation(site.api)
    ours = conversation(EmbeddedApi(Store(None), lambda: 1.8e9))
    for one, other in zip(theirs, ours, strict=True):
        assert other == one


def test_a_conversation_ends_as_it_should() -> None:
    found = conversation(EmbeddedApi(Store(None), lambda: 1.8e9))
    assert ("GET", "a", 404, "NotFound") in found
    assert ("PATCH", "b", {"x": "1", "z": "1"}) in found
    assert found[-1] == ("GET", "nonsense", 404, "NotFound")


def test_a_store_that_is_opened_again_has_what_it_had(tmp_path: Path) -> None:
    file = tmp_path / "state" / "cluster.db"
    store = Store(file)
    api = EmbeddedApi(store, lambda: 1.8e9)
    api.request("POST", MAPS, a_map("a", x="1"))
    api.request("PATCH", f"{MAPS}/a", {"data": {"x": "2"}}, content_type=MERGE)
    version = store.version
    store.close()
    again = EmbeddedApi(Store(file), lambda: 1.8e9)
    assert again.request("GET", f"{MAPS}/a")["data"] == {"x": "2"}
    assert again.store.version == version
    again.store.close()


def test_one_process_has_a_store_at_a_time(tmp_path: Path) -> None:
    store = Store(tmp_path / "cluster.db")
    with pytest.raises(InUse, match="another process has it open"):
        Store(tmp_path / "cluster.db")
    store.close()
    Store(tmp_path / "cluster.db").close()


def test_what_an_object_owned_goes_with_it() -> None:
    api = EmbeddedApi(Store(None), lambda: 1.8e9)
    owner = api.request("POST", MAPS, a_map("owner"))
    child = a_map("child")
    child["metadata"]["ownerReferences"] = [{"kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}]
    api.request("POST", MAPS, child)
    api.request("DELETE", f"{MAPS}/owner")
    with pytest.raises(ApiError, match="not found"):
        api.request("GET", f"{MAPS}/child")
