"""Idempotency-Key: a POST that is sent again, because its answer was lost, is done once.

The answer is kept encrypted with the client's key, of which a digest alone is stored: an answer may hold a secret that
is shown once (of a webhook, of a token), and who reads the database shall not see it.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Awaitable, Callable
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import Request, Response

from pbx_events.api.problem import problem, request_id_of, wrong
from pbx_events.storage.answered import Answered

HEADER: Final = "idempotency-key"
_KEY: Final = re.compile(r"[\x21-\x7e]{8,128}\Z")
"""Long enough that two clients do not choose the same by chance."""
NONCE_OCTETS: Final = 12
ANSWER_MAX: Final = 65_536
"""Octets of an answer that is kept: those of POSTs are an object each."""

Handler = Callable[[Request], Awaitable[Response]]


async def once(store: Answered, request: Request, handler: Handler) -> Response:
    """The handler's answer, or the one that it gave to the same request before."""
    given = request.headers.get(HEADER)
    if given is None:
        return await handler(request)
    if not _KEY.match(given):
        raise wrong("invalid_parameter", ("header", "Idempotency-Key"), "8 to 128 printable characters without spaces")
    who = str(request.scope.get("principal", ""))
    key = _digest(b"key", who, request.url.path, given)
    asked = _digest(b"request", request.method, request.url.query, (await request.body()).decode("latin-1"))
    before = await store.begin(key, asked, int(time.time() * 1000))
    if before is None:
        return await _first(store, request, handler, key, given)
    if before.request != asked:
        return problem("idempotency_key_reused", "this key came with another request", **request_id_of(request.scope))
    if before.status == 0:
        return problem("idempotency_in_progress", "the first is under way", **request_id_of(request.scope))
    body = AESGCM(_secret(given)).decrypt(before.answer[:NONCE_OCTETS], before.answer[NONCE_OCTETS:], key.encode())
    headers = {"content-type": "application/json", "idempotency-replayed": "true"}
    return Response(body, before.status, headers)


async def _first(store: Answered, request: Request, handler: Handler, key: str, given: str) -> Response:
    kept = False
    try:
        answer = await handler(request)
        body = bytes(answer.body)
        if 200 <= answer.status_code < 300 and len(body) <= ANSWER_MAX:
            nonce = os.urandom(NONCE_OCTETS)
            sealed = nonce + AESGCM(_secret(given)).encrypt(nonce, body, key.encode())
            await store.finish(key, answer.status_code, sealed)
            kept = True
        return answer
    finally:
        if not kept:
            await store.give_up(key)


def _secret(given: str) -> bytes:
    return hashlib.sha256(b"answer\0" + given.encode()).digest()


def _digest(what: bytes, *parts: str) -> str:
    digest = hashlib.sha256(what)
    for part in parts:
        digest.update(b"\0" + str(len(part)).encode() + b"\0" + part.encode())
    return digest.hexdigest()
