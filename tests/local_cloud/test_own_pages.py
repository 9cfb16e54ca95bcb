"""The cloud's own paths are for programs of this machine and for pages of the cloud itself, and for no other page."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import pytest

from tests.local_cloud.conftest import BUCKET, Account
from tidegate.local_cloud.sagemaker.own_pages import refusal

HERE = "127.0.0.1:4566"
PAGE = f"http://{HERE}"


def ask(url: str, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str, str]:
    """Status, content type and text."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Content-Type", ""), answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "localhost:4566"},
        {"host": "[::1]:4566"},
        {"host": "cloud.localhost:4566"},
        {"host": HERE, "origin": PAGE, "sec-fetch-site": "same-origin"},
        {"host": HERE, "sec-fetch-site": "none"},
    ],
)
def test_programs_and_the_cloud_s_own_pages_may_change_it(headers: dict[str, str]) -> None:
    assert refusal("POST", headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"host": HERE, "origin": "http://evil.example"},
        {"host": HERE, "origin": "null"},
        {"host": HERE, "origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-site"},
        {"host": HERE, "sec-fetch-site": "cross-site"},
        {"host": "localhost:4566", "origin": PAGE},
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_pages_may_not(headers: dict[str, str], method: str) -> None:
    assert "may not change the local cloud" in str(refusal(method, headers))


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "[", "10.0.0.1"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_name_that_leads_here_by_a_trick_is_not_answered(host: str, method: str) -> None:
    assert f"this request is for the host {host}:" in str(refusal(method, {"host": host}))


def test_the_clock_is_not_set_by_another_page(account: Account) -> None:
    url, advance = account.cloud.environment["AWS_ENDPOINT_URL_SAGEMAKER"], b'{"advance_s": 0}'
    status, _, said = ask(url, "POST", "/local/clock", advance, Origin="http://evil.example")
    assert (status, "A page of http://evil.example may not change the local cloud" in said) == (403, True)
    assert ask(url, "POST", "/local/clock", advance, Host="evil.example")[0] == 403
    assert ask(url, "POST", "/local/training-jobs/any/interruption", Sec_Fetch_Site="cross-site")[0] == 403
    assert ask(url, "POST", "/local/clock", advance, Origin=url, Sec_Fetch_Site="same-origin")[0] == 200
    assert ask(url, "POST", "/local/clock", advance)[0] == 200
    for headers in ({}, {"Authorization": "guessed"}):
        assert ask(url, "GET", "/local/credentials", **headers)[0] == 403


def test_the_other_address_says_where_the_own_paths_are(account: Account) -> None:
    url = account.cloud.environment["AWS_ENDPOINT_URL"]
    status, kind, said = ask(url, "POST", "/local/clock", b'{"advance_s": 0}')
    assert (status, kind) == (405, "application/xml")
    assert "own paths are below the address in AWS_ENDPOINT_URL_SAGEMAKER" in said
    assert ask(url, "POST", "/bucket/key", b"x")[:2] == (500, "application/xml")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1.evil.example", "http://["])
def test_a_page_of_another_machine_has_nothing_of_moto_s_services(account: Account, origin: str) -> None:
    url = account.cloud.environment["AWS_ENDPOINT_URL"]
    preflight = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
    for method, headers in (("PUT", {"Origin": origin}), ("GET", {"Origin": origin}), ("OPTIONS", preflight)):
        status, kind, said = ask(url, method, f"/{BUCKET}/planted", b"", **headers)
        assert (status, kind) == (403, "application/xml"), (method, said)
        assert f"A page of {origin} may not use the local cloud" in said
    assert "planted" not in account.keys("")


def test_a_page_of_this_machine_may_put_an_object(account: Account) -> None:
    """A front end that is being written, and uploads by an address that its back end has signed."""
    address = account.s3.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "from-a-page"})
    there = urlsplit(address)
    sent = ask(address, "PUT", f"{there.path}?{there.query}", b"x", Origin="http://localhost:5173")
    assert sent[0] == 200, sent
    assert account.s3.get_object(Bucket=BUCKET, Key="from-a-page")["Body"].read() == b"x"
