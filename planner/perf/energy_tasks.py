"""Lengths of the requests that a measured task sends: published where they are, assumed and said so where not."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Task:
    """Tokens of a request of a task. ML.ENERGY publishes no input lengths, so one is assumed for each task.

    `output_tokens` stands in where a row states none. `why`: what the assumption rests on.
    """

    input_tokens: float
    output_tokens: float
    why: str


# Engines of the leaderboard that are full of KV cache run fewer sequences than their limit; memory left over weights,
# divided by KV bytes of a token and by that count, less the share of the output written so far, is the input.
TASKS: Mapping[str, Task] = {
    "gpqa": Task(300, 7000, "GPQA Diamond: a question and four choices; full KV caches agree within 100 tokens"),
    "lm-arena-chat": Task(250, 630, "LMArena human preference prompts; full KV caches give 230 to 300 tokens"),
    "sourcegraph-fim": Task(
        1000, 250, "Sourcegraph fill-in-the-middle: a file around a gap; full KV caches give 900-1,200"
    ),
    "image-chat": Task(
        1000, 900, "VisionArena: one image of some 900 tokens and a question; full KV caches give 1,000"
    ),
    "video-chat": Task(4000, 500, "LLaVA-Video-178K: frames of one clip; no row to check it with"),
    "audio-chat": Task(500, 500, "spoken questions: 25 tokens a second of 10 to 30 s; no row to check it with"),
}
OTHER_TASK = "lm-arena-chat"
# Of its output, a sequence that is being served has written this share, on average: half if all are of one length;
# more as long ones are served for longer (squared coefficient of variation 0.3, as full KV caches of gpqa give).
WRITTEN_RATIO = 0.65
