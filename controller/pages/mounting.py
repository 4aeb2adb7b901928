"""Puts the pages on an application: their paths, who may see them, and signing in."""

import logging
from collections.abc import Callable
from html import escape
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from fastapi import FastAPI, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from nicegui import run, ui
from starlette.routing import Match, Mount
from starlette.types import Scope

from controller.kube.rest import ApiError
from controller.pages import cluster, events, overview, plan, power, service, submit
from controller.pages.context import KEEP_S, Answers, Context
from controller.pages.live import static
from controller.pages.login import form as login_form
from controller.pages.login import refusal
from controller.pages.pace import Pace
from controller.pages.parts import banner
from controller.pages.ranges import read, usual
from controller.pages.sessions import COOKIE, Sessions, Viewer
from controller.pages.shell import follow, frame, send
from controller.pages.style import FILES
from controller.pages.tints import Tints
from controller.web.access import is_loopback
from controller.web.asked import Web
from controller.web.glance import Glance
from controller.web.model import services
from controller.web.problems import Refused
from planner.errors import MusterError

T = TypeVar("T")
_MOST_TOKEN = 16_384
_LASTS_S = 12 * 3600
_AGAIN_S = 5.0  # until what could not be had is asked for again
_YEAR = "public, max-age=31536000, immutable"


def mount(app: FastAPI, secret: str) -> None:
    """Add the pages to an application that `controller.web.app.make_app` made. `secret` signs cookies of NiceGUI's."""
    logging.getLogger("nicegui").addFilter(_is_ours_to_tell)
    web: Web = app.state.web
    sessions, glance = Sessions(web.tokens), Glance(KEEP_S)
    seen = _Seen(web, sessions, glance)

    @ui.page("/")
    async def _overview(request: Request) -> Response | None:
        return await seen.page(request, "Overview", "/", overview.load, overview.build)

    @ui.page("/submit")
    async def _submit(request: Request, service: str = "") -> Response | None:
        return await seen.page(
            request, "Submit", "/submit", lambda made: submit.load(made, service[:512]), submit.build, live=False
        )

    @ui.page("/services")
    async def _services(request: Request) -> Response | None:
        return await seen.first(request, "Services", "/services")

    @ui.page("/plans")
    async def _plans(request: Request) -> Response | None:
        return await seen.first(request, "Plans", "/plans")

    @ui.page("/services/{namespace}/{name}")
    async def _service(request: Request, namespace: str, name: str) -> Response | None:
        key = f"{namespace}/{name}"
        needs = lambda v: v.may("get", "gpuservices", namespace, name)  # noqa: E731
        return await seen.page(request, key, "/services", lambda made: service.load(made, key), service.build, needs)

    @ui.page("/plans/{namespace}/{name}")
    async def _plan(request: Request, namespace: str, name: str) -> Response | None:
        key, against = f"{namespace}/{name}", request.query_params.get("against", "")[:64]
        needs = lambda v: v.may("get", "plans", namespace, name)  # noqa: E731
        return await seen.page(
            request, f"Plan of {key}", "/plans", lambda made: plan.load(made, key, against), plan.build, needs
        )

    @ui.page("/cluster")
    async def _cluster(request: Request) -> Response | None:
        asked = cluster.Asked.of(request.query_params)
        return await seen.page(
            request,
            "Cluster",
            "/cluster",
            lambda made: cluster.load(made, asked),
            lambda made, first: cluster.build(made, first, asked),
            fleet,
        )

    @ui.page("/power")
    async def _power(request: Request) -> Response | None:
        return await seen.page(request, "Power", "/power", power.load, power.build, fleet)

    @ui.page("/events")
    async def _events(request: Request) -> Response | None:
        asked = events.Asked.of(request.query_params)
        return await seen.page(
            request, "Events", "/events", events.load, lambda made, first: events.build(made, first, asked)
        )

    _files(app)
    _signing(app, sessions)
    ui.run_with(
        app, title="Muster", storage_secret=secret, tailwind=False, show_welcome_message=False, reconnect_timeout=10.0
    )
    app.router.routes[:] = [_beside_api(one) for one in app.router.routes]


def fleet(viewer: Viewer) -> bool:
    """Whether somebody may see nodes."""
    return viewer.may("list", "nodes", group="")


def anyone(viewer: Viewer) -> bool:
    """Whoever is known."""
    return True


def _is_ours_to_tell(record: logging.LogRecord) -> bool:
    """Whoever asks for a page that is not there is told so; the terminal, where a story may be told, is not."""
    return not record.getMessage().endswith(" not found")


