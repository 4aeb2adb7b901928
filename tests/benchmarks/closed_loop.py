"""Closed and open loops in closed form beside the step-exact loop (`planner.simulate`), and how much faster they are.

    python -m tests.benchmarks.closed_loop

A grid of users or loads, prompt and output lengths, equal and unequal (80 to 100 %), with and without lookahead, with
room for all users or for fewer. Exits 1 where the median error of any figure is beyond its limit: 5 % in closed loops;
10 % in open ones, whose arrivals are three random draws, and 25 % for their 95th percentile of TTFT.
"""

import sys
from itertools import product
from time import process_time

import numpy as np

from planner.perf.closed_loop import closed
from planner.perf.open_loop import open_loop
from planner.perf.under_load import Answer, Load, Server, capacity_per_s
from planner.simulate import Engine, Request, Served, Step, serve
from tests.benchmarks.common import bar

STEP_S, SEQUENCE_S, TOKEN_S, BUDGET, WAVES = 0.01, 1e-4, 4e-5, 2048, 5
FIGURES = ("TTFT mean", "TTFT p50", "TTFT p95", "TPOT mean", "TPOT p95", "E2E mean", "E2E p95")
CLOSED = (0.05,) * len(FIGURES)
OPEN = tuple(0.25 if name == "TTFT p95" else 0.10 for name in FIGURES)
DRAWS, ARRIVALS = 3, 1500


def main() -> None:
    """Print one line a kind of load: median and worst error of each figure."""
    print(f"{'':34}" + "".join(f"{name:>16}" for name in FIGURES))
    errors, spent_s, ours_s = _closed(room=False)
    met = _line("closed, room for all users", errors, CLOSED)
    met &= _line("closed, room for some", _closed(room=True)[0], CLOSED)
    for share in (0.3, 0.6, 0.8):
        met &= _line(f"open, {share:.0%} of capacity", _open(share), OPEN)
    for share in (0.7, 0.9):
        met &= _line(f"open, 32 places, {share:.0%}", _open(share, 32), OPEN)
    step_s, form_s = spent_s / len(errors), ours_s / len(errors)
    print(f"{step_s:.3f} s a run step by step, {1e3 * form_s:.1f} ms in closed form, one by one")
    sys.exit(0 if met else 1)


def _line(name: str, errors: list[list[float]], limits: tuple[float, ...]) -> bool:
    medians = np.median(errors, axis=0)
    pairs = zip(100 * medians, 100 * np.max(errors, axis=0), strict=True)
    print(f"{name:26}{len(errors):4} runs" + "".join(f"{a:7.1f} /{b:6.1f} %" for a, b in pairs), flush=True)
    over = [f"{f} {100 * m:.1f} %" for f, m, most in zip(FIGURES, medians, limits, strict=True) if not m <= most]
    wanted = ", ".join(sorted({f"{100 * most:g}" for most in limits}, key=float))
    return bar(name, not over, f"medians over their limit ({wanted} % wanted): {', '.join(over) or 'none'}")


def _server(sequences: float, lookahead: bool) -> Server:
    step, each, token, budget = (np.array(x, dtype=float) for x in (STEP_S, SEQUENCE_S, TOKEN_S, BUDGET))
    return Server(step, each, token, np.array(float(sequences)), budget, lookahead=lookahead)


def _step_time(step: Step) -> float:
    return STEP_S + SEQUENCE_S * len(step.contexts) + TOKEN_S * sum(new for new, _ in step.chunks)


def _closed(room: bool) -> tuple[list[list[float]], float, float]:
    errors, spent_s, ours_s = [], 0.0, 0.0
    places, lengths = ((4, 16), (200, 1000)) if room else ((10**6,), (200, 1000, 4000))
    grid = product((1, 8, 32, 96) if not room else (32, 96), lengths, (64, 256), (False, True), (False, True), places)
    for users, prompt, tokens, uneven, lookahead, most in grid:
        share = np.random.default_rng(0).uniform(0.8 if uneven else 1.0, 1.0, size=(users * WAVES, 2))
        requests = [Request(0.0, round(prompt * a), round(tokens * b)) for a, b in share]
        engine = Engine(most, BUDGET, 10**7, reuse=False, lookahead=lookahead)
        start = process_time()
        served = serve(requests, engine, _step_time, users=users)
        between = process_time()
        mean, spread = (0.9, 0.2 / 12**0.5 / 0.9) if uneven else (1.0, 0.0)
        load = Load(np.array(mean * prompt), np.array(mean * tokens), spread)
        answer = closed(np.array(float(users)), load, _server(most, lookahead), WAVES)
        spent_s, ours_s = spent_s + between - start, ours_s + process_time() - between
        errors.append(_errors(answer, [served]))
    return errors, spent_s, ours_s


def _open(share: float, places: int = 256) -> list[list[float]]:
    errors = []
    for prompt, tokens, lookahead in product((200, 1000, 4000), (32, 128), (False, True)):
        load, server = Load(np.array(float(prompt)), np.array(float(tokens))), _server(places, lookahead)
        rate = share * float(capacity_per_s(load, server))
        engine = Engine(places, BUDGET, 10**7, reuse=False, lookahead=lookahead)
        drawn = []
        for seed in range(1, DRAWS + 1):
            at_s = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, ARRIVALS))
            drawn.append(serve([Request(float(t), prompt, tokens) for t in at_s], engine, _step_time))
        errors.append(_errors(open_loop(np.array(rate), load, server), drawn))
    return errors


def _errors(answer: Answer, runs: list[Served]) -> list[float]:
    ttft_s, tpot_s, e2e_s = (
        np.concatenate([getattr(run, name) for run in runs]) for name in ("ttft_s", "tpot_s", "e2e_s")
    )
    pairs = (
        (answer.ttft.mean_s, ttft_s.mean()),
        (answer.ttft.percentiles_s[0], np.percentile(ttft_s, 50)),
        (answer.ttft.percentiles_s[2], np.percentile(ttft_s, 95)),
        (answer.tpot.mean_s, np.nanmean(tpot_s)),
        (answer.tpot.percentiles_s[2], np.nanpercentile(tpot_s, 95)),
        (answer.e2e.mean_s, e2e_s.mean()),
        (answer.e2e.percentiles_s[2], np.percentile(e2e_s, 95)),
    )
    return [abs(float(ours) / float(true) - 1) for ours, true in pairs]


if __name__ == "__main__":
    main()
