"""Attackers for `web_clients.py`, a process of their own: everything at once until a second line on standard input.

Bodies of 10 MB with and without a length, YAML bombs, and as many values as are allowed or a few more, each sent again
as soon as it is answered; and beside them connections that ask without a pause. Prints what was answered, as JSON.
"""

import asyncio
import json
import sys
from collections import Counter

from tests.benchmarks.web_asking import READS, question

_PAUSE_S = 0.05
_BOMB = b"a: &a [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (97 + i, 97 + i, b", ".join([b"*%c" % (96 + i)] * 10)) for i in range(1, 9)
)
JSON, YAML = "application/json", "application/yaml"
FIRE = {
    "10 MB": (b" " * 10_000_000, JSON, 413),
    "10 MB without a length": (b" " * 10_000_000, JSON, 413),
    "YAML bomb": (_BOMB, YAML, 422),
    "small YAML bomb": (_BOMB[:200], YAML, 422),
    "30 kB of YAML": (b"a: [" + b"1, " * 10_000 + b"1]", YAML, 422),
    "19,000 values in YAML": (b"a: [" + b"1, " * 19_000 + b"1]", YAML, 422),
    "1 MB of YAML": (b"a: [" + b"1, " * 349_000 + b"1]", YAML, 422),
    "99,000 values in JSON": (b'{"a": [' + b"1," * 99_000 + b"1]}", JSON, 422),
    "99,000 keys in JSON": (b"{" + b",".join(b'"%x":1' % i for i in range(99_000)) + b"}", JSON, 422),
    "15,000 values in JSON": (b'{"a": [' + b"1," * 15_000 + b"1]}", JSON, 422),
}


async def attack(port: int, token: str, crowd: int, only: str) -> None:
    """Everything at once until standard input ends."""
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    chosen = {name: row for name, row in FIRE.items() if not only or name in only.split("+")}
    work = [asyncio.create_task(_fire(port, token, name, seen, wrong)) for name in chosen]
    if not only or "crowd" in only.split("+"):
        work += [asyncio.create_task(_ask(port, token, number, seen)) for number in range(crowd)]
    print("at work", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    for one in work:
        one.cancel()
    await asyncio.gather(*work, return_exceptions=True)
    print(json.dumps({"seen": seen, "wrong": wrong[:5]}))


async def _fire(port: int, token: str, name: str, seen: Counter[str], wrong: list[str]) -> None:
    body, kind, allowed = FIRE[name]
    data = question(token, "POST", "/services", body, kind)
    if "without" in name:
        head = data.partition(b"\r\n\r\n")[0].replace(b"Content-Length: 10000000", b"Transfer-Encoding: chunked")
        data = head + b"\r\n\r\n" + b"".join(b"10000\r\n%s\r\n" % (b" " * 65_536) for _ in range(152)) + b"0\r\n\r\n"
    while True:
        try:
            status = await _once(port, data)
        except OSError:
            status = 0  # it was not read to its end
        if status not in (allowed, 413, 429, 0):
            wrong.append(f"{name}: {status}")
        seen[f"{name} {status or 'cut off'}"] += 1
        await asyncio.sleep(_PAUSE_S)


async def _once(port: int, data: bytes) -> int:
    """One request on a connection of its own. The answer is looked for while the body is still being sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        head = await reader.readuntil(b"\r\n")
        return int(head.split(None, 2)[1])
    except asyncio.IncompleteReadError:
        return 0
    finally:
        writer.transport.abort()


async def _ask(port: int, token: str, number: int, seen: Counter[str]) -> None:
    """Ask again as soon as there is an answer."""
    turn = number
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while True:
                writer.write(question(token, "GET", READS[turn % len(READS)]))
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
                seen[f"crowd {int(head.split(None, 2)[1])}"] += 1
                turn += 1
        except (OSError, asyncio.IncompleteReadError):
            seen["crowd cut off"] += 1
            await asyncio.sleep(_PAUSE_S)


if __name__ == "__main__":
    asyncio.run(attack(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]))
