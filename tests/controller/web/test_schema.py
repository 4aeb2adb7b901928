"""schemathesis finds no failure of the server, no answer that is not documented, and nothing accepted that is wrong."""

import re
from pathlib import Path

import pytest

from controller.web.limits import Limits
from tests.controller.web.cluster import a_spec
from tests.controller.web.schema_run import LEFT_OUT, schemathesis
from tests.controller.web.served import dry_run, served_with_tokens

OFTEN = Limits(per_s=1e6, burst=1e6, unknown_per_s=1e6, unknown_burst=1e6)


# Every value at and beyond its bounds is 10,000 requests where a body is a whole service: tests/benchmarks/api_load.py.
LARGE_BODIES = "services|inventories"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phases", "left_out", "operations", "least"),
    [("examples,fuzzing", LEFT_OUT, 40, 250), ("coverage", f"{LEFT_OUT}|{LARGE_BODIES}", 20, 200)],
    ids=["by example and at random", "at the bounds of every value"],
)
def test_nothing_that_may_be_sent_finds_a_failure_or_an_answer_that_is_not_documented(
    tmp_path: Path, phases: str, left_out: str, operations: int, least: int
) -> None:
    with served_with_tokens(tmp_path, limits=OFTEN) as (made, token):
        made.cluster.service()
        made.cluster.passes(60)
        with made.client(token) as client:
            dry_run(client, a_spec("first"))  # the process that plans takes its time to start where others run too
        ended = schemathesis(made.url, token, tmp_path, 3, phases, left_out)
    assert ended.returncode == 0, ended.stdout[-20_000:] + ended.stderr[-2000:]
    tested = re.search(r"Tested: (\d+)", ended.stdout)
    cases = re.search(r"(\d+) generated", ended.stdout)
    assert tested is not None
    assert cases is not None
    assert int(tested[1]) >= operations
    assert int(cases[1]) >= least
