"""A phone of pjsua2 (PJSIP): registers with digest, rings, obeys lines on its input. Runs in a Python of its own.

    phone.py HOST PORT TRANSPORT USER PASSWORD DOMAIN
    call URI | ring | answer | hold | resume | digit D | hangup | quit

It says, one a line: registered, refused CODE, incoming, ringing CODE, up, media STATE, digit D, over CODE.
"""

from __future__ import annotations

import queue
import sys
import threading

import pjsua2 as pj

KINDS = {"udp": pj.PJSIP_TRANSPORT_UDP, "tcp": pj.PJSIP_TRANSPORT_TCP, "tls": pj.PJSIP_TRANSPORT_TLS}
MEDIA = {
    pj.PJSUA_CALL_MEDIA_ACTIVE: "active",
    pj.PJSUA_CALL_MEDIA_LOCAL_HOLD: "held",
    pj.PJSUA_CALL_MEDIA_REMOTE_HOLD: "held-by-peer",
    pj.PJSUA_CALL_MEDIA_NONE: "none",
    pj.PJSUA_CALL_MEDIA_ERROR: "error",
}
POLL_MS = 20


def say(*words: object) -> None:
    """One line."""
    print(*words, flush=True)


class Call(pj.Call):
    """A call, and what happens to it."""

    def onCallState(self, prm: object) -> None:
        """Its progress."""
        info = self.getInfo()
        if info.state == pj.PJSIP_INV_STATE_EARLY:
            say("ringing", info.lastStatusCode)
        elif info.state == pj.PJSIP_INV_STATE_CONFIRMED:
            say("up")
        elif info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            say("over", info.lastStatusCode)

    def onCallMediaState(self, prm: object) -> None:
        """Its media were settled anew."""
        info = self.getInfo()  # owns what stands in it
        for media in info.media:
            say("media", MEDIA.get(media.status, media.status))

    def onDtmfDigit(self, prm: pj.OnDtmfDigitParam) -> None:
        """A digit came."""
        say("digit", prm.digit)


class Account(pj.Account):
    """The user."""

    call: Call | None = None

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        """The registrar answered."""
        say(*(("registered",) if prm.code == 200 else ("refused", prm.code)))

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        """Somebody calls."""
        self.call = Call(self, prm.callId)
        say("incoming")
        answer(self.call, 180)


def parameters(status: int = 0) -> pj.CallOpParam:
    """Of an operation on a call, audio alone."""
    made = pj.CallOpParam(True)
    made.statusCode = status
    made.opt.audioCount, made.opt.videoCount = 1, 0
    return made


def answer(call: Call, status: int) -> None:
    """Answers it."""
    call.answer(parameters(status))


def resume(call: Call) -> None:
    """Offers both directions again."""
    made = parameters()
    made.opt.flag = pj.PJSUA_CALL_UNHOLD
    call.reinvite(made)


def obey(account: Account, line: str) -> None:
    """Does what a line says."""
    word, *given = line.split()
    if word == "call":
        account.call = Call(account)
        account.call.makeCall(given[0], parameters())
        return
    call = account.call
    assert call is not None, f"{word} without a call"
    match word:
        case "answer":
            answer(call, 200)
        case "hold":
            call.setHold(pj.CallOpParam())
        case "resume":
            resume(call)
        case "digit":
            call.dialDtmf(given[0])
        case "hangup":
            call.hangup(pj.CallOpParam())
        case _:
            raise ValueError(word)


def main(arguments: list[str]) -> None:
    """Until it is told to quit."""
    host, port, kind, user, password, domain = arguments
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    settings = pj.EpConfig()
    settings.logConfig.level = settings.logConfig.consoleLevel = 0
    settings.uaConfig.threadCnt = 0  # all callbacks in this thread, from libHandleEvents
    settings.uaConfig.userAgent = f"pjsua2 {endpoint.libVersion().full}"
    endpoint.libInit(settings)
    endpoint.audDevManager().setNullDev()
    endpoint.transportCreate(KINDS[kind], pj.TransportConfig())
    endpoint.libStart()
    about = pj.AccountConfig()
    about.idUri = f"sip:{user}@{domain}"
    about.regConfig.registrarUri = f"sip:{host}:{port};transport={kind}"
    about.sipConfig.proxies.append(f"<sip:{host}:{port};transport={kind};lr>")
    about.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", user, 0, password))
    account = Account()
    account.create(about)
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in sys.stdin] + [lines.put("quit")], daemon=True).start()
    while True:
        endpoint.libHandleEvents(POLL_MS)
        while not lines.empty():
            line = lines.get()
            if line.strip() == "quit":
                endpoint.hangupAllCalls()
                account.call = None
                account.shutdown()
                endpoint.libDestroy()
                return
            obey(account, line)


if __name__ == "__main__":
    main(sys.argv[1:])
