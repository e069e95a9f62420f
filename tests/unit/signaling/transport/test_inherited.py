"""Sockets and memory that another process opened: what settings say of them, what is told where they are none."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from pbx_runtime.address import Listen
from pbx_runtime.settings import SettingsError
from pbx_signaling.settings import SignalingSettings
from pbx_signaling.transport.inherited import Inherited, shared_memory
from pbx_sip.address import Transport

HERE = Listen("127.0.0.1", 5060)


def test_descriptors_are_found_by_transport_and_address() -> None:
    found = Inherited.parse(["udp/127.0.0.1:5060=7", "wss/[::1]:8089=12"])
    assert found.descriptors == {(Transport.UDP, HERE): 7, (Transport.WSS, Listen("::1", 8089)): 12}
    assert found.udp(Listen("127.0.0.1", 5061)) is None
    assert found.stream(Transport.TCP, HERE) is None


def test_a_socket_is_taken_over_and_not_handed_on() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        copy = os.dup(bound.fileno())
        os.set_inheritable(copy, True)
        taken = Inherited({(Transport.TCP, HERE): copy}).stream(Transport.TCP, HERE)
        assert taken is not None
        with taken:
            assert taken.getsockname() == bound.getsockname()
            assert not taken.getblocking()
            assert not taken.get_inheritable()
            assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


def test_a_descriptor_that_is_none_is_named() -> None:
    read, write = os.pipe()
    try:
        with pytest.raises(OSError, match=rf"PBX_SIP_SOCKETS: udp/127\.0\.0\.1:5060={read} is no socket"):
            Inherited({(Transport.UDP, HERE): read}).udp(HERE)
        with pytest.raises(OSError, match=f"PBX_SIP_BOARD: {read} is no memory"):
            shared_memory(read, 4096)
    finally:
        os.close(read)
        os.close(write)


def test_memory_is_seen_by_all_who_have_it() -> None:
    descriptor = os.memfd_create("test")
    one, other = (shared_memory(os.dup(descriptor), 8192) for _ in range(2))
    one[8191] = 7
    assert other[8191] == 7
    assert os.fstat(descriptor).st_size == 8192
    os.close(descriptor)


def settings(**given: Any) -> SignalingSettings:
    return SignalingSettings(sip_listen="127.0.0.1:5060", authenticate=False, instance_id="abcd00", **given)


def test_siblings_are_read_in_order() -> None:
    found = settings(sip_siblings="abcd00=/run/1.link, abcd01=/run/2.link").siblings
    assert list(found.items()) == [("abcd00", "/run/1.link"), ("abcd01", "/run/2.link")]
    assert settings().siblings == {}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"sip_sockets": "udp/127.0.0.1:5060"}, "PBX_SIP_SOCKETS: .* is not TRANSPORT/HOST:PORT=DESCRIPTOR"),
        ({"sip_sockets": "udp/5060=7"}, "PBX_SIP_SOCKETS: '5060' is not host:port"),
        ({"sip_sockets": "sctp/127.0.0.1:5060=7"}, "PBX_SIP_SOCKETS"),
        ({"sip_siblings": "abcd01=/run/2.link"}, "PBX_INSTANCE_ID among them"),
        ({"sip_siblings": "abcd00=/a,abcd00=/b"}, "each once"),
        ({"sip_siblings": "abcd00=a,abcd01=/b"}, "each is INSTANCE=/PATH"),
        ({"sip_board": 1}, "greater than or equal to 3"),
    ],
)
def test_what_makes_no_sense_is_told(given: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PBX_INSTANCE_ID", "abcd00")
    monkeypatch.setenv("PBX_AUTHENTICATE", "0")
    monkeypatch.setenv("PBX_SIP_LISTEN", "127.0.0.1:5060")
    for name, value in given.items():
        monkeypatch.setenv(f"PBX_{name.upper()}", str(value))
    with pytest.raises(SettingsError, match=says):
        SignalingSettings.load()
