"""A whole Muster on the demo's fleet for `api_load.py`: prints address and token, ends at SIGTERM."""

import signal
import threading
from dataclasses import replace
from pathlib import Path

from controller.embedded.world import Rules
from controller.up import Embedded, Options
from controller.up_parts import chosen_story, hardware, midnight_s
from controller.web.server import Listen

SPEED = 60.0


def main(state: str) -> None:
    """Serve until told to end."""
    story = chosen_story(None, True)
    assert story is not None
    found, document = hardware(None, story)
    options = Options(Path(state), Listen(port=0), speed=SPEED, auth=True)
    made = Embedded(options, Rules(start_s=midnight_s()), lambda words: None)
    made.furnish(found, document)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    made.start()
    made.tell(replace(story, steps=story.steps[:1]))
    while made.world.loop.known.plan("default/assistant") is None and not ended.wait(0.1):
        pass
    ended.wait(5.0)
    print(made.address, made.token, flush=True)
    ended.wait()
    made.stop()
