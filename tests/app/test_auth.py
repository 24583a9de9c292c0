"""Who may ask our own HTTP app; the LangGraph server's routes are in test_langgraph_server.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from escalade.app.auth import caller
from escalade.app.listening import is_loopback
from escalade.app.metrics import Metrics
from escalade.app.server import create_app
from escalade.app.settings import Settings, read_settings
from escalade.domains.errors import SettingsError

KEYS = ("first-key-0123456789", "canary-fedcba9876543210")


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    settings = Settings(domains=("tic_tac_toe",), api_keys=tuple(map(SecretStr, KEYS)))
    with TestClient(create_app(settings, Metrics())) as client:
        yield client


@pytest.mark.parametrize("body", ['{"state": "51"}', "{", "", "[" * 100_000])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": ""},
        {"x-api-key": KEYS[0][:-1]},
        {"authorization": KEYS[0]},
        {"authorization": f"Basic {KEYS[0]}"},
        {"authorization": "Bearer "},
    ],
)
def test_who_has_no_key_is_refused_whatever_is_asked(client: TestClient, headers: dict[str, str], body: str) -> None:
    posts = [path for path, methods in client.app.openapi()["paths"].items() if "post" in methods]  # type: ignore[attr-defined]
    assert sorted(posts) == ["/decide", "/outcomes", "/predict"]
    for path in posts:
        answer = client.post(path, headers=headers, content=body)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "X-Api-Key" in answer.json()["detail"]


@pytest.mark.parametrize("key", KEYS)
def test_each_key_opens(client: TestClient, key: str) -> None:
    for headers in ({"x-api-key": key}, {"authorization": f"Bearer {key}"}, {"authorization": f"bearer  {key} "}):
        assert client.post("/decide", headers=headers, json={"state": "51"}).status_code == 200
        assert client.post("/decide", headers=headers, json={"state": "canary?"}).status_code == 422


def test_probes_need_none(client: TestClient) -> None:
    for path in ("/health", "/metrics", "/docs"):
        assert client.get(path).status_code == 200


def test_without_keys_everybody_may_ask() -> None:
    assert caller({}, ()) == "anyone"
    with TestClient(create_app(Settings(domains=("tic_tac_toe",)), Metrics())) as client:
        assert client.post("/decide", json={"state": "51"}).status_code == 200


def test_a_key_is_never_shown_and_must_be_hard_to_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESCALADE_API_KEYS", f'["{KEYS[1]}"]')
    assert KEYS[1] not in repr(read_settings())
    for wrong in ("canary-short", "canary with spaces 0123", "canary-\u00fc-0123456789abc"):
        monkeypatch.setenv("ESCALADE_API_KEYS", f'["{wrong}"]')
        with pytest.raises(SettingsError, match=r"ESCALADE_API_KEYS.*at least 16") as refused:
            read_settings()
        assert wrong not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("192.0.2.1", False),
        ("::", False),
        ("example.org", False),
    ],
)
def test_addresses_that_others_can_reach_are_told_apart(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone
