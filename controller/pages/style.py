"""How the pages look: colours here, the rest in style.css. One accent; states have a colour, a sign and a word."""

from pathlib import Path

LIGHT = {
    "bg": "#f6f7f9", "card": "#ffffff", "line": "#e3e6eb", "text": "#16191f", "soft": "#5b6472", "accent": "#3f51d9",
    "good": "#1a7f4b", "warn": "#9a5b00", "bad": "#b3261e", "fill": "#eef0f4", "hover": "#f0f2f6",
}  # fmt: skip
DARK = {
    "bg": "#0f1218", "card": "#171b23", "line": "#2a303b", "text": "#e8ebf0", "soft": "#9aa4b2", "accent": "#8c9bff",
    "good": "#4cc38a", "warn": "#f0b455", "bad": "#ff8f87", "fill": "#1f2530", "hover": "#1d222c",
}  # fmt: skip
SERIES = ("#4e79d8", "#e08a1e", "#2a9d8f", "#a05bb5", "#c44e52", "#7a8794")  # told apart by all common kinds of sight


def _variables(colours: dict[str, str]) -> str:
    return ";".join(f"--{name}:{value}" for name, value in colours.items())


CSS = f":root {{ {_variables(LIGHT)} }}\n.body--dark {{ {_variables(DARK)} }}\n" + (
    Path(__file__).parent / "style.css"
).read_text("utf-8")
