"""A phone on one UDP socket, driven step by step by a test: `dial`, `expect`, `reply`, `request`.

`stream_phone` has the same over connections.

It retransmits nothing and hides nothing but repeated datagrams, so that a test sees what the server sent.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from typing import Self

from support.waiting import SLOWER
from support.wire import Credentials, Message, audio_sdp, render, token

EXPECT_S = 5.0
_LARGEST = 65_535


@dataclass(slots=True)
class Dialog:
    """One side of a dialog as a phone keeps it."""

    call_id: str
    local: str
    remote: str
    target: str
    routes: list[str] = field(default_factory=list)
    cseq: int = 1
    invite_branch: str = ""
    invite: Message | None = None
    """The INVITE that was received or sent last."""

    def learn(self, response: Message) -> None:
        """Take the remote tag, target and route set from a response that makes a dialog."""
        self.remote = response.get("to")
        if response.get("contact"):
            self.target = response.uri("contact")
        self.routes = list(reversed(response.all("record-route")))


class Phone:
    """A user agent of one account. Close it, or use it as a context manager."""

    transport = "UDP"
    """As in a Via."""
    contact_params = ""

    def __init__(
        self,
        server: tuple[str, int],
        credentials: Credentials,
        *,
        domain: str,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.server, self.credentials, self.domain = server, credentials, domain
        self.socket = self._open(host, port)
        self.host, self.port = self.socket.getsockname()[:2]
        self.register_call_id = f"{token()}@{host}"
        self.register_cseq = 0
        self.challenged: list[str] = []
        """The algorithms of the last challenge."""
        self.extra: list[tuple[str, str]] = []
        """Further headers of requests outside of dialogs, such as User-Agent."""
        self.algorithm = ""
        """The digest algorithm to pick among several challenges; empty for the first."""
        self.name_addr = ""
        """From instead of its own address, without tag."""
        self._seen: set[bytes] = set()

    def _open(self, host: str, port: int) -> socket.socket:
        opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind((host, port))
        return opened

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    @property
    def user(self) -> str:
        """The account's user."""
        return self.credentials.user

    @property
    def contact(self) -> str:
        """Its Contact URI."""
        return f"sip:{self.user}@{self.sent_by}{self.contact_params}"

    @property
    def sent_by(self) -> str:
        """Its address as in a Via or a URI."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def address_of(self, user: str) -> str:
        """Address-of-record of a user of this domain."""
        return f"sip:{user}@{self.domain}"

    # Datagrams

    def send(self, data: bytes) -> None:
        """Send a datagram to the server."""
        self.socket.sendto(data, self.server)

    def receive(self, timeout_s: float = EXPECT_S) -> Message:
        """The next datagram that did not come before; TimeoutError when there is none."""
        deadline = time.monotonic() + timeout_s
        while True:
            raw = self._next(max(0.001, deadline - time.monotonic()))
            if raw not in self._seen and raw.strip():
                self._seen.add(raw)
                return Message.parse(raw)

    def _next(self, timeout_s: float) -> bytes:
        self.socket.settimeout(timeout_s)
        return self.socket.recv(_LARGEST)

    def expect(self, wanted: int | str, *, timeout_s: float = EXPECT_S, method: str = "") -> Message:
        """The next message, which must be that response or request; 100 is passed over unless wanted."""
        timeout_s *= SLOWER
        while True:
            try:
                message = self.receive(timeout_s)
            except TimeoutError:
                raise AssertionError(f"{self.user}: no {wanted} within {timeout_s:g} s") from None
            if message.status == 100 and wanted != 100:
                continue
            got: int | str = message.status if isinstance(wanted, int) else message.method * (not message.status)
            assert got == wanted, f"{self.user}: expected {wanted}, got:\n{message}"
            assert not method or message.method == method, f"{self.user}: expected {method}:\n{message}"
            return message

    def silent(self, seconds: float) -> None:
        """Nothing new may come for so long."""
        try:
            message = self.receive(seconds)
        except TimeoutError:
            return
        raise AssertionError(f"{self.user}: expected silence, got:\n{message}")

    # Requests outside a dialog

    def register(
        self, *, expires_s: int | None = 300, contacts: tuple[str, ...] | None = None, call_id: str = ""
    ) -> Message:
        """REGISTER with digest; the final response. No contacts at all is a query."""
        headers = [("Contact", c) for c in ((f"<{self.contact}>",) if contacts is None else contacts)]
        if expires_s is not None:
            headers.append(("Expires", str(expires_s)))
        return self.ask("REGISTER", f"sip:{self.domain}", self.user, headers, call_id=call_id or self.register_call_id)

    def ask(
        self,
        method: str,
        uri: str,
        to: str,
        headers: list[tuple[str, str]],
        *,
        body: str = "",
        call_id: str = "",
    ) -> Message:
        """A request outside a dialog, with digest when it is challenged; the final response."""
        call_id, tag, authorization = call_id or f"{token()}@{self.host}", token(), list[tuple[str, str]]()
        for _ in range(3):
            self.register_cseq += 1
            self.send(
                self._request(
                    method,
                    uri,
                    call_id,
                    self._from(tag),
                    f"<{self.address_of(to)}>",
                    self.register_cseq,
                    [*authorization, *headers, *self.extra],
                    body,
                )
            )
            response = self._final(call_id)
            if response.status not in (401, 407) or authorization:
                return response
            authorization = [self._authorization(response, method, uri)]
        raise AssertionError("challenged without end")

    def _final(self, call_id: str) -> Message:
        while True:
            response = self.receive()
            assert response.get("call-id") == call_id, response
            if response.status >= 200:
                return response

    # Calls

    def dial(self, user: str, body: str | None = None, *, headers: tuple[tuple[str, str], ...] = ()) -> Dialog:
        """Send an INVITE and answer its challenge; the responses to it are then to be expected."""
        dialog = self.dial_unchallenged(user, body, headers=headers)
        self.answer_challenge(dialog, self.expect(407), headers=headers)
        return dialog

    def dial_unchallenged(
        self, user: str, body: str | None = None, *, headers: tuple[tuple[str, str], ...] = ()
    ) -> Dialog:
        """Send an INVITE without credentials."""
        uri = self.address_of(user)
        dialog = Dialog(f"{token()}@{self.host}", self._from(token()), f"<{uri}>", uri)
        self.invite(
            dialog, audio_sdp(self.port % 60_000 + 2, host=self.host) if body is None else body, headers=headers
        )
        return dialog

    def answer_challenge(
        self, dialog: Dialog, challenge: Message, *, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """ACK a 407 and send the INVITE again with credentials."""
        self.ack(dialog, challenge)
        authorization = self._authorization(challenge, "INVITE", dialog.target)
        dialog.cseq += 1
        assert dialog.invite is not None
        self.invite(dialog, dialog.invite.body, headers=(authorization, *headers))

    def invite(self, dialog: Dialog, body: str, *, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Send an INVITE with the dialog's CSeq as it stands."""
        dialog.invite_branch = f"z9hG4bK{token()}"
        raw = self._request(
            "INVITE",
            dialog.target,
            dialog.call_id,
            dialog.local,
            dialog.remote,
            dialog.cseq,
            [*self._routes(dialog), *headers],
            body,
            branch=dialog.invite_branch,
        )
        dialog.invite = Message.parse(raw)
        self.send(raw)

    def ack(self, dialog: Dialog, response: Message, *, body: str = "") -> None:
        """ACK a final response: in the transaction for a failure, in the dialog for a 2xx."""
        if response.status < 300:
            dialog.learn(response)
            branch, remote = "", dialog.remote
        else:
            branch, remote = dialog.invite_branch, response.get("to")
        self.send(
            self._request(
                "ACK",
                dialog.target,
                dialog.call_id,
                dialog.local,
                remote,
                dialog.cseq,
                self._routes(dialog),
                body,
                branch=branch,
            )
        )

    def cancel(self, dialog: Dialog) -> None:
        """CANCEL the INVITE sent last."""
        self.send(
            self._request(
                "CANCEL",
                dialog.target,
                dialog.call_id,
                dialog.local,
                dialog.remote,
                dialog.cseq,
                [],
                "",
                branch=dialog.invite_branch,
            )
        )

    def request(
        self, dialog: Dialog, method: str, *, body: str = "", headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """A request in a dialog, with the next CSeq."""
        dialog.cseq += 1
        if method == "INVITE":
            self.invite(dialog, body, headers=headers)
            return
        self.send(
            self._request(
                method,
                dialog.target,
                dialog.call_id,
                dialog.local,
                dialog.remote,
                dialog.cseq,
                [*self._routes(dialog), *headers],
                body,
            )
        )

    def answer(self, invite: Message) -> Dialog:
        """The dialog of an INVITE that came in; `reply` with its local tag."""
        return Dialog(
            invite.get("call-id"),
            f"{invite.get('to')};tag={token()}",
            invite.get("from"),
            invite.uri("contact"),
            invite.all("record-route"),
            0,
            "",
            invite,
        )

    def reply(
        self,
        request: Message,
        status: int,
        reason: str,
        *,
        dialog: Dialog | None = None,
        body: str = "",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Answer a request; with a dialog its To tag and our Contact are written."""
        to = dialog.local if dialog and not request.tag("to") else request.get("to")
        lines = [("Via", via) for via in request.all("via")]
        lines += [("Record-Route", route) for route in request.all("record-route")]
        lines += [("From", request.get("from")), ("To", to), ("Call-ID", request.get("call-id"))]
        lines += [("CSeq", request.get("cseq")), *headers]
        if dialog:
            lines.append(("Contact", f"<{self.contact}>"))
        if body:
            lines.append(("Content-Type", "application/sdp"))
        self.send(render(f"SIP/2.0 {status} {reason}", lines, body))

    # Parts

    def _from(self, tag: str) -> str:
        return f"{self.name_addr or f'<{self.address_of(self.user)}>'};tag={tag}"

    def _routes(self, dialog: Dialog) -> list[tuple[str, str]]:
        return [("Route", route) for route in dialog.routes]

    def _authorization(self, challenge: Message, method: str, uri: str) -> tuple[str, str]:
        proxy = challenge.status == 407
        offered = challenge.all("proxy-authenticate" if proxy else "www-authenticate")
        self.challenged = [part.strip()[10:] for value in offered for part in value.split(",") if "algorithm=" in part]
        value = next(value for value in offered if not self.algorithm or f"algorithm={self.algorithm}" in value)
        name = "Proxy-Authorization" if proxy else "Authorization"
        return name, self.credentials.answer(value, method, uri)

    def _request(
        self,
        method: str,
        uri: str,
        call_id: str,
        local: str,
        remote: str,
        cseq: int,
        headers: list[tuple[str, str]],
        body: str,
        *,
        branch: str = "",
    ) -> bytes:
        given = {name.lower() for name, _ in headers}
        via = f"SIP/2.0/{self.transport} {self.sent_by};branch={branch or 'z9hG4bK' + token()};rport"
        lines = [
            ("Via", via),
            ("From", local),
            ("To", remote),
            ("Call-ID", call_id),
            ("CSeq", f"{cseq} {method}"),
        ]
        if "max-forwards" not in given:
            lines.append(("Max-Forwards", "70"))
        if method not in ("REGISTER", "CANCEL", "ACK", "BYE") and "contact" not in given:
            lines.append(("Contact", f"<{self.contact}>"))
        if body and "content-type" not in given:
            lines.append(("Content-Type", "application/sdp"))
        return render(f"{method} {uri} SIP/2.0", [*lines, *headers], body)
