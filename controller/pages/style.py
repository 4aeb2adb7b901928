"""How the pages look: colours here, the rest in style.css. One accent; states have a colour, a sign and a word.

Text in any of `TEXT` on any of `GROUNDS` has a contrast of at least 4.5, and the colours of states differ in lightness
and hue as people with each common kind of colour blindness see them (bluish green, amber, vermilion).
"""

from hashlib import sha256
from pathlib import Path

LIGHT = {
    "bg": "#f6f7f9", "card": "#ffffff", "raised": "#ffffff", "line": "#e3e6eb", "strong": "#ccd1da", "text": "#14171d",
    "soft": "#586071", "accent": "#3f50d0", "good": "#08735b", "warn": "#8a5200", "bad": "#b3261e", "fill": "#eceef3",
    "hover": "#f2f4f8",
}  # fmt: skip
DARK = {
    "bg": "#0d1015", "card": "#151920", "raised": "#1b2029", "line": "#262c36", "strong": "#3a4250", "text": "#e7eaf0",
    "soft": "#9aa4b4", "accent": "#94a1ff", "good": "#48c79f", "warn": "#f0b252", "bad": "#ff9084", "fill": "#222834",
    "hover": "#1b2029",
}  # fmt: skip
TEXT = ("text", "soft", "accent", "good", "warn", "bad")
GROUNDS = ("bg", "card", "raised", "fill", "hover")
SERIES = {
    False: (
        "#3f50d0",
        "#d07a00",
        "#12897a",
        "#9a4fb0",
        "#c2405f",
        "#2f86bf",
        "#77861c",
        "#8a5a3c",
        "#cf56a8",
        "#6b7686",
    ),
    True: (
        "#94a1ff",
        "#f0a94a",
        "#45c4ae",
        "#c99be4",
        "#f08aa3",
        "#6cbdf0",
        "#b7c652",
        "#cb9f80",
        "#f29bd4",
        "#a3adbc",
    ),
}
OTHERS = len(SERIES[False]) - 1  # of all that have no colour of their own
_FOLDER = Path(__file__).parent


def colours(dark: bool) -> dict[str, str]:
    """Those of a theme."""
    return DARK if dark else LIGHT


def _variables(found: dict[str, str]) -> str:
    return ";".join(f"--{name}:{value}" for name, value in found.items())


CSS = (
    f":root {{ color-scheme: light; {_variables(LIGHT)} }}\n"
    f".body--dark, html.dark {{ color-scheme: dark; {_variables(DARK)} }}\n"
    + (_FOLDER / "style.css").read_text("utf-8")
)
JS = (_FOLDER / "muster.js").read_text("utf-8")
FILES = {"style.css": (CSS, "text/css"), "muster.js": (JS, "text/javascript")}


def address(name: str) -> str:
    """Where a file of `FILES` is served: browsers may keep it, since another content has another address."""
    return f"/_muster/{name}?v={sha256(FILES[name][0].encode()).hexdigest()[:12]}"
