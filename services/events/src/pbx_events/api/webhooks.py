"""The routes of webhooks: subscriptions, their attempts, replays, tests, and the rotation of their secrets."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from ulid import ULID

from pbx_events.api.document import answers
from pbx_events.api.models import (
    AttemptPage,
    DeadLetterPage,
    ListedSubscription,
    NewSubscription,
    Replayed,
    RotatedSecret,
    SubscriptionPage,
    Tested,
)
from pbx_events.api.values import NO_NUL, Id, Limit, Number, Page, Ports, unix_ms
from pbx_events.cdr.builder import iso
from pbx_events.storage.store import Store
from pbx_events.storage.subscription import Replay, Webhook
from pbx_events.webhook.signing import new_secret
from pbx_events.webhook.target import check_url
from pbx_runtime.errors import InvalidArgument

ROTATION_MS: Final = 24 * 3600 * 1000
"""How long the secret before stays valid: a day for a receiver's people to deploy the new one."""
EVENT_IDS_MAX: Final = 1000
"""Events that one replay may name."""


Name = Annotated[str, Field(max_length=128, pattern=NO_NUL)]


class NewWebhook(BaseModel):
    """A subscription to make."""

    url: str = Field(max_length=2048, pattern=NO_NUL, examples=["https://crm.example/hooks/pbx"])
    types: list[Name] = Field(
        default=[], max_length=64, description='Event types, "call.*" for a prefix; empty for all'
    )
    user: str = Field(
        default="", max_length=128, pattern=NO_NUL, description="Only events of this user; empty for everybody"
    )
    direction: Literal["", "from", "to"] = Field(default="", description="Only calls from, or to, that user")


class ChangedWebhook(BaseModel):
    """What to change of a subscription: what is not named stays."""

    url: str = Field(default="", max_length=2048, pattern=NO_NUL, examples=["https://crm.example/hooks/pbx"])
    types: list[Name] = Field(default=[], max_length=64)
    user: str = Field(default="", max_length=128, pattern=NO_NUL)
    direction: Literal["", "from", "to"] = ""
    enabled: bool = Field(default=True, description="false: nothing is sent, and events meanwhile are not queued")


class NewReplay(BaseModel):
    """What to send again: named events, or those of a time that the subscription wants."""

    event_ids: list[Name] = Field(default=[], max_length=EVENT_IDS_MAX)
    since: datetime | None = None
    until: datetime | None = None


def webhook_routes(ports: Ports) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/v1/webhooks", tags=["Webhooks"])
    _subscriptions(router, ports)
    _deliveries(router, ports)
    return router


def _subscriptions(router: APIRouter, ports: Ports) -> None:
    store = ports.store

    @router.post("", status_code=201, response_model=None, responses=answers(NewSubscription, 201))
    async def add_webhook(new: NewWebhook) -> dict[str, Any]:
        """Makes a subscription. The secret is shown this once."""
        check_url(new.url, allow_private=ports.allow_private)
        hook = Webhook(
            str(ULID()),
            new.url,
            new_secret(),
            tuple(new.types),
            True,
            int(time.time() * 1000),
            user=new.user,
            direction=new.direction,
        )
        await store.add_webhook(hook)
        await ports.hooks_changed()
        return _shown(hook) | {"secret": hook.secret}

    @router.get("", response_model=None, responses=answers(SubscriptionPage))
    async def list_webhooks() -> Page:
        """All subscriptions, with what is on its way."""
        return Page(items=await _listed(store, await store.list_webhooks()), next=None)

    @router.get("/{hook_id}", response_model=None, responses=answers(ListedSubscription))
    async def get_webhook(hook_id: Id) -> dict[str, Any]:
        """One subscription, with what is on its way."""
        return (await _listed(store, [await store.webhook(hook_id)]))[0]

    @router.patch("/{hook_id}", response_model=None, responses=answers(ListedSubscription))
    async def change_webhook(hook_id: Id, changed: ChangedWebhook) -> dict[str, Any]:
        """Changes what is named. `enabled` takes up an endpoint that was disabled; what waits goes out at once."""
        change = changed.model_dump(exclude_unset=True)
        if not change:
            raise InvalidArgument("name what to change: url, types, user, direction or enabled")
        if "url" in change:
            check_url(changed.url, allow_private=ports.allow_private)
        await store.change_webhook(hook_id, change)
        await store.hasten(hook_id)
        await ports.hooks_changed()
        ports.wake()
        return await get_webhook(hook_id)

    @router.delete("/{hook_id}", status_code=204)
    async def remove_webhook(hook_id: Id) -> Response:
        """Ends a subscription and what is on its way."""
        await store.remove_webhook(hook_id)
        await ports.hooks_changed()
        return Response(status_code=204)

    @router.post("/{hook_id}/rotate-secret", response_model=None, responses=answers(RotatedSecret))
    async def rotate_secret(hook_id: Id) -> dict[str, Any]:
        """Makes a new secret, shown this once. For a day deliveries are signed with the one before too."""
        secret, until_ms = new_secret(), int(time.time() * 1000) + ROTATION_MS
        await store.rotate(hook_id, secret, until_ms)
        await ports.hooks_changed()
        return {"id": hook_id, "secret": secret, "old_secret_until": iso(until_ms)}


