"""The subscriptions in SQL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from pbx_events.storage.database import Database
from pbx_events.storage.subscription import Webhook
from pbx_events.storage.tables import attempts, deliveries, webhooks
from pbx_runtime.errors import FailedPrecondition, NotFound

HOOKS_MAX: Final = 1000
"""Subscriptions of a PBX: each has a task and a queue of its own, and each event is held against all."""


class Hooks(Database):
    """Webhooks."""

    async def list_webhooks(self) -> list[Webhook]:
        """All subscriptions, oldest first."""
        return await self.read(read_hooks)

    async def webhook(self, hook_id: str) -> Webhook:
        """One subscription. Raises NotFound."""
        for hook in await self.list_webhooks():
            if hook.id == hook_id:
                return hook
        raise NotFound(f"no webhook {hook_id}")

    async def add_webhook(self, hook: Webhook) -> None:
        """Makes a subscription. Raises FailedPrecondition where there are `HOOKS_MAX` already."""
        row = {
            "id": hook.id,
            "url": hook.url,
            "secret": hook.secret,
            "old_secret": hook.old_secret,
            "old_secret_until_ms": hook.old_secret_until_ms,
            "types": json.dumps(hook.types),
            "enabled": hook.enabled,
            "created_at_ms": hook.created_at_ms,
            "user_filter": hook.user,
            "direction": hook.direction,
        }

        def work(connection: sa.Connection) -> None:
            if connection.execute(sa.select(sa.func.count()).select_from(webhooks)).scalar_one() >= HOOKS_MAX:
                raise FailedPrecondition(f"there are {HOOKS_MAX} webhooks already; remove one that is not needed")
            connection.execute(webhooks.insert().values(row))

        await self.write(work)

    async def remove_webhook(self, hook_id: str) -> None:
        """Ends a subscription and what is on its way. Raises NotFound."""

        def work(connection: sa.Connection) -> int:
            gone = connection.execute(webhooks.delete().where(webhooks.c.id == hook_id))
            connection.execute(deliveries.delete().where(deliveries.c.webhook_id == hook_id))
            connection.execute(attempts.delete().where(attempts.c.webhook_id == hook_id))
            return gone.rowcount

        if not await self.write(work):
            raise NotFound(f"no webhook {hook_id}")

    async def enable_webhook(self, hook_id: str, *, enabled: bool) -> None:
        """Disables an endpoint (it said that it is gone: 410), or takes it up again. Raises NotFound."""
        await self.change_webhook(hook_id, {"enabled": enabled})

    async def change_webhook(self, hook_id: str, change: Mapping[str, Any]) -> None:
        """Sets fields of a `Webhook` by name: url, types, user, direction, enabled. Raises NotFound."""
        columns = {_COLUMN_OF.get(name, name): value for name, value in change.items()}
        if "types" in columns:
            columns["types"] = json.dumps(columns["types"])
        query = webhooks.update().where(webhooks.c.id == hook_id).values(**columns)
        if not await self.write(lambda connection: connection.execute(query).rowcount):
            raise NotFound(f"no webhook {hook_id}")

    async def rotate(self, hook_id: str, secret: str, until_ms: int) -> None:
        """A new secret; the one before stays valid until then. Raises NotFound."""
        change = {"old_secret": webhooks.c.secret, "secret": secret, "old_secret_until_ms": until_ms}
        query = webhooks.update().where(webhooks.c.id == hook_id).values(**change)
        if not await self.write(lambda connection: connection.execute(query).rowcount):
            raise NotFound(f"no webhook {hook_id}")


_COLUMN_OF: Final = {"user": "user_filter"}
"""Where a column is not named as the field: `user` is a word of SQL."""


def read_hooks(connection: sa.Connection) -> list[Webhook]:
    """All subscriptions, oldest first."""
    rows = connection.execute(sa.select(webhooks).order_by(webhooks.c.created_at_ms, webhooks.c.id))
    return [
        Webhook(
            row.id,
            row.url,
            row.secret,
            tuple(json.loads(row.types)),
            row.enabled,
            row.created_at_ms,
            row.old_secret,
            row.old_secret_until_ms,
            row.user_filter,
            row.direction,
        )
        for row in rows
    ]
