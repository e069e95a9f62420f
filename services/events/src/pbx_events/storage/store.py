"""The store of this service, whole: the ledger of events, the queues, the subscriptions, the archive."""

from __future__ import annotations

from pbx_events.storage.archive import Archive
from pbx_events.storage.hooks import Hooks
from pbx_events.storage.ledger import Ledger
from pbx_events.storage.queue import Queue


class Store(Ledger, Queue, Hooks, Archive):
    """SQLite (WAL) or PostgreSQL, by its URL. Raises Unavailable where it cannot be reached."""
