"""The routes of webhooks: subscriptions, their attempts, replays, tests, and the rotation of their secrets."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Response
from pydantic import Field, StrictBool
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
from pbx_events.api.problem import wrong
from pbx_events.api.strict import Body, StrictRoute, left_out
from pbx_events.api.values import NO_NUL, EventType, Id, Limit, Moment, Number, Page, Ports, period
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


Name = Annotated[str, Field(min_length=1, max_length=128, pattern=NO_NUL)]
Url = Annotated[str, Field(max_length=2048, pattern=NO_NUL, examples=["https://crm.example/hooks/pbx"])]
Types = Annotated[list[EventType], Field(max_length=64, description='Event types, "call.*" for a kind; empty for all')]
User = Annotated[Name | None, Field(description="Only events of this user; null for everybody")]
Direction = Annotated[
    Literal["from", "to"] | None, Field(description="Only calls from, or to, that user; null for both")
]


class NewWebhook(Body):
    """A subscription to make."""

    url: Url
    types: Types = Field(default=[])
    user: User = None
    direction: Direction = None


class ChangedWebhook(Body):
    """What to change of a subscription: what is not named stays."""

    url: Url = left_out()
    types: Types = left_out()
    user: User = left_out()
    direction: Direction = left_out()
    enabled: StrictBool = left_out(description="false: nothing is sent, and events meanwhile are not queued")


class NewReplay(Body):
    """What to send again: named events, or those of a time that the subscription wants."""

    event_ids: list[Name] = Field(default=[], max_length=EVENT_IDS_MAX)
    since: Moment = None
    until: Moment = None


def webhook_routes(ports: Ports) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=StrictRoute)
    _subscriptions(router, ports)
    _deliveries(router, ports)
    return router


def _subscriptions(router: APIRouter, ports: Ports) -> None:
    store = ports.store

    @router.post("", status_code=201, response_model=None, responses=answers(NewSubscription, 201))
    async def create_webhook(new: NewWebhook) -> dict[str, Any]:
        """Makes a subscription. The secret is shown this once."""
        check_url(new.url, allow_private=ports.allow_private)
        _check_direction(new.user, new.direction)
        hook = Webhook(
            str(ULID()),
            new.url,
            new_secret(),
            tuple(new.types),
            True,
            int(time.time() * 1000),
            user=new.user or "",
            direction=new.direction or "",
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
    async def update_webhook(hook_id: Id, changed: ChangedWebhook) -> dict[str, Any]:
        """Changes what is named. `enabled` takes up an endpoint that was disabled; what waits goes out at once."""
        change = changed.model_dump(exclude_unset=True)
        if not change:
            raise InvalidArgument("name what to change: url, types, user, direction or enabled")
        if "url" in change:
            check_url(changed.url, allow_private=ports.allow_private)
        if "user" in change or "direction" in change:
            known = await store.webhook(hook_id)
            _check_direction(change.get("user", known.user), change.get("direction", known.direction))
        text = {name: change[name] or "" for name in ("user", "direction") if name in change}
        await store.change_webhook(hook_id, change | text)
        await store.hasten(hook_id)
        await ports.hooks_changed()
        ports.wake()
        return await get_webhook(hook_id)

    @router.delete("/{hook_id}", status_code=204)
    async def delete_webhook(hook_id: Id) -> Response:
        """Ends a subscription and what is on its way."""
        await store.remove_webhook(hook_id)
        await ports.hooks_changed()
        return Response(status_code=204)

    @router.post("/{hook_id}/rotate-secret", response_model=None, responses=answers(RotatedSecret))
    async def rotate_webhook_secret(hook_id: Id) -> dict[str, Any]:
        """Makes a new secret, shown this once. For a day deliveries are signed with the one before too."""
        secret, until_ms = new_secret(), int(time.time() * 1000) + ROTATION_MS
        await store.rotate(hook_id, secret, until_ms)
        await ports.hooks_changed()
        return {"id": hook_id, "secret": secret, "old_secret_until": iso(until_ms)}


def _deliveries(router: APIRouter, ports: Ports) -> None:
    store = ports.store

    @router.get("/{hook_id}/attempts", response_model=None, responses=answers(AttemptPage))
    async def list_webhook_attempts(hook_id: Id, limit: Limit = 50, cursor: Number = None) -> Page:
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
    async def list_webhook_dead_letters(hook_id: Id, limit: Limit = 50, cursor: Number = None) -> Page:
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
    async def replay_webhook(hook_id: Id, wanted: NewReplay) -> dict[str, Any]:
        """Sends events again, delivered or dead or from before the subscription; at most 10000 in one go."""
        if not (wanted.event_ids or wanted.since or wanted.until):
            raise InvalidArgument("name event_ids, since or until")
        since_ms, until_ms = period(wanted.since, wanted.until, "body")
        hook = await store.webhook(hook_id)
        selection = Replay(tuple(wanted.event_ids), since_ms, until_ms)
        count = await store.replay(hook, selection)
        ports.wake()
        return {"id": hook_id, "events": count}

    @router.post("/{hook_id}/test", response_model=None, responses=answers(Tested))
    async def test_webhook(hook_id: Id) -> dict[str, Any]:
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


def _check_direction(user: str | None, direction: str | None) -> None:
    if direction and not user:
        raise wrong("invalid_field", ("body", "direction"), "goes with a user: whose calls from, or to, it are meant")


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
