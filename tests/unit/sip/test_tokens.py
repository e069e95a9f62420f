"""Tokens: instance id inside, entropy asked for in gulps, no token twice."""

from __future__ import annotations

import os

import pytest

from pbx_sip.message.message import BRANCH_COOKIE
from pbx_sip.tokens import CountingTokens, RandomTokens, TokenSource, instance_of


@pytest.mark.parametrize("source", [RandomTokens("pod7", os.urandom), CountingTokens("pod7")])
def test_all_tokens_name_their_instance(source: TokenSource) -> None:
    assert source.branch().startswith(f"{BRANCH_COOKIE}pod7.")
    for token in (source.branch(), source.tag(), source.call_id()):
        assert instance_of(token) == "pod7"


@pytest.mark.parametrize("token", ["", "1928301774", "z9hG4bKabc", "a84b4c76e66710@pc33"])
def test_foreign_tokens_name_nobody(token: str) -> None:
    assert instance_of(token) == ""


def test_no_token_comes_twice_and_entropy_is_buffered() -> None:
    asked: list[int] = []

    def entropy(size: int) -> bytes:
        asked.append(size)
        return os.urandom(size)

    source = RandomTokens("a", entropy)
    tokens = [source.tag() for _ in range(1000)]
    assert len(set(tokens)) == 1000
    assert len(asked) == 8
    assert all(len(token) == len("a.") + 16 for token in tokens)
    assert len(source.call_id()) == len("a.") + 32
