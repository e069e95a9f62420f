"""Dialogs as values: RFC 3261 section 12, both sides, loose and strict routes."""

from __future__ import annotations

import dataclasses

import pytest

from pbx_sip.dialog.dialog import UNKNOWN, Dialog, Verdict
from pbx_sip.message.message import Request
from support.sip_messages import request, response

ROUTES = (("Record-Route", "<sip:p1.example.com;lr>, <sip:p2.example.com;lr>"), ("Record-Route", "<sip:p3;lr>"))


def invite(**changes: object) -> Request:
    """An INVITE through three proxies."""
    return request(extra=ROUTES, **changes)  # type: ignore[arg-type]


def test_as_uas() -> None:
    dialog = Dialog.as_uas(invite(cseq=7), "ours")
    assert dialog.key == ("call-1", "ours", "alice-1")
    assert dialog.local_address == "<sip:bob@example.com>;tag=ours"
    assert dialog.remote_address == "<sip:alice@example.com>;tag=alice-1"
    assert dialog.remote_target == "sip:alice@192.0.2.1:5060"
    assert dialog.route_set == ("<sip:p1.example.com;lr>", "<sip:p2.example.com;lr>", "<sip:p3;lr>")
    assert (dialog.local_cseq, dialog.remote_cseq, dialog.confirmed, dialog.secure) == (0, 7, False, False)


def test_as_uac_turns_the_route_set_round() -> None:
    ours = invite(cseq=3)
    ringing = response(ours, 180, Contact="<sip:bob@192.0.2.9>")
    ringing.headers.extend(ROUTES)
    dialog = Dialog.as_uac(ours, ringing, secure=True)
    assert dialog.key == ("call-1", "alice-1", "bob-1")
    assert dialog.route_set == ("<sip:p3;lr>", "<sip:p2.example.com;lr>", "<sip:p1.example.com;lr>")
    assert (dialog.local_cseq, dialog.remote_cseq, dialog.secure) == (3, UNKNOWN, True)
    ok = response(ours, 200, Contact="<sip:bob@192.0.2.10>")
    dialog.confirm(ok)
    assert (dialog.route_set, dialog.remote_target, dialog.confirmed) == ((), "sip:bob@192.0.2.10", True)


def test_a_peer_without_contact_or_tag_is_reached_by_its_address() -> None:
    bare = invite(from_tag="")
    bare.headers.remove("Contact")
    dialog = Dialog.as_uas(bare, "ours")
    assert (dialog.remote_tag, dialog.remote_target) == ("", "sip:alice@example.com")
    bare.headers.set("From", "<sip:broken")
    assert Dialog.as_uas(bare, "ours").remote_target == ""


def test_requests_of_our_side_count_up() -> None:
    dialog = Dialog.as_uas(invite(), "ours")
    first, second = dialog.request("UPDATE", "via-1"), dialog.request("BYE", "via-2")
    assert (first.first("CSeq"), second.first("CSeq")) == ("1 UPDATE", "2 BYE")
    assert second.uri == "sip:alice@192.0.2.1:5060"
    assert second.headers.all("Route") == list(dialog.route_set)
    assert (second.from_tag, second.to_tag, second.call_id) == ("ours", "alice-1", "call-1")
    assert second.first("Via") == "via-2"
    assert dialog.ack(1, "via-3").first("CSeq") == "1 ACK"
    assert dialog.local_cseq == 2


@pytest.mark.parametrize(
    ("routes", "uri", "route", "hop"),
    [
        ((), "sip:t", [], "sip:t"),
        (("<sip:p1;lr>", "<sip:p2>"), "sip:t", ["<sip:p1;lr>", "<sip:p2>"], "sip:p1;lr"),
        (("<sip:p1;lr=on>",), "sip:t", ["<sip:p1;lr=on>"], "sip:p1;lr=on"),
        (("<sip:p1;LR>",), "sip:t", ["<sip:p1;LR>"], "sip:p1;LR"),
        (("<sip:p1>", "<sip:p2;lr>"), "sip:p1", ["<sip:p2;lr>", "<sip:t>"], "sip:p1"),
        (("<sip:p1;lrx>",), "sip:p1;lrx", ["<sip:t>"], "sip:p1;lrx"),
        (("<sip:p1>;lr",), "sip:p1", ["<sip:t>"], "sip:p1"),
        (("broken <",), "sip:t", ["<sip:t>"], "sip:t"),
    ],
)
def test_loose_and_strict_routes(routes: tuple[str, ...], uri: str, route: list[str], hop: str) -> None:
    dialog = Dialog("c", "l", "r", "<sip:l>;tag=l", "<sip:r>;tag=r", "sip:t", routes, 0)
    made = dialog.request("INFO", "v")
    assert (made.uri, made.headers.all("Route"), dialog.next_hop()) == (uri, route, hop)


def test_cseq_order() -> None:
    dialog = Dialog.as_uas(invite(cseq=5), "ours")
    assert dialog.receive(request("INFO", cseq=6)) is Verdict.IN_ORDER
    assert dialog.receive(request("INFO", cseq=9)) is Verdict.IN_ORDER
    for late in (9, 8, 5):
        assert dialog.receive(request("INFO", cseq=late)) is Verdict.OUT_OF_ORDER
    assert dialog.remote_cseq == 9
    ours = Dialog.as_uac(invite(cseq=100), response(invite(), 200))
    assert ours.receive(request("BYE", cseq=0)) is Verdict.IN_ORDER


def test_target_moves_by_refreshing_requests_and_responses_alone() -> None:
    dialog = Dialog.as_uas(invite(), "ours")

    def moved(method: str, contact: str) -> str:
        message = request(method, cseq=9)
        message.headers.set("Contact", contact)
        dialog.refresh_target(message)
        return dialog.remote_target

    assert moved("INFO", "<sip:new>") == "sip:alice@192.0.2.1:5060"
    assert moved("UPDATE", "<sip:new>") == "sip:new"
    assert moved("INVITE", "<broken") == "sip:new"
    dialog.refresh_target(response(request(), 200, Contact="<sip:newer>"))
    assert dialog.remote_target == "sip:newer"
    dialog.refresh_target(response(request(), 200))
    assert dialog.remote_target == "sip:newer"


def test_a_dialog_is_a_value() -> None:
    dialog = Dialog.as_uas(invite(), "ours")
    copy = Dialog(**dataclasses.asdict(dialog))
    assert copy == dialog
    assert repr(dialog) == "<Dialog call-1 ours alice-1 early 0/1>"
    copy.confirmed = True
    assert "confirmed" in repr(copy)


@pytest.mark.parametrize(
    ("contact", "target"),
    [
        ("<sip:bob@192.0.2.9?Route=x>", "sip:bob@192.0.2.9"),
        ("<sip:bob@192.0.2.9;method=BYE>", "sip:bob@192.0.2.9"),
        ('sip:bob@192.0.2.9;+sip.instance="<urn:x>"', "sip:bob@192.0.2.9"),
        ("", "sip:bob@example.com;line=7"),
        ("<", "sip:bob@example.com;line=7"),
    ],
)
def test_the_target_is_fit_for_a_request_uri_and_is_what_was_dialled_without_a_contact(
    contact: str, target: str
) -> None:
    ours = request(uri="sip:bob@example.com;line=7")
    dialog = Dialog.as_uac(ours, response(ours, 200, **({"Contact": contact} if contact else {})))
    assert dialog.remote_target == target
    assert dialog.ack(1, "SIP/2.0/UDP h;branch=z9hG4bKx").uri == target
