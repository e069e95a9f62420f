"""When a delivery is tried again, and how it is signed."""

from __future__ import annotations

import pytest
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from pbx_events.webhook import signing
from pbx_events.webhook.policy import STEPS_S, Next, Step, decide


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
    headers = signing.headers(secret, "msg_1", int(time.time()), body)
    assert Verifier(secret).verify(body.decode(), headers) == {"a": 1}
    with pytest.raises(WebhookVerificationError):
        Verifier(signing.new_secret()).verify(body.decode(), headers)
