"""Two signaling processes at one address: a phone is reached, and heard, through the one to which it is connected."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from support.call import callee_holds
from support.pair import Pair
from support.phone import Phone
from support.ports import free_port
from support.product import Product, Settings, accounts
from support.replicas import know_each_other, phone_at
from support.two_phones import hold_and_dial, talk
from support.waiting import until
from support.wire import audio_sdp

pytestmark = pytest.mark.interop
REPLICAS = ("signaling-1", "signaling-2")


@pytest.fixture(scope="module")
def replicas() -> Iterator[Product]:
    tls = f"127.0.0.1:{free_port()}"
    settings = Settings(accounts(16), replicas=2, arguments=("--tls-self-signed", "--sip-tls", tls))
    with Product(settings) as running:
        yield running


def tcp_phone(product: Product, user: str, index: int) -> Phone:
    return phone_at(product, user, index, "tcp")


def udp_phone(product: Product, user: str, index: int) -> Phone:
    return phone_at(product, user, index)


def test_a_call_to_a_phone_on_the_other_replica(replicas: Product) -> None:
    know_each_other(replicas)
    with udp_phone(replicas, "2000", 0) as caller, tcp_phone(replicas, "2001", 1) as callee:
        assert callee.register().status == 200
        dialog = caller.dial("2001")
        invite = callee.expect("INVITE")
        assert invite.get("via").startswith("SIP/2.0/TCP ")
        theirs = callee.answer(invite)
        callee.reply(invite, 180, "Ringing", dialog=theirs)
        assert caller.expect(180)
        callee.reply(invite, 200, "OK", dialog=theirs, body=audio_sdp(41_000))
        caller.ack(dialog, caller.expect(200))
        callee.expect("ACK")
        callee_holds(caller, dialog, callee, theirs)
        caller.request(dialog, "BYE")
        callee.reply(callee.expect("BYE"), 200, "OK")
        assert caller.expect(200)
    assert replicas.cdr(caller="2000")["outcome"] == "answered"
    replicas.assert_all_released()
    carried = [replicas.metrics(replica).sum("pbx_signaling_peer_carried_total") for replica in REPLICAS]
    assert min(carried) > 0, "each carries for the other"
    assert sum(replicas.metrics(replica).sum("pbx_signaling_peer_dropped_total") for replica in REPLICAS) == 0


def test_a_cancelled_call_and_a_connection_that_breaks_while_it_rings(replicas: Product) -> None:
    know_each_other(replicas)
    with udp_phone(replicas, "2002", 0) as caller, tcp_phone(replicas, "2003", 1) as callee:
        assert callee.register().status == 200
        dialog = caller.dial("2003")
        invite = callee.expect("INVITE")
        theirs = callee.answer(invite)
        callee.reply(invite, 180, "Ringing", dialog=theirs)
        assert caller.expect(180)
        caller.cancel(dialog)
        cancel = callee.expect("CANCEL")
        callee.reply(cancel, 200, "OK")
        callee.reply(invite, 487, "Request Terminated", dialog=theirs)
        callee.expect("ACK")
        assert caller.expect(200, method="CANCEL")
        caller.ack(dialog, caller.expect(487))
        dialog = caller.dial("2003")
        invite = callee.expect("INVITE")
        callee.reply(invite, 180, "Ringing", dialog=callee.answer(invite))
        assert caller.expect(180)
        callee.close()
        caller.ack(dialog, caller.expect(480))
    replicas.assert_all_released()


def test_a_phone_that_closed_its_connection_to_the_other_replica_is_called_at_its_contact(replicas: Product) -> None:
    know_each_other(replicas)
    with udp_phone(replicas, "2006", 0) as caller, tcp_phone(replicas, "2007", 1) as callee:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.settimeout(5)
        port = listening.getsockname()[1]
        assert callee.register(contacts=(f"<sip:2007@127.0.0.1:{port};transport=tcp>",)).status == 200
        callee.socket.close()
        dialog = caller.dial("2007")
        callee.socket, _ = listening.accept()
        callee.host, callee.port = "127.0.0.1", port
        invite = callee.expect("INVITE")
        theirs = callee.answer(invite)
        callee.reply(invite, 200, "OK", dialog=theirs, body=audio_sdp(41_000))
        caller.ack(dialog, caller.expect(200))
        callee.expect("ACK")
        callee.request(theirs, "BYE")
        caller.reply(caller.expect("BYE"), 200, "OK")
        assert callee.expect(200)
        listening.close()
        callee.socket.close()
        dialog = caller.dial("2007")
        caller.ack(dialog, caller.expect(480))
        until(lambda: not Pair(replicas, "2006", "2007").contacts("2007"), timeout_s=3, what="the binding gone")
    replicas.assert_all_released()


def port_at(product: Product, user: str, index: int) -> int:
    """A free port from which messages that name no process reach the one of that index."""
    with phone_at(product, user, index) as phone:
        return phone.port


@pytest.mark.parametrize("process", [0, 1])
def test_two_phones_of_different_processes_hear_each_other(replicas: Product, process: int) -> None:
    know_each_other(replicas)
    pair = Pair(replicas, str(2008 + 2 * process), str(2009 + 2 * process))
    talk(pair, (port_at(replicas, pair.caller, process), port_at(replicas, pair.callee, 1 - process)))


@pytest.mark.parametrize("transports", [("tcp", "tls"), ("tls", "tcp")], ids="-".join)
def test_two_phones_over_connections_to_whichever_process(replicas: Product, transports: tuple[str, str]) -> None:
    know_each_other(replicas)
    users = ("2012", "2013") if transports[0] == "tcp" else ("2014", "2015")
    hold_and_dial(Pair(replicas, *users), transports)
