"""What two phones may do in a call through the product, and what the network may do to it: for any simulation."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from support.netem import FINE, LOST
from support.sim_rig import Rig
from support.ua import Plan, Ua, UaCall

FATES = st.lists(
    st.one_of(
        st.just(FINE),
        st.just(LOST),
        st.floats(0.001, 3.0).map(lambda delay: (delay,)),
        st.tuples(st.floats(0.001, 3.0), st.floats(0.001, 3.0)),
    ),
    max_size=60,
)
PLANS = st.builds(
    Plan,
    ring_after=st.sampled_from((0.1, None, 1.2)),
    ring_status=st.sampled_from((180, 183)),
    ring_sdp=st.booleans(),
    reliable=st.booleans(),
    answer_after=st.sampled_from((1.0, 0.0, 3.0, None)),
    answer_status=st.sampled_from((200, 200, 200, 486, 302)),
    reply_inside=st.sampled_from((200, 200, 488)),
)


def _cancel(phone: Ua, call: UaCall) -> None:
    if not call.received:
        phone.cancel(call)


def _early_bye(phone: Ua, call: UaCall) -> None:
    if not call.received:  # "the callee's UA MUST NOT send a BYE on early dialogs" (RFC 3261 section 15)
        phone.tell_early(call, "BYE", offer=False)


PERFORMERS: dict[str, Callable[[Ua, UaCall], None]] = {
    "modify": Ua.modify,
    "update": lambda phone, call: phone.modify(call, "UPDATE"),
    "hold": lambda phone, call: phone.modify(call, hold=True),
    "no offer": lambda phone, call: phone.modify(call, offer=False),
    "info": Ua.tell,
    "cancel": _cancel,
    "hang up": Ua.hang_up,
    "early update": Ua.tell_early,
    "early info": lambda phone, call: phone.tell_early(call, "INFO", offer=False),
    "early reinvite": lambda phone, call: phone.tell_early(call, "INVITE"),
    "early bye": _early_bye,
    "options": lambda phone, call: phone.tell(call, "OPTIONS"),
    "refer": lambda phone, call: phone.tell(call, "REFER"),
}
ACTS = tuple(PERFORMERS)
SCRIPT = st.lists(st.tuples(st.floats(0.0, 8.0), st.sampled_from(("alice", "bob")), st.sampled_from(ACTS)), max_size=8)


def perform(phone: Ua, act: str) -> None:
    """One line of a script, on the phone's newest call."""
    if phone.calls:
        PERFORMERS[act](phone, phone.calls[-1])


def follow(rig: Rig, script: list[tuple[float, str, str]]) -> None:
    """Lets the phones act by a script."""
    for after, name, act in script:
        phone = rig.alice if name == "alice" else rig.bob
        rig.at(after, phone, lambda phone=phone, act=act: perform(phone, act))  # type: ignore[misc]
