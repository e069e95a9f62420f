"""When a delivery is tried again, and how it is signed."""

from __future__ import annotations

import pytest
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from pbx_events.webhook import signing
from pbx_events.webhook.policy import (
    BREAK_AFTER,
    BREAK_FIRST_S,
    BREAK_MAX_S,
    STEPS_S,
    Breaker,
    Next,
    Step,
    decide,
)
from pbx_events.webhook.target import check_url, is_public, resolve
from pbx_runtime.errors import InvalidArgument


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_two_hundreds_are_done(status):
    assert decide(status, 0, 0, 0.5) == Step(Next.DONE)


@pytest.mark.parametrize("status", [0, 300, 302, 400, 404, 429, 500, 503])
def test_anything_else_comes_again(status):
    assert decide(status, 0, 0, 0.5) == Step(Next.AGAIN, STEPS_S[1])


def test_ten_attempts_and_then_it_is_dead():
    steps = [decide(500, attempts, 0, 0.5) for attempts in range(10)]
    assert [step.after_s for step in steps[:9]] == list(STEPS_S[1:])
    assert steps[9] == Step(Next.DEAD)


def test_gone_ends_it_at_once():
    assert decide(410, 0, 0, 0.5).next is Next.GONE


def test_retry_after_is_heeded_within_a_day():
    assert decide(503, 0, 90, 0.5).after_s == 90
    assert decide(503, 0, 10**9, 0.5).after_s == 86_400
    assert decide(503, 5, 1, 0.5).after_s == STEPS_S[6], "never sooner than the step"


def test_jitter_spreads():
    assert decide(500, 1, 0, 0.0).after_s < decide(500, 1, 0, 0.99).after_s


def test_an_independent_verifier_accepts_the_signature():
    import time

    secret, body = signing.new_secret(), b'{"a":1}'
    headers = signing.headers([secret], "msg_1", int(time.time()), body)
    assert Verifier(secret).verify(body.decode(), headers) == {"a": 1}
    with pytest.raises(WebhookVerificationError):
        Verifier(signing.new_secret()).verify(body.decode(), headers)


def test_both_secrets_verify_after_a_rotation():
    import time

    old, new = signing.new_secret(), signing.new_secret()
    headers = signing.headers([new, old], "msg_1", int(time.time()), b"{}")
    assert Verifier(old).verify("{}", headers) == Verifier(new).verify("{}", headers) == {}


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "::",
        "fe80::1%1",
        "fd00::1",
        "::ffff:127.0.0.1",
        "2002:7f00:1::",
        "ff02::1",
    ],
)
def test_private_addresses_are_no_targets(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_public_addresses_are_targets(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x.example/",
        "https:///x",
        "http://x.example/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://u:p@x.example/",
        "https://x.example:99999/",
        "https://[/",
        "https://169.254.169.254/latest",
    ],
)
def test_urls_that_are_refused(url):
    with pytest.raises(InvalidArgument):
        check_url(url, allow_private=False)


async def test_a_name_is_resolved_checked_and_pinned():
    with pytest.raises(InvalidArgument, match="not at a public address"):
        await resolve("https://localhost/x", allow_private=False)
    target = await resolve("http://localhost:81/x?y", allow_private=True)
    assert set(target.addresses) <= {"127.0.0.1", "::1"}
    assert (target.host_header, target.server_name, target.url.path) == ("localhost:81", None, "/x")


def test_the_breaker_opens_after_failures_in_a_row_and_lets_one_probe_through():
    breaker = Breaker()
    for _ in range(BREAK_AFTER - 1):
        breaker.failed(0.0)
    assert breaker.allowance(0.0, 32) == 32
    breaker.failed(0.0)
    assert breaker.allowance(0.0, 32) == 0
    assert breaker.allowance(BREAK_FIRST_S, 32) == 1
    breaker.failed(BREAK_FIRST_S)
    assert breaker.allowance(BREAK_FIRST_S * 2, 32) == 0, "twice as long"
    assert breaker.allowance(BREAK_FIRST_S * 3, 32) == 1
    for _ in range(40):
        breaker.failed(100.0)
    assert breaker.allowance(100.0 + BREAK_MAX_S, 32) == 1, "a minute at the most"
    assert breaker.succeeded()
    assert breaker.allowance(0.0, 32) == 32
    assert not breaker.succeeded(), "it was closed"
