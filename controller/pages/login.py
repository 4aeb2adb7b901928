"""The page to sign in at, and words for whoever may not see one: plain HTML, since nobody is known yet."""

from html import escape

from nicegui import __version__

from controller.pages.style import address

_FONTS = f"/_nicegui/{__version__}/static/fonts.css"
_PAGE = """<!doctype html><html lang="en"{dark}><head><meta charset="utf-8"><title>{title} · Muster</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="{fonts}">
<link rel="stylesheet" href="{css}">
<style>*{{box-sizing:border-box}} body{{margin:0}} main{{max-width:400px;margin:16vh auto 0;padding:0 16px}}
.m-card{{padding:24px;gap:14px}} .m-input{{width:100%;height:34px}} .m-btn{{padding:6px 14px;
justify-content:center}}</style>
</head><body{body}><main>{inner}</main></body></html>"""
_FORM = """<form method="post" action="/login" class="m-card"><h1 class="m-title">Sign in to Muster</h1>
<label for="token" class="m-note">Your token: one that <span class="m-mono">muster up</span> showed at its first start,
or one of the cluster</label>
<input type="hidden" name="after" value="{after}">
<input id="token" name="token" type="password" class="m-input" autocomplete="current-password" required autofocus
 aria-describedby="wrong"{invalid}>
<div id="wrong" class="m-wrong" role="alert">{error}</div><button class="m-btn main">Sign in</button></form>"""


def form(error: str, dark: bool = False, after: str = "/") -> str:
    """The page, with what went wrong before. `after`: where to go then."""
    invalid = ' aria-invalid="true"' if error else ""
    return _page("Sign in", _FORM.format(error=escape(error), invalid=invalid, after=escape(after)), dark)


def refusal(words: str, dark: bool = False) -> str:
    """A page that says why another is not shown."""
    inner = (
        f'<div class="m-card"><h1 class="m-title">Not shown</h1><p>{escape(words)}</p><a href="/">Overview</a></div>'
    )
    return _page("Not shown", inner, dark)


def _page(title: str, inner: str, dark: bool) -> str:
    themed = ' class="dark"' if dark else ""
    body = ' class="body--dark"' if dark else ""
    return _PAGE.format(title=title, css=address("style.css"), fonts=_FONTS, inner=inner, dark=themed, body=body)
