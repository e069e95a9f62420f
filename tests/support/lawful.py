"""What must hold for any exchange of SIP messages, read from what a virtual network saw."""

from __future__ import annotations

from pbx_sip.address import HostPort
from pbx_sip.message.message import Request, Response
from pbx_sip.message.parse import parse
from pbx_sip.message.validate import validate_request, validate_response
from support.netem import Network

LINGER_S = 32.0


def assert_lawful(network: Network, node: HostPort) -> None:
    """What `node` sent could be read by anybody, and kept the rules between messages."""
    cseqs: dict[tuple[str, str, str], dict[str, int]] = {}
    finals: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for datagram in network.sent:
        if datagram.source != node:
            continue
        message = parse(datagram.data)
        if isinstance(message, Request):
            validate_request(message)
            _count(message, cseqs)
        else:
            assert isinstance(message, Response)
            validate_response(message)
            assert message.to_tag or message.status == 100, datagram
            if message.status >= 200:
                finals.setdefault((message.branch, message.cseq_method), []).append((datagram.at, message.status))
    for sequence in cseqs.values():
        numbers = list(sequence.values())
        assert numbers == sorted(set(numbers)), f"CSeq not rising: {sequence}"
    for key, answers in finals.items():
        # After 64*T1 a server transaction is over: what is as old as that in the network begins another one.
        statuses = {status for at, status in answers if at - answers[0][0] < LINGER_S}
        assert len(statuses) == 1, f"two final answers to {key}: {statuses}"
    _assert_acks_follow(network, node)


def _count(request: Request, cseqs: dict[tuple[str, str, str], dict[str, int]]) -> None:
    """Notes the CSeq number of a request by its dialog and transaction."""
    if request.method not in ("ACK", "CANCEL"):
        dialog = (request.call_id, request.from_tag, request.to_tag)
        cseqs.setdefault(dialog, {})[request.branch] = request.cseq_number


def _assert_acks_follow(network: Network, node: HostPort) -> None:
    """No ACK before the final response that it confirms had arrived."""
    confirmable = {
        (message.call_id, message.cseq_number, message.to_tag): datagram.at
        for datagram in reversed(network.ladder)
        if datagram.target == node and not datagram.lost
        for message in [parse(datagram.data)]
        if isinstance(message, Response) and message.status >= 200 and message.cseq_method == "INVITE"
    }
    for datagram in network.sent:
        if datagram.source == node and datagram.data.startswith(b"ACK "):
            ack = parse(datagram.data)
            arrived = confirmable.get((ack.call_id, ack.cseq_number, ack.to_tag))
            assert arrived is not None, f"an ACK for nothing: {datagram}"
            assert arrived <= datagram.at, f"an ACK before its response: {datagram}"
