"""Routes of what belongs to the cluster and people write: inventories and power domains. Alike, so made alike."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from controller.web import documented as doc
from controller.web.asked import Asked, Continue, Limit, once, page
from controller.web.objects import DOMAIN, INVENTORY, MANAGER, Kind, Patching, create, delete, get, patch, replace
from controller.web.routes_services import PATCHES, Dry, Force, Manager

_DNS = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
Name = Annotated[str, Path(pattern=_DNS, description="Name.", examples=["fleet"])]


def routes(kind: Kind, words: str, listed: bool) -> APIRouter:
    """The routes of a kind. `words`: what one is called; `listed`: whether a list of the objects is wanted too."""
    router = APIRouter(prefix=f"/{kind.path}", tags=["fleet"])
    shape = f"{kind.name}Object"
    slug = words.replace(" ", "_")

    def list_objects(ask: Asked, limit: Limit = 100, after: Continue = "") -> Response:
        ask.need("list", kind.plural)
        rows = sorted(ask.site.known.items(kind.plural), key=lambda one: str(one["metadata"]["name"]))
        return page(rows, lambda one: str(one["metadata"]["name"]), limit, after)

    def create_object(ask: Asked, dry: Dry = False) -> Response:
        return once(ask, lambda: create(ask, kind, dry))

    def get_object(ask: Asked, name: Name) -> Response:
        return get(ask, kind, "", name)

    def replace_object(ask: Asked, name: Name, dry: Dry = False) -> Response:
        return replace(ask, kind, "", name, dry)

    def patch_object(
        ask: Asked, name: Name, manager: Manager = MANAGER, force: Force = False, dry: Dry = False
    ) -> Response:
        return patch(ask, kind, "", name, Patching(manager, force, dry))

    def delete_object(ask: Asked, name: Name) -> Response:
        return delete(ask, kind, "", name)

    if listed:
        router.add_api_route(
            "", list_objects, methods=["GET"], name=f"list_{slug}", summary=f"All of kind {kind.name}, by name.",
            responses=doc.replies(doc.page_of(shape), "A page."),
        )  # fmt: skip
    router.add_api_route(
        "", create_object, methods=["POST"], name=f"create_{slug}", summary=f"Make a {words}.", status_code=201,
        responses=doc.replies(shape, "As made.", 404, 409, 415, status=201, headers=doc.ETAG)
        | doc.also(200, shape, "As it would be made, with dryRun."),
        openapi_extra=doc.with_parameters(doc.takes(kind.name), doc.KEY),
    )  # fmt: skip
    router.add_api_route(
        "/{name}", get_object, methods=["GET"], name=f"get_{slug}", summary=f"One {words} as the cluster has it.",
        responses=doc.replies(shape, "The object.", 304, 404, headers=doc.ETAG),
        openapi_extra=doc.with_parameters({}, doc.IF_NONE_MATCH),
    )  # fmt: skip
    router.add_api_route(
        "/{name}", replace_object, methods=["PUT"], name=f"replace_{slug}", summary=f"Another {words} in its place.",
        responses=doc.replies(shape, "As replaced.", 404, 409, 412, 415, 428, headers=doc.ETAG),
        openapi_extra=doc.with_parameters(doc.takes(kind.name), doc.IF_MATCH),
    )  # fmt: skip
    router.add_api_route(
        "/{name}", patch_object, methods=["PATCH"], name=f"patch_{slug}",
        summary=f"Merge a patch into a {words} (If-Match is needed), or apply what you want of it.",
        responses=doc.replies(shape, "As patched.", 404, 409, 412, 415, 428, headers=doc.ETAG)
        | doc.also(201, shape, "As made by applying it.", doc.ETAG),
        openapi_extra=doc.with_parameters(doc.takes(f"{kind.name}Patch", *PATCHES), doc.IF_MATCH),
    )  # fmt: skip
    router.add_api_route(
        "/{name}", delete_object, methods=["DELETE"], name=f"delete_{slug}", summary=f"Delete a {words}.",
        responses=doc.replies("Done", "It is deleted.", 404, 412),
        openapi_extra=doc.with_parameters({}, doc.IF_MATCH),
    )  # fmt: skip
    return router


inventories = routes(INVENTORY, "inventory", listed=True)
powerdomains = routes(DOMAIN, "power domain", listed=False)
