"""The application: every route of the API behind one gate, probes and metrics; pages may be mounted beside it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from controller.kube.discovery import NotServed
from controller.kube.rest import ApiError
from controller.web import (
    routes_cluster_objects,
    routes_events,
    routes_fleet,
    routes_more,
    routes_plans,
    routes_services,
    routes_simulate,
)
from controller.web.access import Tokens
from controller.web.asked import Asked, Web
from controller.web.counts import Counts
from controller.web.documents import Reader
from controller.web.explore import Explorer
from controller.web.feed import Feed
from controller.web.gate import Gate
from controller.web.glance import Glance
from controller.web.limits import Answers, Limits
from controller.web.openapi import methods, openapi
from controller.web.problems import Refused, answer, kind_of, of_cluster, of_parameters
from controller.web.simulating import ChildSimulator, Simulates
from controller.web.site import Site

_ROOT = "/api/v1"
_ROUTERS = (
    routes_services.router, routes_plans.router, routes_fleet.router, routes_cluster_objects.inventories,
    routes_cluster_objects.powerdomains, routes_events.router, routes_more.router, routes_simulate.router,
)  # fmt: skip
_TEXT = "text/plain; version=0.0.4"


def make_app(
    site: Site,
    *,
    tokens: Tokens,
    limits: Limits | None = None,
    explorer: Explorer | None = None,
    simulator: Simulates | None = None,
    metrics: Callable[[], str] = lambda: "",
    ready: Callable[[], bool] = lambda: True,
) -> FastAPI:
    """The application for a controller.

    `metrics`: what Prometheus is told besides the API's own; `ready`: whether the controller's caches are filled.
    """
    limits = limits or Limits()
    web = Web(
        site, tokens, limits, explorer or Explorer(), simulator or ChildSimulator(), Answers(), Reader(), Counts(),
        Feed(site), Glance(limits.glance_s), metrics,
    )  # fmt: skip

    @asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        yield
        web.explorer.stop()
        web.simulator.stop()
        web.reader.stop()

    app = FastAPI(
        title="Muster", docs_url=None, redoc_url=None, openapi_url=f"{_ROOT}/openapi.json", lifespan=living,
        redirect_slashes=False,
    )  # fmt: skip
    app.state.web = web
    for router in _ROUTERS:
        app.include_router(router, prefix=_ROOT)
    _probes(app, ready)
    _refusals(app)
    app.openapi = lambda: openapi(app, not tokens.open)  # type: ignore[method-assign]
    app.add_middleware(
        Gate, tokens=tokens, limits=web.limits, counts=web.counts, clock=site.clock, written=web.glance.forget
    )
    return app


def _probes(app: FastAPI, ready: Callable[[], bool]) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        good = ready()
        return Response("ok\n" if good else "caches are being filled\n", 200 if good else 503, media_type="text/plain")

    @app.get("/metrics", include_in_schema=False)
    def metrics(ask: Asked) -> Response:
        ask.need("get", "/metrics", group="")
        return Response(ask.web.metrics() + ask.web.counts.text(), media_type=_TEXT)


def _refusals(app: FastAPI) -> None:
    """Whatever goes wrong is told as a problem, under the API's paths; pages have words of their own."""

    def refused(request: Request, error: Exception) -> Response:
        return answer(cast(Refused, error), request.url.path)

    def by_cluster(request: Request, error: Exception) -> Response:
        return answer(of_cluster(cast(ApiError, error)), request.url.path)

    def not_served(request: Request, error: Exception) -> Response:
        return answer(Refused(404, "not-found", str(error)), request.url.path)

    def parameters(request: Request, error: Exception) -> Response:
        found = cast(list[Mapping[str, object]], cast(RequestValidationError, error).errors())
        return answer(of_parameters(found), request.url.path)

    def other(request: Request, error: Exception) -> Response:
        found = cast(HTTPException, error)
        words = _WORDS.get(found.status_code, str(found.detail))
        headers: dict[str, Any] = dict(found.headers or {})
        if found.status_code == 405 and (known := methods(request.app, request.url.path)):
            headers["Allow"] = ", ".join(known)  # of all routes of the path, where the router names the first's
        refusal = Refused(found.status_code, kind_of(found.status_code), words, headers=headers)
        return answer(refusal, request.url.path)

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(ApiError, by_cluster)
    app.add_exception_handler(NotServed, not_served)
    app.add_exception_handler(RequestValidationError, parameters)
    app.add_exception_handler(HTTPException, other)
    app.add_exception_handler(Exception, _defect)


def _defect(request: Request, error: Exception) -> Response:
    """A defect of ours: the log has it, the caller only that it is one."""
    return answer(Refused(500, "defect", "a defect of Muster; its log says more"), request.url.path)


_WORDS = {
    404: "got a path that leads nowhere, allowed: those of /api/v1/openapi.json",
    405: "got a method that the path does not know, allowed: those of the header Allow",
}
