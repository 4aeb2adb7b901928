"""The page to sign in at: plain HTML, since nobody is known yet."""

from html import escape

from controller.pages.style import CSS

_BODY = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sign in · Muster</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{css}
form {{ max-width: 380px; margin: 14vh auto; }}
input {{ font: inherit; padding: 8px 10px; border-radius: 8px; width: 100%;
border: 1px solid var(--line); background: var(--bg); color: var(--text); box-sizing: border-box; }}
button {{ font: inherit; font-weight: 600; padding: 8px 14px; border: 0; border-radius: 8px; background: var(--accent);
color: var(--card); cursor: pointer; }}</style></head><body>
<form method="post" action="/login" class="m-card"><h1 class="m-title">Muster</h1>
<label for="token" class="m-note">A token, as `muster up` showed it at its first start, or of the cluster</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<div class="m-note m-bad" role="alert">{error}</div><button>Sign in</button></form></body></html>"""


def form(error: str) -> str:
    """The page, with what went wrong before."""
    return _BODY.format(css=CSS, error=escape(error))
