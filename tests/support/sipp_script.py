"""Writes SIPp scenarios: `Caller` and `Callee` build the XML step by step, to be read like a ladder.

    caller = Caller("1004", "secret", "1008").invite().recv(180).answered().ack().bye().recv(200)
    callee = Callee().ring(180).answer().take("BYE").reply(200)

SIPp counts every element of a scenario as a message, and `[branch-N]` repeats the branch of the element
N places before: the builder keeps that count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

_AGENT = "User-Agent: sipp\n"
_SDP = """\
v=0
o=sipp 53655765 {version} IN IP4 [local_ip]
s=-
c=IN IP4 [media_ip]
t=0 0
m=audio {port} RTP/AVP 8 0 101
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=ptime:20
a={direction}
"""
_LAST = "[last_Via:]\n[last_From:]\n[last_To:]{tag}\n[last_Call-ID:]\n[last_CSeq:]\n"
REASONS: Mapping[int, str] = {
    100: "Trying",
    180: "Ringing",
    183: "Session Progress",
    200: "OK",
    202: "Accepted",
    302: "Moved Temporarily",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    480: "Temporarily Unavailable",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    491: "Request Pending",
    500: "Server Internal Error",
    503: "Service Unavailable",
    600: "Busy Everywhere",
    603: "Decline",
}


def sdp(*, port: int = 4000, version: int = 1, direction: str = "sendrecv") -> str:
    """An offer or answer with one G.711 stream, in SIPp's keywords.

    Below the shards of the tests' relays: the phones are beside them.
    """
    return _SDP.format(port=port, version=version, direction=direction)


OFFER = sdp()
ANSWER = sdp(port=4200)


class _Script:
    """Elements common to both sides. Every verb returns the script itself."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._elements: list[str] = []
        self._variables: set[str] = set()
        self._labels = 0
        self._invite_at, self._invite_cseq = 0, 1
        self.cseq = 1

    def xml(self) -> str:
        """The scenario."""
        names = ",".join(sorted(self._variables))
        reference = f'<Reference variables="{names}"/>\n' if names else ""
        body = "\n".join(self._elements)
        head = f'<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="{self.name}">\n'
        return f"{head}{body}\n{reference}</scenario>\n"

    def pause(self, milliseconds: int) -> Self:
        """Do nothing for a while."""
        return self._add(f'<pause milliseconds="{milliseconds}"/>')

    def pause_between(self, low_ms: int, high_ms: int) -> Self:
        """Do nothing for a random time."""
        return self._add(f'<pause distribution="uniform" min="{low_ms}" max="{high_ms}"/>')

    def pause_by_option(self) -> Self:
        """Do nothing for the time of SIPp's option -d."""
        return self._add("<pause/>")

    def recv(self, status: int, *, timer: str = "", trying: bool = True, **headers: str) -> Self:
        """Wait for a response; each keyword is a header (`_` for `-`) whose value must match the expression.

        100 Trying is passed over before it unless `trying` is off.
        """
        if trying and status != 100:
            self._add('<recv response="100" optional="true"/>')
        return self._recv(f'response="{status}"', timer, headers)

    def maybe(self, status: int, *, timer: str = "") -> Self:
        """A response that may come here."""
        rtd = f' rtd="{timer}"' if timer else ""
        return self._add(f'<recv response="{status}" optional="true"{rtd}/>')

    def _add(self, element: str) -> Self:
        self._elements.append(element)
        return self

    def _recv(self, what: str, timer: str, headers: Mapping[str, str]) -> Self:
        actions = "".join(self._check(name.replace("_", "-"), regexp) for name, regexp in headers.items())
        rtd = f' rtd="{timer}"' if timer else ""
        inner = f"<action>{actions}</action>" if actions else ""
        return self._add(f"<recv {what}{rtd}>{inner}</recv>")

    def _check(self, header: str, regexp: str, assign: str = "") -> str:
        self._labels += 1
        unused = f"c{self._labels}"
        names = [unused, *([assign] if assign else [])]
        self._variables.update(names)
        escaped = regexp.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
        where = f'search_in="hdr" header="{header}:"' if header else 'search_in="msg"'
        return f'<ereg regexp="{escaped}" {where} check_it="true" assign_to="{",".join(names)}"/>'

    def _send(self, lines: str, body: str = "", *, reliable: bool = False, timer: str = "", content: str = "") -> Self:
        if body:
            lines += f"Content-Type: {content or 'application/sdp'}\nContent-Length: [len]\n\n{body}"
        else:
            lines += "Content-Length: 0\n\n"
        options = ' retrans="500"' if reliable else ""
        options += f' start_rtd="{timer}"' if timer else ""
        return self._add(f"<send{options}><![CDATA[\n{lines}]]></send>")

    def _via(self, branch: str = "[branch]") -> str:
        return f"Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch}\n"