def _deliveries(router: APIRouter, ports: Ports) -> None:
    store = ports.store

    @router.get("/{hook_id}/attempts", response_model=None, responses=answers(AttemptPage))
    async def list_attempts(hook_id: Id, limit: Limit = 50, cursor: Number = None) -> Page:
        """Attempts to deliver, newest first: status 0 where there was no answer."""
        await store.webhook(hook_id)
        rows = await store.list_attempts(hook_id, cursor, limit + 1)
        items = [
            {"id": row["id"], "event_id": row["event_id"], "at": iso(row["at_ms"]), "status": row["status"]}
            | {"duration_ms": row["duration_ms"], "excerpt": row["excerpt"]}
            for row in rows[:limit]
        ]
        return Page(items=items, next=str(items[-1]["id"]) if len(rows) > limit else None)

    @router.get("/{hook_id}/dead-letters", response_model=None, responses=answers(DeadLetterPage))
    async def list_dead(hook_id: Id, limit: Limit = 50, cursor: Number = None) -> Page:
        """Deliveries that were given up, newest first; a replay sends them again."""
        await store.webhook(hook_id)
        rows = await store.list_dead(hook_id, cursor, limit + 1)
        items = [
            {"id": row["id"], "event_id": row["event_id"], "call_id": row["call_id"] or None}
            | {"attempts": row["attempts"], "last_error": row["last_error"]}
            for row in rows[:limit]
        ]
        return Page(items=items, next=str(items[-1]["id"]) if len(rows) > limit else None)

    @router.post("/{hook_id}/replay", status_code=202, response_model=None, responses=answers(Replayed, 202))
    async def replay(hook_id: Id, wanted: NewReplay) -> dict[str, Any]:
        """Sends events again, delivered or dead or from before the subscription; at most 10000 in one go."""
        if not (wanted.event_ids or wanted.since or wanted.until):
            raise InvalidArgument("name event_ids, since or until")
        hook = await store.webhook(hook_id)
        selection = Replay(tuple(wanted.event_ids), unix_ms(wanted.since), unix_ms(wanted.until))
        count = await store.replay(hook, selection)
        ports.wake()
        return {"id": hook_id, "events": count}

    @router.post("/{hook_id}/test", response_model=None, responses=answers(Tested))
    async def test(hook_id: Id) -> dict[str, Any]:
        """Sends a `webhook.test` event now, once, and tells what came of it."""
        hook = await store.webhook(hook_id)
        event = _test_event(hook_id)
        started = time.monotonic()
        answer = await ports.post(hook, event["id"], json.dumps(event).encode())
        duration_ms = int((time.monotonic() - started) * 1000)
        return {"event_id": event["id"], "status": answer.status, "duration_ms": duration_ms, "excerpt": answer.excerpt}


def _test_event(hook_id: str) -> dict[str, Any]:
    """A CloudEvent that nothing in the PBX caused; it is stored nowhere."""
    return {
        "specversion": "1.0",
        "id": str(ULID()),
        "source": "sip-pbx/events",
        "type": "io.pbx.webhook.test.v1",
        "subject": hook_id,
        "time": iso(int(time.time() * 1000)),
        "datacontenttype": "application/json",
        "data": {"webhook_id": hook_id},
    }


async def _listed(store: Store, hooks: Sequence[Webhook]) -> list[dict[str, Any]]:
    backlog, errors = await store.backlog(), await store.last_errors()
    items = []
    for hook in hooks:
        counts = {state: backlog.get((hook.id, state), 0) for state in ("pending", "delivered", "dead")}
        items.append(_shown(hook) | {"deliveries": counts, "last_error": errors.get(hook.id)})
    return items


def _shown(hook: Webhook) -> dict[str, Any]:
    return {
        "id": hook.id,
        "url": hook.url,
        "types": list(hook.types),
        "user": hook.user or None,
        "direction": hook.direction or None,
        "enabled": hook.enabled,
    }
