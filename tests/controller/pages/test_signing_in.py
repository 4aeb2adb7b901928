"""Who is let in to the pages, by which cookie, and what the API says beside them."""

import re
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.controller.running import Up, running


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running(tmp_path_factory.mktemp("up") / "state", "--auth") as made:
        yield made


@pytest.fixture
def client(up: Up) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=up.address, follow_redirects=False) as made:
        yield made


def token(up: Up) -> str:
    found = re.search(r"shown this once: (\S+)", up.log.read_text())
    assert found is not None
    return found[1]


def test_a_stranger_is_sent_to_sign_in_and_then_to_where_they_wanted(up: Up, client: httpx.Client) -> None:
    sent = client.get("/cluster?range=24h&gpu=a-0%2F1")
    assert sent.status_code == 303
    form = client.get(sent.headers["location"])
    after = re.search(r'name="after" value="([^"]*)"', form.text)
    assert after is not None
    wanted = after[1].replace("&amp;", "&")
    answer = client.post("/login", data={"token": token(up), "after": wanted})
    assert (answer.status_code, answer.headers["location"]) == (303, "/cluster?range=24h&gpu=a-0%2F1")
    assert client.get("/cluster").status_code == 200


def test_the_cookie_is_for_no_script_and_no_other_site(up: Up, client: httpx.Client) -> None:
    answer = client.post("/login", data={"token": token(up)})
    cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("muster_session="))
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert token(up) not in cookie


@pytest.mark.parametrize("after", ["https://elsewhere.example/x", "//elsewhere.example", "/\\elsewhere.example", "x"])
def test_nobody_is_sent_to_another_site(up: Up, client: httpx.Client, after: str) -> None:
    assert client.post("/login", data={"token": token(up), "after": after}).headers["location"] == "/"


def test_a_token_that_nobody_vouches_for_is_refused_in_words(client: httpx.Client) -> None:
    answer = client.post("/login", data={"token": "wrong"})
    assert answer.status_code == 401
    assert "This token is not known here" in answer.text
    assert client.get("/").status_code == 303


def test_a_form_that_was_sent_from_elsewhere_is_refused(up: Up, client: httpx.Client) -> None:
    answer = client.post("/login", data={"token": token(up)}, headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == 403


def test_a_form_is_small_of_one_kind_and_not_sent_without_end(up: Up, client: httpx.Client) -> None:
    assert client.post("/login", files={"token": b"x" * 100_000}).status_code == 415
    assert client.post("/login", data={"token": "x" * 100_000}).status_code == 413
    answers = [client.post("/login", data={"token": f"wrong {i}"}).status_code for i in range(80)]
    assert {*answers} == {401, 429}
    time.sleep(6.0)  # others of this address may go on


def test_who_signs_out_is_a_stranger_again(up: Up, client: httpx.Client) -> None:
    client.post("/login", data={"token": token(up)})
    assert client.get("/events").status_code == 200
    client.get("/logout")
    assert client.get("/events").status_code == 303


def test_files_of_the_pages_may_be_kept_and_lead_nowhere_else(up: Up, client: httpx.Client) -> None:
    client.post("/login", data={"token": token(up)})
    page = client.get("/").text
    found = re.findall(r'(?:href|src)="(/_muster/[^"]+)"', page)
    assert len(found) == 2
    for one in found:
        answer = client.get(one)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert client.get("/_muster/../secret").status_code == 404
    assert re.findall(r'(?:href|src)="(?:https?:)?//', page) == []


def test_the_api_answers_in_its_own_words_beside_the_pages(up: Up, client: httpx.Client) -> None:
    bearer = {"Authorization": f"Bearer {token(up)}"}
    nowhere = client.get("/api/v1/nowhere", headers=bearer)
    assert (nowhere.status_code, nowhere.headers["content-type"]) == (404, "application/problem+json")
    wrong = client.post("/api/v1/overview", headers=bearer)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")