class Caller(_Script):
    """The calling side. `password` empty: the server is expected not to ask for one."""

    def __init__(
        self,
        user: str,
        password: str,
        callee: str,
        *,
        domain: str = "pbx.local",
        name: str = "caller",
        contact_port: int = 0,
    ) -> None:
        super().__init__(name)
        self.user, self.password, self.callee, self.domain = user, password, callee, domain
        self._from = f"From: <sip:{user}@{domain}>;tag=[pid]c[call_number]\n"
        self._contact = f"Contact: <sip:{user}@[local_ip]:{contact_port or '[local_port]'}>\n"
        self._in_dialog = False

    def invite(self, body: str = OFFER, *, timer: str = "", headers: str = "") -> Self:
        """INVITE and, with a password, its challenge; inside a dialog a re-INVITE."""
        if self._in_dialog:
            self.cseq += 1
            return self._invite(body, headers, timer)
        self._invite(body, headers, "" if self.password else timer)
        if not self.password:
            return self
        self._add('<recv response="100" optional="true"/>')
        self._add('<recv response="407" auth="true"/>')
        self.reject_ack()
        self.cseq += 1
        return self._invite(body, headers + self._authentication(), timer)

    def answered(self, status: int = 200, *, timer: str = "", trying: bool = True) -> Self:
        """Wait for the 2xx to an INVITE and take the dialog's target from it."""
        self._in_dialog = True
        if trying:
            self._add('<recv response="100" optional="true"/>')
        target = self._check("Contact", "<([^>]*)>", "target")
        rtd = f' rtd="{timer}"' if timer else ""
        return self._add(f'<recv response="{status}" rrs="true"{rtd}><action>{target}</action></recv>')

    def early(self, status: int, **headers: str) -> Self:
        """Wait for a provisional response that makes a dialog; take target and RSeq from it."""
        self._in_dialog = True
        actions = self._check("Contact", "<([^>]*)>", "target") + self._check("RSeq", "([0-9]+)", "rseq")
        actions += "".join(self._check(name.replace("_", "-"), regexp) for name, regexp in headers.items())
        self._add('<recv response="100" optional="true"/>')
        return self._add(f'<recv response="{status}" rrs="true"><action>{actions}</action></recv>')

    def ack(self, body: str = "") -> Self:
        """ACK of a 2xx."""
        return self._send(self._head("ACK", self._invite_cseq), body)

    def reject_ack(self) -> Self:
        """ACK of a failure: same branch as the INVITE, inside a dialog as well."""
        return self._send(self._head("ACK", self._invite_cseq, branch=self._branch(), answer=True))

    def cancel(self, *, headers: str = "") -> Self:
        """CANCEL of the last INVITE."""
        to = f"To: <sip:{self.callee}@{self.domain}>\n"
        lines = f"CANCEL sip:{self.callee}@{self.domain} SIP/2.0\n" + self._via(self._branch()) + self._from + to
        return self._send(
            lines + f"Call-ID: [call_id]\nCSeq: {self._invite_cseq} CANCEL\nMax-Forwards: 70\n{headers}", reliable=True
        )

    def bye(self, *, timer: str = "") -> Self:
        """BYE; `recv(200)` comes next."""
        return self.request("BYE", timer=timer)

    def request(self, method: str, body: str = "", *, headers: str = "", content: str = "", timer: str = "") -> Self:
        """A request inside the dialog."""
        self.cseq += 1
        lines = self._head(method, self.cseq) + headers
        return self._send(lines, body, reliable=True, timer=timer, content=content)

    def prack(self) -> Self:
        """PRACK of the provisional response that `early` took, for the INVITE sent last."""
        return self.request("PRACK", headers=f"RAck: [$rseq] {self._invite_cseq} INVITE\n")

    def take(self, method: str, **headers: str) -> Self:
        """Wait for a request of the other side inside the dialog; `reply` answers it."""
        return self._recv(f'request="{method}"', "", headers)

    def reply(self, status: int, body: str = "", *, headers: str = "") -> Self:
        """Answer the request taken last."""
        lines = f"SIP/2.0 {status} {REASONS[status]}\n" + _LAST.format(tag="")
        return self._send(lines + self._contact + headers, body)

    def outside(
        self,
        method: str,
        *,
        body: str = "",
        headers: str = "",
        content: str = "",
        max_forwards: int = 70,
        to_domain: bool = False,
        contact: str | None = None,
    ) -> Self:
        """A request outside a dialog, without credentials. `contact` takes the place of the Contact line."""
        uri = f"sip:{self.domain}" if to_domain else f"sip:{self.callee}@{self.domain}"
        to = f"sip:{self.callee}@{self.domain}"
        lines = f"{method} {uri} SIP/2.0\n" + self._via() + self._from + f"To: <{to}>\n"
        lines += f"Call-ID: [call_id]\nCSeq: {self.cseq} {method}\nMax-Forwards: {max_forwards}\n"
        lines += (self._contact if contact is None else contact) + _AGENT
        self._invite_at = len(self._elements)
        return self._send(lines + headers, body, reliable=True, content=content)

    def outside_again(
        self,
        method: str,
        status: int = 407,
        *,
        body: str = "",
        headers: str = "",
        content: str = "",
        to_domain: bool = False,
        contact: str | None = None,
    ) -> Self:
        """The challenge to `outside`, and the request again with credentials."""
        self._add(f'<recv response="{status}" auth="true"/>')
        self.cseq += 1
        headers += self._authentication()
        return self.outside(method, body=body, headers=headers, content=content, to_domain=to_domain, contact=contact)

    def _authentication(self) -> str:
        if self.password.startswith("["):
            return self.password + "\n"
        return f"[authentication username={self.user} password={self.password}]\n"

    def _invite(self, body: str, headers: str, timer: str) -> Self:
        self._invite_at, self._invite_cseq = len(self._elements), self.cseq
        lines = self._head("INVITE", self.cseq) + self._contact
        lines += "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, PRACK, INFO\n" + headers
        return self._send(lines, body, reliable=True, timer=timer)

    def _branch(self) -> str:
        return f"[branch-{len(self._elements) - self._invite_at}]"

    def _head(self, method: str, cseq: int, *, branch: str = "[branch]", answer: bool = False) -> str:
        target = "[$target]" if self._in_dialog else f"sip:{self.callee}@{self.domain}"
        routes = "[routes]\n" if self._in_dialog else ""
        tag = "[peer_tag_param]" if self._in_dialog or answer else ""
        return (
            f"{method} {target} SIP/2.0\n{self._via(branch)}{routes}{self._from}"
            f"To: <sip:{self.callee}@{self.domain}>{tag}\n"
            f"Call-ID: [call_id]\nCSeq: {cseq} {method}\nMax-Forwards: 70\n{_AGENT}"
        )


