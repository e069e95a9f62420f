"""Drives a client that openapi-python-client made: arguments are the API and the id of an ended call."""

from __future__ import annotations

import sys

from pbx_sdk.api.accounts import create_account, get_account, update_account
from pbx_sdk.api.cdrs import get_cdr, list_cdrs
from pbx_sdk.api.events import list_events
from pbx_sdk.api.webhooks import create_webhook, delete_webhook, get_webhook, update_webhook
from pbx_sdk.client import Client
from pbx_sdk.models import (
    Account,
    CallEndedEvent,
    Cdr,
    CdrPage,
    ChangedAccount,
    ChangedWebhook,
    EventPage,
    ListedSubscription,
    NewAccount,
    NewSubscription,
    NewWebhook,
    Problem,
)


def main() -> None:
    """Asserts what a program would rely on."""
    client, call_id = Client(base_url=sys.argv[1]), sys.argv[2]
    page = list_cdrs.sync(client=client, caller=["2*"], limit=1)
    assert isinstance(page, CdrPage)
    cdr = get_cdr.sync(call_id, client=client)
    assert isinstance(cdr, Cdr)
    assert page.items[0].call_id == cdr.call_id == call_id
    events = list_events.sync(client=client, call_id=[call_id], type_=["call.ended"])
    assert isinstance(events, EventPage)
    ended = events.items[0]
    assert isinstance(ended, CallEndedEvent), ended
    assert (ended.data.talk_ms, ended.data.caller) == (cdr.talk_ms, cdr.caller)
    made = create_webhook.sync(
        client=client, body=NewWebhook(url="https://crm.example/x", types=["call.*"], user="2000")
    )
    assert isinstance(made, NewSubscription)
    changed = update_webhook.sync(made.id, client=client, body=ChangedWebhook(enabled=False))
    assert isinstance(changed, ListedSubscription), changed
    seen = get_webhook.sync(made.id, client=client)
    assert isinstance(seen, ListedSubscription)
    assert (seen.url, seen.types, seen.user, seen.enabled) == ("https://crm.example/x", ["call.*"], "2000", False)
    assert delete_webhook.sync(made.id, client=client) is None
    create_account.sync(client=client, body=NewAccount(user="sdk", password="secret", display_name="Ada"))
    update_account.sync("sdk", client=client, body=ChangedAccount(calls_max=3))
    account = get_account.sync("sdk", client=client)
    assert isinstance(account, Account)
    assert (account.display_name, account.calls_max) == ("Ada", 3)
    gone = get_cdr.sync("none", client=client)
    assert isinstance(gone, Problem)
    assert gone.code == "not_found"
    print("driven")


main()
