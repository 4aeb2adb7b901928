"""Others' words as they may be shown: on one line, not too long, without what may be a secret."""

import re

_MOST_WORDS = 300
_SECRET = re.compile(
    r"(?i)(?<=://)[^/@\s]+(?=@)"  # user and password of an address
    r"|(?<=bearer )\S+|(?<=basic )\S+"
    r"|(?<=[=\"'])(?:hf_|sk-|ghp_|glpat-|eyJ)[\w.-]+|\b(?:hf|ghp)_\w{8,}|\beyJ[\w-]+\.[\w-]+\.[\w-]+"
    r"|(?:(?<=token=)|(?<=password=)|(?<=passwd=)|(?<=secret=)|(?<=signature=)|(?<=api_key=)|(?<=apikey=)|(?<=credential=))[^\s&\"',;]+"
)


def hidden(words: str) -> str:
    """Words on one line, without what may be a secret."""
    return _SECRET.sub("***", " ".join(words.split()))


def shown(words: str) -> str:
    """Others' words on one line, not too long, without what may be a secret."""
    line = hidden(words)
    return line if len(line) <= _MOST_WORDS else line[: _MOST_WORDS - 1] + "…"
