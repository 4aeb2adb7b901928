"""`muster approve` with a server: yes is said through the API, as the button of the page does."""

from collections.abc import Iterator

import pytest

from tests.controller.web.served import Served, served
from tests.controller.web.test_client import run


@pytest.fixture(scope="module")
def made() -> Iterator[Served]:
    with served() as one:
        one.cluster.service("asks", approval="Manual")
        one.cluster.passes(30)
        yield one


def test_approve_says_yes_through_the_api_where_a_server_is_given(made: Served) -> None:
    for given in ((), ("--server", made.url)):
        looked = run(made, "approve", "asks", *given)
        assert looked.returncode == 3, looked.stderr
        assert "default/asks: decision " in looked.stdout
        assert ": 0 -> " in looked.stdout
        assert "nothing was approved" in looked.stderr
    decision = looked.stderr.split()[-1]
    assert run(made, "approve", "asks", "--decision", "other").returncode == 2
    said = run(made, "approve", "asks", "--decision", decision)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.endswith(f"default/asks: decision {decision} is approved\n")
    made.cluster.passes(30)
    assert "no plan waits for approval" in run(made, "approve", "asks").stderr


def test_approve_without_kubeconfig_and_server_asks_the_muster_of_this_machine(made: Served) -> None:
    ended = run(made, "approve", "asks", MUSTER_SERVER="", KUBECONFIG="/nowhere/config", HOME="/nowhere")
    assert ended.returncode in (2, 3, 4)
    assert "kubeconfig" not in ended.stderr
    assert run(made, "approve", "nothing").returncode == 3
