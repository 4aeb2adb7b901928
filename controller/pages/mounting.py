"""Puts the pages on an application: their paths, who may see them, and signing in."""

from collections.abc import Callable
from urllib.parse import urlsplit

from fastapi import FastAPI, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from nicegui import run, ui

from controller.pages import cluster, events, overview, plan, power, service, submit
from controller.pages.login import form as login_form
from controller.pages.sessions import COOKIE, Sessions, Viewer
from controller.pages.shell import RANGES, USUAL, Context, page
from controller.web.access import is_loopback
from controller.web.asked import Web

_MOST_TOKEN = 16_384
_LASTS_S = 12 * 3600
Build = Callable[[Context], None]


def mount(app: FastAPI, secret: str) -> None:
    """Add the pages to an application that `controller.web.app.make_app` made. `secret` signs cookies of NiceGUI's."""
    web: Web = app.state.web
    sessions = Sessions(web.tokens)

    async def shown(
        request: Request, title: str, here: str, build: Build, needs: Callable[[Viewer], bool]
    ) -> Response | None:
        if sessions.open and not is_loopback(urlsplit(f"//{request.headers.get('host', '')}").hostname or ""):
            return HTMLResponse("<p>Muster is shown to this machine alone, by a loopback address.</p>", 403)
        viewer = await run.io_bound(sessions.viewer, request.cookies.get(COOKIE))
        if viewer is None:
            return RedirectResponse("/login", 303)
        if not needs(viewer):
            return HTMLResponse("<p>Your token may not see this page.</p>", 403)
        asked = request.query_params.get("range", USUAL)
        dark = request.cookies.get("muster_theme") == "dark"
        made = Context(web, viewer, dark, asked if asked in RANGES else USUAL)
        with page(made, title, here):
            build(made)
        return None

    def fleet(viewer: Viewer) -> bool:
        return viewer.may("list", "nodes", group="")

    def anyone(viewer: Viewer) -> bool:
        return True

    @ui.page("/")
    async def _overview(request: Request) -> Response | None:
        return await shown(request, "Overview", "/", overview.build, anyone)

    @ui.page("/submit")
    async def _submit(request: Request, service: str = "") -> Response | None:
        return await shown(request, "Submit", "/submit", lambda made: submit.build(made, service[:512]), anyone)

    @ui.page("/services/{namespace}/{name}")
    async def _service(request: Request, namespace: str, name: str) -> Response | None:
        key = f"{namespace}/{name}"
        return await shown(
            request,
            key,
            "",
            lambda made: service.build(made, key),
            lambda v: v.may("get", "gpuservices", namespace, name),
        )

    @ui.page("/plans/{namespace}/{name}")
    async def _plan(request: Request, namespace: str, name: str) -> Response | None:
        key = f"{namespace}/{name}"
        return await shown(
            request,
            f"Plan of {key}",
            "",
            lambda made: plan.build(made, key),
            lambda v: v.may("get", "plans", namespace, name),
        )

    @ui.page("/cluster")
    async def _cluster(request: Request, colour: str = "load") -> Response | None:
        return await shown(request, "Cluster", "/cluster", lambda made: cluster.build(made, colour), fleet)

    @ui.page("/power")
    async def _power(request: Request) -> Response | None:
        return await shown(request, "Power", "/power", power.build, fleet)

    @ui.page("/events")
    async def _events(request: Request, filter: str = "") -> Response | None:
        return await shown(request, "Events", "/events", lambda made: events.build(made, filter[:200]), anyone)

    _signing(app, sessions)
    ui.run_with(
        app, title="Muster", storage_secret=secret, tailwind=False, show_welcome_message=False, reconnect_timeout=10.0
    )


def _signing(app: FastAPI, sessions: Sessions) -> None:
    @app.get("/login", include_in_schema=False)
    async def login() -> Response:
        return RedirectResponse("/", 303) if sessions.open else HTMLResponse(login_form(""))

    @app.post("/login", include_in_schema=False)
    async def signed(request: Request, token: str = Form(max_length=_MOST_TOKEN)) -> Response:
        if urlsplit(request.headers.get("origin", "")).netloc not in ("", request.headers.get("host", "")):
            return HTMLResponse(login_form("The form was sent from elsewhere."), 403)
        cookie = await run.io_bound(sessions.begin, token.strip())
        if cookie is None:
            return HTMLResponse(login_form("Nobody vouches for this token."), 401)
        answer = RedirectResponse("/", 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, cookie, max_age=_LASTS_S, httponly=True, samesite="strict", secure=secure)
        return answer

    @app.get("/logout", include_in_schema=False)
    async def logout(request: Request) -> Response:
        sessions.end(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE)
        return answer
