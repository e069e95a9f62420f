"""Events as they came (the serialised message), filters and the lease of a webhook, ids that do not run out.

Frozen. Events that were stored as JSON are turned into messages.
"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from pbx.events.v1 import events_pb2 as pb

revision = "0003"
down_revision = "0002"

ADDED = (
    sa.Column("user_filter", sa.String(128), nullable=False, server_default=""),
    sa.Column("direction", sa.String(8), nullable=False, server_default=""),
    sa.Column("lease_holder", sa.String(64), nullable=False, server_default=""),
    sa.Column("lease_until_ms", sa.BigInteger, nullable=False, server_default="0"),
)
PAGE = 1000


def upgrade() -> None:
    """Adds, converts, drops."""
    bind = op.get_bind()
    op.add_column("events", sa.Column("payload", sa.LargeBinary, nullable=False, server_default=""))
    events = sa.table("events", sa.column("id"), sa.column("document"), sa.column("payload", sa.LargeBinary))
    change = events.update().where(events.c.id == sa.bindparam("event")).values(payload=sa.bindparam("raw"))
    last = ""
    while rows := bind.execute(
        sa.select(events.c.id, events.c.document).where(events.c.id > last).order_by(events.c.id).limit(PAGE)
    ).all():
        bind.execute(change, [{"event": row.id, "raw": _message(json.loads(row.document))} for row in rows])
        last = rows[-1].id
    op.drop_column("events", "document")
    op.create_index("events_at", "events", ["at_ms", "id"])
    for column in ADDED:
        op.add_column("webhooks", column)
    if bind.dialect.name == "postgresql":
        for table in ("deliveries", "attempts"):
            op.alter_column(table, "id", type_=sa.BigInteger)
            op.execute(f"ALTER SEQUENCE {table}_id_seq AS bigint")


def _message(document: dict[str, Any]) -> bytes:
    kind = document["type"].replace(".", "_", 1)
    heads = ("id", "at_ms", "call_id", "sequence", "source", "elapsed_ms")
    event = pb.Event(**{name: document[name] for name in heads})
    payload = getattr(event, kind)
    payload.SetInParent()
    _fill(payload, document["data"])
    return event.SerializeToString()


def _fill(message: Any, data: dict[str, Any]) -> None:
    for field in message.DESCRIPTOR.fields:
        value = data.get(field.name)
        if value is None:
            continue
        if field.message_type is not None:
            for item in value if field.is_repeated else [value]:
                _fill(getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name), item)
        elif field.enum_type is not None:
            ending = f"_{value.upper()}"
            numbers = [word.number for word in field.enum_type.values if word.name.endswith(ending)]
            setattr(message, field.name, min(numbers, default=0))
        else:
            setattr(message, field.name, value)


def downgrade() -> None:
    """Not offered: JSON would have to be made of messages that a newer version wrote."""
    raise NotImplementedError("0003 cannot be undone: restore the backup")
