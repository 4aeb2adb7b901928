"""One process that is a whole Muster: an embedded cluster, the controller's loop, the API and the pages."""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import orjson
import urllib3

from controller.embedded.hardware import furnish
from controller.embedded.site import site_of
from controller.embedded.store import Store
from controller.embedded.world import Rules, World
from controller.pages import mount
from controller.story import Method, Place, PlaceShape, Story, play
from controller.web.access import NoTokens, Tokens
from controller.web.app import make_app
from controller.web.server import Listen, WebServer
from controller.web.site import Site
from controller.web.tokens import StoredTokens
from planner.errors import BadInput
from planner.hardware import Inventory

STORE, TOKENS, SECRET = "cluster.db", "tokens.json", "secret"
STORY = "story"
_LOOK_S = 0.1
_CALL_S = 60.0
_SECRET_BYTES = 32


@dataclass(frozen=True)
class Options:
    """How `muster up` runs. `state`: folder of all that must survive. `speed`: simulated seconds a second."""

    state: Path
    listen: Listen = field(default_factory=Listen)
    speed: float = 1.0
    seed: int = 0
    auth: bool = True


class Embedded:
    """A Muster on an embedded cluster. `said` is told what happens, in lines for people."""

    def __init__(self, options: Options, rules: Rules, said: Callable[[str], None]) -> None:
        self.options, self._said = options, said
        self.world = World(Store(options.state / STORE), replace(rules, snapshots=options.state / "decisions"))
        self._tokens, self.token = tokens(options, self.world.clock())
        self.site = site_of(self.world, lambda: options.speed)
        app = make_app(self.site, tokens=self._tokens, metrics=self.world.loop.desk.metrics)
        mount(app, secret_of(options.state))
        self._server = WebServer(app, options.listen)
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self.failed: BaseException | None = None
        self.port = 0

    def furnish(self, inventory: Inventory, document: Mapping[str, Any]) -> None:
        """Make the nodes of an inventory, unless there are nodes already."""
        furnish(self.world.api, inventory, document, self.world.clock())

    def start(self) -> None:
        """Serve, and let time go on. Raises OSError where the port can't be had."""
        self.port = self._server.start()
        self._spawn("world", self._live)

    def stop(self) -> None:
        """End; what was answered is kept."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=30.0)
        self._server.stop()
        self.world.close()

    def tell(self, story: Story) -> None:
        """Play a story from where it is, in a thread."""
        self._spawn("story", lambda: self._play(story))

    @property
    def address(self) -> str:
        """Where the pages are."""
        listen = self.options.listen
        scheme = "http" if listen.certificate is None else "https"
        return f"{scheme}://{listen.host}:{self.port}"

    def _spawn(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guarded(self, work: Callable[[], None]) -> None:
        """A part that fails is told of, and ends the process: half a Muster would look alive and not be."""
        try:
            work()
        except BaseException as error:
            self.failed = error
            self._stopped.set()
            raise

    def _live(self) -> None:
        self.world.run(self._stopped.is_set, lambda: self.options.speed, self._stopped.wait)

    def _play(self, story: Story) -> None:
        kept = self.world.store.said(STORY)
        state: dict[str, Any] = {"start_s": self.world.now_s, "next": 0, "name": story.name} if kept is None else kept
        if state["name"] != story.name:
            raise BadInput(
                f"the cluster is in the story {state['name']!r}, got {story.name!r}: begin anew with --fresh"
            )
        self.world.store.say(STORY, state)
        while not self._stopped.wait(_LOOK_S) and state["next"] < len(story.steps):
            now_s = self.world.now_s - state["start_s"]
            for index, step, refused in play(story, state["next"], now_s, self._ask, self._choose):
                state = {**(self.world.store.said(STORY) or state), "next": index}
                self.world.store.say(STORY, state)
                self._said(f"{step.say}" + (f" REFUSED: {'; '.join(refused)}" if refused else ""))

    def _choose(self, name: str, wanted: PlaceShape) -> Place | None:
        """Kept before anything is done there: whatever kills us, the GPU that was broken is the one that is mended."""
        state = self.world.store.said(STORY) or {}
        places = state.get("places", {})
        if name not in places:
            found = self.world.place(wanted.service, wanted.group)
            if found is None:
                return None
            places = {**places, name: list(found)}
            self.world.store.say(STORY, {**state, "places": places})
        node, gpu = places[name]
        return str(node), int(gpu)

    def _ask(self, method: Method, path: str, body: Mapping[str, Any] | None, key: str) -> int:
        """A call of our own API, as anyone else makes it."""
        kind = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        headers = {"Content-Type": kind, "Idempotency-Key": key, "Host": f"{self.options.listen.host}:{self.port}"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        answer = urllib3.request(
            method, self.address + path, body=None if body is None else orjson.dumps(body), headers=headers,
            timeout=_CALL_S, retries=False,
        )  # fmt: skip
        return answer.status


def secret_of(state: Path) -> str:
    """What cookies are signed with: made once, and kept where only its owner reads it."""
    file, fresh = state / SECRET, state / f"{SECRET}.new"
    if file.exists() and len(made := file.read_text("ascii")) >= _SECRET_BYTES:
        return made
    made = token_urlsafe(_SECRET_BYTES)
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(made)
    fresh.replace(file)  # whole or not at all, whatever kills us
    return made


def tokens(options: Options, now_s: float) -> tuple[Tokens, str]:
    """Who is let in, and the first token where it was made now. Raises BadInput."""
    if not options.auth:
        return NoTokens(options.listen.host), ""
    kept = StoredTokens(options.state / TOKENS)
    return kept, kept.first(now_s) or ""


def events_since(site: Site, seen: set[str]) -> list[Mapping[str, Any]]:
    """Events that were not seen yet, or not as often, in order; they are from now on."""
    path = site.served.need("events").path()
    found = [one for one in site.objects.request("GET", path)["items"] if _mark(one) not in seen]
    seen.update(map(_mark, found))
    return sorted(found, key=lambda one: (str(one.get("eventTime", "")), int(one["metadata"]["resourceVersion"])))


def _mark(event: Mapping[str, Any]) -> str:
    """One that is told again is the same object with a higher count."""
    return f"{event['metadata']['uid']} {(event.get('series') or {}).get('count', 1)}"