class _Seen:
    """Shows pages to those who may see them."""

    def __init__(self, web: Web, sessions: Sessions, glance: Glance) -> None:
        self._web, self._sessions, self._glance, self._answers = web, sessions, glance, Answers()
        self._tints, self._pace = Tints(), Pace()

    async def page(
        self,
        request: Request,
        title: str,
        here: str,
        load: Callable[[Context], T],
        build: Callable[[Context, T], Callable[[T], None]],
        needs: Callable[[Viewer], bool] = anyone,
        live: bool = True,
    ) -> Response | None:
        """Load what a page shows in a thread, build it, and keep it up to date; or say why not."""
        made = await self._context(request, needs)
        if isinstance(made, Response):
            return made
        try:
            first: Any = await run.io_bound(made.find, load)
        except (ApiError, Refused, MusterError) as error:
            with frame(made, title, here):
                static(f'<h1 class="m-title">{escape(title)}</h1>{banner("bad", "Not to be had now", str(error))}')
            ui.timer(_AGAIN_S, ui.navigate.reload)
            return None
        if first is None:
            return None  # the server ends
        with frame(made, title, here):
            show = build(made, first)
            show(first)
        if live:
            follow(made, title, lambda: made.find(load), show)
        else:
            made.begun = True
            ui.timer(5.0, lambda: send(made))
        return None

    async def first(self, request: Request, title: str, here: str) -> Response | None:
        """The first service's page, where there is one."""
        made = await self._context(request, anyone)
        if isinstance(made, Response):
            return made
        rows = await run.io_bound(made.seen)
        if rows:
            return RedirectResponse(made.link(f"{here}/{rows[0].key}"), 303)
        with frame(made, title, here):
            overview.nothing(made, title)
        ui.timer(2.0, lambda: ui.navigate.reload() if services(made.site) else None)
        return None

    async def _context(self, request: Request, needs: Callable[[Viewer], bool]) -> Context | Response:
        if self._sessions.open and not is_loopback(urlsplit(f"//{request.headers.get('host', '')}").hostname or ""):
            return HTMLResponse(refusal("Muster is shown to this machine alone, by a loopback address."), 403)
        viewer = await run.io_bound(self._sessions.viewer, request.cookies.get(COOKIE))
        if viewer is None:
            there = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/login?{urlencode({'after': there})}", 303)
        if not await run.io_bound(needs, viewer):
            return HTMLResponse(refusal("Your token may not see this page."), 403)
        dark = request.cookies.get("muster_theme") == "dark"
        asked = read(request.query_params, usual(self._web.site.speed()))
        shared = self._glance, self._answers, self._tints, self._pace
        return Context(self._web, viewer, dark, asked, *shared, request.url.path)


def _files(app: FastAPI) -> None:
    @app.get("/_muster/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        if name not in FILES:
            return Response("not found\n", 404, media_type="text/plain")
        content, kind = FILES[name]
        return Response(content, media_type=kind, headers={"Cache-Control": _YEAR})


class _Pages(Mount):
    """NiceGUI's part of the application, which leaves paths of the API to the API's own words for what is not there."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As a mount does, but for paths of the API."""
        return (Match.NONE, {}) if scope["path"].startswith("/api/") else super().matches(scope)


def _beside_api(route: Any) -> Any:
    return _Pages(route.path, route.app, name=route.name) if type(route) is Mount and route.path == "" else route


def _ours(address: str) -> str:
    """An address of these pages; another site's is none."""
    parts = urlsplit(address)
    plain = address.startswith("/") and not address.startswith(("//", "/\\")) and not parts.netloc
    return address if plain and address.isprintable() else "/"


def _signing(app: FastAPI, sessions: Sessions) -> None:
    @app.get("/login", include_in_schema=False)
    async def login(request: Request, after: str = "/") -> Response:
        dark = request.cookies.get("muster_theme") == "dark"
        return RedirectResponse("/", 303) if sessions.open else HTMLResponse(login_form("", dark, _ours(after)))

    @app.post("/login", include_in_schema=False)
    async def signed(
        request: Request, token: str = Form(max_length=_MOST_TOKEN), after: str = Form("/", max_length=2000)
    ) -> Response:
        dark = request.cookies.get("muster_theme") == "dark"
        if urlsplit(request.headers.get("origin", "")).netloc not in ("", request.headers.get("host", "")):
            return HTMLResponse(login_form("The form was sent from elsewhere.", dark, _ours(after)), 403)
        cookie = await run.io_bound(sessions.begin, token.strip())
        if cookie is None:
            return HTMLResponse(login_form("This token is not known here.", dark, _ours(after)), 401)
        answer = RedirectResponse(_ours(after), 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, cookie, max_age=_LASTS_S, httponly=True, samesite="strict", secure=secure)
        return answer

    @app.get("/logout", include_in_schema=False)
    async def logout(request: Request) -> Response:
        sessions.end(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE)
        return answer
