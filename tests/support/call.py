"""A whole call between two phones of a test, in one step each for setting up and ending."""

from __future__ import annotations

from dataclasses import dataclass

from support.phone import EXPECT_S, Dialog, Phone
from support.wire import Message, audio_sdp


@dataclass(slots=True)
class Call:
    """An established call."""

    caller: Phone
    callee: Phone
    caller_dialog: Dialog
    callee_dialog: Dialog
    offer: Message
    """The INVITE as the callee got it."""
    answer: Message
    """The 200 as the caller got it."""

    def hang_up(self, *, by_callee: bool = False) -> None:
        """BYE from one side, seen and answered by the other."""
        ending, other = (self.callee, self.caller) if by_callee else (self.caller, self.callee)
        dialog = self.callee_dialog if by_callee else self.caller_dialog
        ending.request(dialog, "BYE")
        other.reply(other.expect("BYE"), 200, "OK")
        ending.expect(200, method="BYE")

    def relay_port(self, *, of_callee: bool = False) -> int:
        """The audio port of the relay that one side was told to send to."""
        message = self.offer if of_callee else self.answer
        return int(message.sdp("m=audio ")[0].split()[0])


def establish(
    caller: Phone, callee: Phone, *, caller_port: int = 0, callee_port: int = 0, ring_s: float = EXPECT_S
) -> Call:
    """INVITE, 180, 200, ACK; the callee must be registered, and is to ring within `ring_s` (`SLOWER` times).

    Media ports default to SIP port + 2.
    """
    caller_dialog = caller.dial(callee.user, audio_sdp(caller_port or caller.port + 2))
    invite = callee.expect("INVITE", timeout_s=ring_s)
    callee_dialog = callee.answer(invite)
    callee.reply(invite, 180, "Ringing", dialog=callee_dialog)
    caller.expect(180)
    callee.reply(invite, 200, "OK", dialog=callee_dialog, body=audio_sdp(callee_port or callee.port + 2))
    answer = caller.expect(200)
    caller.ack(caller_dialog, answer)
    callee.expect("ACK")
    return Call(caller, callee, caller_dialog, callee_dialog, invite, answer)


def callee_holds(caller: Phone, dialog: Dialog, callee: Phone, theirs: Dialog) -> None:
    """The callee puts the caller on hold by a re-INVITE, which the caller takes."""
    callee.request(theirs, "INVITE", body=audio_sdp(41_000, version=2, extra=("a=sendonly",)))
    again = caller.expect("INVITE")
    caller.reply(again, 200, "OK", dialog=dialog, body=audio_sdp(4200, version=2, extra=("a=recvonly",)))
    callee.ack(theirs, callee.expect(200))
    caller.expect("ACK")