class Callee(_Script):
    """The called side. It begins with `ring` or `take("INVITE")`."""

    def __init__(self, *, name: str = "callee") -> None:
        super().__init__(name)
        self.cseq = 100
        self._contact = "Contact: <sip:callee@[local_ip]:[local_port]>\n"
        self._tag = ";tag=[pid]s[call_number]"
        self._took_invite = self._tagged = False

    def take(self, method: str, *, timer: str = "", **headers: str) -> Self:
        """Wait for a request; from the first INVITE it learns the dialog."""
        # Requests inside the dialog bear our tag already: [last_To:] then must not get a second one.
        self._tagged = self._took_invite and method != "CANCEL"
        if method != "INVITE" or self._took_invite:
            return self._recv(f'request="{method}"', timer, headers)
        self._took_invite = True
        learned = (("Contact", "<([^>]*)>", "target"), ("From", "(.*)", "remote"), ("To", "(.*)", "local"),
                   ("CSeq", "([0-9]+)", "icseq"), ("Via", "(.*)", "via"))  # fmt: skip
        actions = "".join(self._check(header, regexp, name) for header, regexp, name in learned)
        actions += "".join(self._check(name.replace("_", "-"), regexp) for name, regexp in headers.items())
        start = f' start_rtd="{timer}"' if timer else ""
        return self._add(f'<recv request="INVITE" rrs="true"{start}><action>{actions}</action></recv>')

    def reply(self, status: int, body: str = "", *, headers: str = "", reliable: bool = False, timer: str = "") -> Self:
        """Answer the request taken last. A 2xx to INVITE is reliable: repeated until the ACK."""
        tag = "" if self._tagged else self._tag
        lines = f"SIP/2.0 {status} {REASONS[status]}\n[last_Record-Route:]\n" + _LAST.format(tag=tag)
        self._send(lines + self._contact + headers, body, reliable=reliable)
        if timer:
            self._elements[-1] = self._elements[-1].replace("<send", f'<send rtd="{timer}"', 1)
        return self

    def reply_invite(self, status: int, body: str = "", *, headers: str = "") -> Self:
        """Answer the first INVITE after another request came in between."""
        lines = f"SIP/2.0 {status} {REASONS[status]}\nVia:[$via]\nFrom:[$remote]\nTo:[$local]{self._tag}\n"
        lines += f"Call-ID: [call_id]\nCSeq: [$icseq] INVITE\n{self._contact}"
        return self._send(lines + headers, body, reliable=status >= 200)

    def ring(self, status: int = 180, body: str = "", *, headers: str = "") -> Self:
        """Take the INVITE and answer provisionally."""
        return self.take("INVITE").reply(status, body, headers=headers)

    def answer(self, body: str = ANSWER) -> Self:
        """200 to the INVITE taken last, and its ACK."""
        return self.reply(200, body, reliable=True).take("ACK")

    def reject(self, status: int, *, headers: str = "") -> Self:
        """A final failure to the INVITE, and its ACK."""
        self.reply(status, headers=headers, reliable=True)
        return self.take("ACK")

    def cancelled(self) -> Self:
        """Take the CANCEL, answer it, end the INVITE with 487 and take the ACK."""
        self.take("CANCEL")
        self._send("SIP/2.0 200 OK\n" + _LAST.format(tag=self._tag))
        return self.reply_invite(487).take("ACK")

    def request(self, method: str, body: str = "", *, headers: str = "", content: str = "") -> Self:
        """A request of this side inside the dialog; with INVITE, `ack` follows its 200."""
        self.cseq += 1
        contact = self._contact if method in ("INVITE", "UPDATE") else ""
        lines = self._head(method) + contact + headers
        return self._send(lines, body, reliable=True, content=content)

    def bye(self) -> Self:
        """BYE of this side."""
        return self.request("BYE")

    def ack(self, body: str = "") -> Self:
        """ACK of the 2xx to this side's re-INVITE."""
        return self._send(self._head("ACK"), body)

    def _head(self, method: str) -> str:
        return (
            f"{method} [$target] SIP/2.0\n{self._via()}[routes]\nFrom:[$local]{self._tag}\nTo:[$remote]\n"
            f"Call-ID: [call_id]\nCSeq: {self.cseq} {method}\nMax-Forwards: 70\n{_AGENT}"
        )
