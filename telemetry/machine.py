"""The one state machine behind all detectors; pure, on the clock that it is given."""

from dataclasses import replace

from telemetry.fault import Look, Phase, Rule, State


def looked(state: State, look: Look, rule: Rule, now_s: float, booted_s: float) -> State:
    """The state after one more look at `now_s`; `booted_s`: when the node or its driver came up."""
    hit = look.hit and now_s - booted_s >= rule.grace_s
    recent = (*state.recent, hit)[-rule.looks :]
    state = replace(state, recent=recent)
    if hit:
        state = replace(state, last_hit_s=now_s, value=look.value, words=look.words)
    phase = _next(state, rule, hit, now_s)
    return state if phase == state.phase else replace(state, phase=phase, since_s=now_s)


def acted(state: State, now_s: float) -> State:
    """Somebody has acted on a confirmed fault (drained, reset, sent for a person)."""
    return replace(state, phase="acted", since_s=now_s) if state.phase == "confirmed" else state


def recovered(state: State, now_s: float) -> State:
    """The GPU was reset or the node rebooted: what was wrong is over until it shows again."""
    if state.phase in ("healthy", "probation"):
        return replace(state, recent=())
    if state.phase == "suspect":
        return State(since_s=now_s)
    return replace(state, phase="probation", since_s=now_s, recent=())


def _next(state: State, rule: Rule, hit: bool, now_s: float) -> Phase:
    confirmed = sum(state.recent) >= rule.hits
    clean_s = now_s - state.last_hit_s
    match state.phase:
        case "healthy":
            return ("confirmed" if confirmed else "suspect") if hit else "healthy"
        case "suspect":
            if confirmed:
                return "confirmed"
            return "healthy" if clean_s >= rule.clear_s or not any(state.recent) else "suspect"
        case "confirmed" | "acted":
            return "probation" if clean_s >= rule.clear_s else state.phase
        case "probation":
            if hit:
                return "confirmed"  # it is back: no second benefit of the doubt
            return "healthy" if now_s - state.since_s >= rule.probation_s else "probation"
