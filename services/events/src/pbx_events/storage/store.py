"""The store of this service, whole: the ledger of events, the queues, the subscriptions, the archive, what goes to
sinks, what is old."""

from __future__ import annotations

from pbx_events.storage.answered import Answered
from pbx_events.storage.archive import Archive
from pbx_events.storage.exports import Exports
from pbx_events.storage.hooks import Hooks
from pbx_events.storage.leases import Leases
from pbx_events.storage.ledger import Ledger
from pbx_events.storage.queue import Queue
from pbx_events.storage.retention import Retention
from pbx_events.storage.tokens import Tokens


class Store(Ledger, Queue, Hooks, Archive, Exports, Leases, Retention, Tokens, Answered):
    """SQLite (WAL) or PostgreSQL, by its URL. Raises Unavailable where it cannot be reached."""
