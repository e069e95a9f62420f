"""The verbs: tables, JSON, paging, where the system is found, and errors that name the fix."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from pbx_cli.app import app
from pbx_cli.errors import CliError, NoSuchThing
from pbx_cli.verbs import api as api_module
from pbx_cli.verbs import relays
from pbx_cli.verbs.api import Api
from pbx_cli.verbs.events import events, line_of
from pbx_cli.verbs.places import Places
from pbx_cli.verbs.table import Column, render, seconds, value_at, when

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PBX_API", "PBX_DATA", "PBX_REGISTRAR_ADDRESS", "PBX_RELAYS", "PBX_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def api(answer: Answer) -> Api:
    return Api("http://pbx", httpx.MockTransport(answer))


asked: list[str] = []
"""The page sizes that `pages` was asked for."""


def pages(request: httpx.Request) -> httpx.Response:
    asked.append(request.url.params["limit"])
    cursor = int(request.url.params.get("cursor", 0))
    return httpx.Response(200, json={"items": [{"n": cursor}], "next": str(cursor + 1) if cursor < 3 else None})


def test_items_follow_the_cursor_to_its_end() -> None:
    with api(pages) as client:
        assert [item["n"] for item in client.items("/v1/cdrs")] == [0, 1, 2, 3]
        asked.clear()
        assert [item["n"] for item in client.items("/v1/cdrs", limit=2)] == [0, 1]
    assert asked == ["2", "2"], "no page more than is needed"


def test_unset_filters_are_not_sent() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, json={"items": [], "next": None})

    with api(answer) as client:
        list(client.items("/v1/cdrs", {"user": None, "outcome": "busy"}))
    assert seen == ["http://pbx/v1/cdrs?outcome=busy&limit=1000"]


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (httpx.Response(404, json={"title": "Not Found", "detail": "no call c1"}), "answered 404: no call c1"),
        (httpx.Response(422, json={"detail": [{"msg": "x"}]}), "the API refuses this"),
        (httpx.Response(401, json={"title": "token needed"}), "set PBX_API_TOKEN"),
        (httpx.Response(502, text="bad gateway"), "answered 502: bad gateway"),
        (httpx.Response(200, text="<html>"), "does not speak the API of sip-pbx: check --http"),
    ],
)
def test_errors_are_sentences(response: httpx.Response, message: str) -> None:
    with api(lambda request: response) as client, pytest.raises(CliError) as caught:
        client.get("/v1/calls")
    assert message in str(caught.value)


def test_an_api_that_is_not_there_names_the_fix() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[Errno 111] Connection refused")

    with api(refuse) as client, pytest.raises(CliError, match="Is `sip-pbx up` running"):
        client.get("/v1/calls")


def test_the_token_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PBX_API_TOKEN", "t0ken")
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(204)

    with api(answer) as client:
        assert client.delete("/v1/webhooks/w1") is None
    assert seen == ["Bearer t0ken"]


def test_a_table_is_aligned_and_safe_for_a_terminal() -> None:
    rows = [{"user": "1004", "name": "Ann\x1b[31m"}, {"user": "100", "name": None, "tags": ["a", "b"]}]
    table = render(rows, [Column("USER", "user"), Column("NAME", "name"), Column("TAGS", "tags")])
    assert table.splitlines() == ["USER  NAME      TAGS", "1004  Ann?[31m  -", "100   -         a, b"]


def test_values_by_dotted_keys_and_alternatives() -> None:
    row = {"a": {"b": 1}, "c": 0}
    assert value_at(row, "a.b") == 1
    assert value_at(row, "x|c") == 0
    assert value_at(row, "a.b.c") is None


def test_times_and_durations() -> None:
    assert when(0) == when("1970-01-01T00:00:00+00:00")
    assert when("soon") == "soon"
    assert seconds(12345) == "12.3"
    assert seconds(None) == "-"


def test_an_event_is_one_line() -> None:
    event = {
        "time": "2026-01-01T00:00:00Z",
        "type": "call.ended",
        "subject": "c1",
        "data": {"outcome": "busy", "leg": {}},
    }
    line = line_of(event)
    assert "call.ended" in line
    assert line.endswith("c1  outcome=busy")


def endpoints(directory: Path) -> None:
    document: dict[str, Any] = {
        "http": "http://127.0.0.1:8088",
        "processes": [
            {"name": "registrar", "addresses": {"grpc": "127.0.0.1:1"}},
            {"name": "media-relay", "addresses": {"grpc": "127.0.0.1:2"}},
        ],
    }
    (directory / "endpoints.json").write_text(json.dumps(document))


def test_the_running_system_is_found_by_what_up_left(tmp_path: Path) -> None:
    endpoints(tmp_path)
    places = Places("", tmp_path)
    assert (places.api, places.registrar, places.relays) == ("http://127.0.0.1:8088", "127.0.0.1:1", ("127.0.0.1:2",))


def test_what_the_caller_says_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoints(tmp_path)
    monkeypatch.setenv("PBX_REGISTRAR_ADDRESS", "r:9")
    monkeypatch.setenv("PBX_RELAYS", "a:1, b:2")
    places = Places("pbx.example:80/", tmp_path)
    assert (places.api, places.registrar, places.relays) == ("http://pbx.example:80", "r:9", ("a:1", "b:2"))


def test_without_anything_the_default_api_and_a_clear_error(tmp_path: Path) -> None:
    places = Places("", tmp_path)
    assert places.api == "http://127.0.0.1:8080"
    with pytest.raises(CliError, match=r"endpoints\.json is not there.*PBX_REGISTRAR_ADDRESS"):
        _ = places.registrar


def invoke(*argv: str, monkeypatch: pytest.MonkeyPatch, answer: Answer) -> Any:
    client = httpx.Client
    monkeypatch.setattr(
        api_module.httpx, "Client", lambda **options: client(**options | {"transport": httpx.MockTransport(answer)})
    )
    return CliRunner().invoke(app, list(argv))


@pytest.mark.parametrize(
    ("argv", "path", "item", "shown"),
    [
        (["calls"], "/v1/calls", {"call_id": "c1", "state": "ringing", "caller": "1004"}, "c1    ringing  1004"),
        (
            ["registrations"],
            "/v1/registrations",
            {"aor": "1004@pbx.local", "contact": "sip:1004@192.0.2.1"},
            "sip:1004@192",
        ),
        (
            ["cdr", "list"],
            "/v1/cdrs",
            {"call_id": "c1", "outcome": "busy", "started_at": "2026-01-01T00:00:00Z"},
            "busy",
        ),
        (["webhook", "list"], "/v1/webhooks", {"id": "w1", "url": "https://x"}, "https://x"),
        (["webhook", "attempts", "w1"], "/v1/webhooks/w1/attempts", {"event_id": "E1", "status": 503}, "E1     503"),
        (["webhook", "dead", "w1"], "/v1/webhooks/w1/dead-letters", {"event_id": "E1", "attempts": 10}, "E1"),
    ],
)
def test_lists(
    argv: list[str], path: str, item: dict[str, Any], shown: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == path
        return httpx.Response(200, json={"items": [item], "next": None})

    where = ["--data", str(tmp_path)]
    table = invoke(*argv, *where, monkeypatch=monkeypatch, answer=answer)
    assert table.exit_code == 0, table.output
    assert shown in table.output
    as_json = CliRunner().invoke(app, [*argv, *where, "--json"])
    assert json.loads(as_json.output) == [item]


@pytest.mark.parametrize(
    ("argv", "path", "body"),
    [
        (["webhook", "test", "w1"], "/v1/webhooks/w1/test", {}),
        (["webhook", "replay", "w1", "--event", "E1"], "/v1/webhooks/w1/replay", {"event_ids": ["E1"]}),
        (["webhook", "add", "https://x", "--user", "1004"], "/v1/webhooks", {"url": "https://x", "user": "1004"}),
        (["webhook", "rotate", "w1"], "/v1/webhooks/w1/rotate-secret", {}),
        (["webhook", "enable", "w1"], "PATCH /v1/webhooks/w1", {"enabled": True}),
        (["webhook", "disable", "w1"], "PATCH /v1/webhooks/w1", {"enabled": False}),
        (["webhook", "change", "w1", "--url", "https://y"], "PATCH /v1/webhooks/w1", {"url": "https://y"}),
        (
            ["webhook", "change", "w1", "--user", "", "--type", "call.*"],
            "PATCH /v1/webhooks/w1",
            {"types": ["call.*"], "user": None},
        ),
    ],
)
def test_changes_of_webhooks(
    argv: list[str], path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[tuple[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((f"{request.method} {request.url.path}".removeprefix("POST "), json.loads(request.content)))
        return httpx.Response(200, json={"id": "w1"})

    assert invoke(*argv, "--data", str(tmp_path), monkeypatch=monkeypatch, answer=answer).exit_code == 0
    assert seen == [(path, body)]


def test_hangup_is_a_delete_of_the_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.method, request.url.raw_path.decode()))
        return httpx.Response(202)

    result = invoke("hangup", "c/1", "--data", str(tmp_path), monkeypatch=monkeypatch, answer=answer)
    assert result.exit_code == 0, result.output
    assert seen == [("DELETE", "/v1/calls/c%2F1")]


def test_record_asks_relay_after_relay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PBX_RELAYS", "a:1,b:2,c:3")
    asked: list[str] = []

    def start(address: str, call_id: str) -> str:
        asked.append(address)
        if address != "b:2":
            raise NoSuchThing(call_id)
        return "/var/rec/c1.wav"

    monkeypatch.setattr(relays, "start_recording", start)
    result = CliRunner().invoke(app, ["record", "c1", "--data", str(tmp_path)])
    assert (result.output, asked) == ("/var/rec/c1.wav\n", ["a:1", "b:2"])
    monkeypatch.setenv("PBX_RELAYS", "a:1")
    result = CliRunner().invoke(app, ["record", "c1", "--data", str(tmp_path)])
    assert "no relay holds call c1" in str(result.exception)


def test_a_period_is_asked_for_in_utc_and_a_wrong_time_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[dict[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(dict(request.url.params))
        return httpx.Response(200, json={"items": [], "next": None})

    times = ("--since", "2026-01-02T02:00:00+02:00", "--until", "2026-01-04T00:00:00Z")
    for argv in (("cdr", "export", *times), ("cdr", "list", "--limit", "7", *times)):
        assert invoke(*argv, "--data", str(tmp_path), monkeypatch=monkeypatch, answer=answer).exit_code == 0
    period = {"since": "2026-01-02T00:00:00+00:00", "until": "2026-01-04T00:00:00+00:00"}
    assert seen == [period | {"limit": "1000"}, period | {"limit": "7"}]
    wrong = invoke("cdr", "export", "--since", "soon", "--data", str(tmp_path), monkeypatch=monkeypatch, answer=answer)
    assert "--since: 'soon' is no time" in str(wrong.exception)


def test_tail_shows_the_last_events_and_then_those_that_come() -> None:
    stored = [{"id": f"{n:026d}"} for n in range(1, 6)]

    def answer(request: httpx.Request) -> httpx.Response:
        after = request.url.params.get("after")
        limit = int(request.url.params["limit"])
        if after is None:
            return httpx.Response(200, json={"items": stored[::-1][:limit], "next": None})
        newer = [event for event in stored if event["id"] > after][:limit]
        return httpx.Response(200, json={"items": newer, "next": None})

    with api(answer) as client:
        tail = events(client, {}, lines=2, follow=True)
        assert [next(tail)["id"][-1] for _ in range(2)] == ["4", "5"]
        stored.append({"id": f"{6:026d}"})
        assert next(tail)["id"][-1] == "6"
        assert list(events(client, {}, lines=0, follow=False)) == []


def test_help_names_every_verb() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    for verb in (
        "up",
        "calls",
        "hangup",
        "registrations",
        "cdr",
        "webhook",
        "events",
        "account",
        "relay",
        "record",
        "token",
        "status",
    ):
        assert f"\n  {verb} " in text
