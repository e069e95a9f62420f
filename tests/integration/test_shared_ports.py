"""Sockets of one address for several processes: whom the kernel gives a datagram, and what stays when one goes."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pbx_cli.errors import CliError
from pbx_cli.up import steering
from pbx_cli.up.shared_ports import SharedPorts
from pbx_cli.up.sip_ports import SipPort
from pbx_runtime.address import Listen
from support.ports import free_port
from support.waiting import SLOWER

REPLICAS = 12
HOSTS = ("127.0.0.1", "::1")


class Group:
    """The sockets of all processes, in one."""

    def __init__(self, host: str, *, steer: bool = True, replicas: int = REPLICAS) -> None:
        listen = Listen(host, free_port())
        self.address = (listen.host, listen.port)
        self.ports = SharedPorts([SipPort("udp", listen), SipPort("tcp", listen)], replicas, steer=steer)
        self.shares = self.ports.shares
        self.sockets = [socket.socket(fileno=socket.dup(share.descriptors[1])) for share in self.shares]
        self.family = self.shares[0].instance[: steering.FAMILY_LENGTH]

    def reached(self, sender: socket.socket, data: bytes, *, without: int = -1) -> int:
        """Who is given a datagram."""
        sender.sendto(data, self.address)
        for index, each in enumerate(self.sockets):
            if index == without:
                continue
            try:
                if each.recv(65_535) == data:
                    return index
            except BlockingIOError:
                continue
        raise AssertionError("nobody got it")

    def close(self) -> None:
        for each in self.sockets:
            each.close()
        self.ports.close()


@contextmanager
def group(host: str = "127.0.0.1", *, steer: bool = True, replicas: int = REPLICAS) -> Iterator[Group]:
    made = Group(host, steer=steer, replicas=replicas)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def sender(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind((host, 0))
        yield opened


def response(branch: str, *, padding: int = 0) -> bytes:
    via = f"SIP/2.0/UDP 192.0.2.1:5060;rport=5060{';x=' + 'y' * padding if padding else ''};branch={branch}"
    return f"SIP/2.0 180 Ringing\r\nVia: {via}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n\r\n".encode()


def inside(method: str, user: str) -> bytes:
    return f"{method} sip:{user}@192.0.2.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKx\r\n\r\n".encode()


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("padding", range(9))
def test_a_response_reaches_the_process_whose_branch_it_carries(host: str, padding: int) -> None:
    with group(host) as all_of_them, sender(host) as phone:
        for index, share in enumerate(all_of_them.shares):
            data = response(f"z9hG4bK{share.instance}.0123456789abcdef", padding=padding)
            assert all_of_them.reached(phone, data) == index


@pytest.mark.parametrize("method", ["ACK", "BYE", "INFO", "PRACK", "REFER", "INVITE", "UPDATE", "MESSAGE", "SUBSCRIBE"])
def test_a_request_in_a_dialog_reaches_the_process_of_the_contact(method: str) -> None:
    with group() as all_of_them, sender() as phone:
        for index, share in enumerate(all_of_them.shares):
            assert all_of_them.reached(phone, inside(method, share.instance)) == index


def test_a_source_keeps_its_process_for_whatever_names_none() -> None:
    with group() as all_of_them:
        reached = set()
        for _ in range(40):
            with sender() as phone:
                first = all_of_them.reached(phone, inside("INVITE", "2000"))
                family = all_of_them.family
                others = (
                    b"\r\n\r\n",
                    inside("INVITE", f"{family}99"),
                    inside("CANCEL", f"{family}xy"),
                    inside("REGISTER", f"ab{family}01"),
                    response(f"z9hG4bK{family}99.0123456789abcdef"),
                    response(f"z9hG4bK{family}"),
                    response("z9hG4bKelse01.0123456789abcdef" + "x" * 400),
                )
                assert {all_of_them.reached(phone, data) for data in others} == {first}
                reached.add(first)
        assert len(reached) > REPLICAS // 3, "sources are spread"


def test_what_is_cut_short_is_somebodys() -> None:
    """Classic BPF answers 0 where it reads beyond the end: any process may get what is no message of ours."""
    with group() as all_of_them, sender() as phone:
        whole = response(f"z9hG4bK{all_of_them.shares[7].instance}.0123456789abcdef")
        for length in range(1, len(whole)):
            assert all_of_them.reached(phone, whole[:length]) < REPLICAS


def test_without_the_program_the_source_alone_decides() -> None:
    with group(steer=False) as all_of_them, sender() as phone:
        reached = {
            all_of_them.reached(phone, response(f"z9hG4bK{share.instance}.0123456789abcdef"))
            for share in all_of_them.shares
        }
        assert len(reached) == 1


def test_a_source_keeps_its_process_while_another_one_is_started_anew() -> None:
    with group() as all_of_them, sender() as phone:
        first = all_of_them.reached(phone, inside("INVITE", "2000"))
        gone = (first + 1) % REPLICAS
        all_of_them.sockets[gone].close()  # as the kernel does when a process ends; the supervisor has its own
        assert all_of_them.reached(phone, inside("CANCEL", "2000"), without=gone) == first


def test_what_waits_for_a_process_can_be_dropped() -> None:
    with group() as all_of_them, sender() as phone:
        data = inside("BYE", all_of_them.shares[3].instance)
        for _ in range(5):
            phone.sendto(data, all_of_them.address)
        assert all_of_them.ports.empty(3) == 5
        assert all_of_them.ports.empty(3) == 0


def test_connections_are_taken_by_whoever_asks_first() -> None:
    with group(replicas=2) as all_of_them:
        one, other = (socket.socket(fileno=socket.dup(share.descriptors[2])) for share in all_of_them.shares)
        with one, other, socket.socket() as phone:
            one.listen(8)
            phone.settimeout(5 * SLOWER)
            phone.connect(all_of_them.address)
            one.close()
            other.settimeout(5 * SLOWER)
            taken, _ = other.accept()
            taken.close()


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        with pytest.raises(CliError, match=rf"127\.0\.0\.1:{port} \(udp\)"):
            SharedPorts([SipPort("udp", Listen("127.0.0.1", port))], 2)


def test_the_program_stays_within_the_bounds_of_classic_bpf() -> None:
    code = steering.program("abcd", steering.REPLICAS_MAX)
    lines = list(struct.iter_unpack("=HBBI", code))
    assert len(lines) < 4096
    for index, (operation, true, false, operand) in enumerate(lines):
        ahead = operand if operation == 0x05 else max(true, false)
        assert index + ahead + 1 < len(lines) or operation in (0x06, 0x16)


@pytest.mark.parametrize("family", ["abc", "abcde", "ABCD", "ab.d", "äbcd", "1234"])
def test_a_family_that_the_program_cannot_read_is_refused(family: str) -> None:
    with pytest.raises(ValueError, match="lower-case"):
        steering.program(family, 2)
