"""Calls that are frozen and thawed after every step go on exactly as calls that live: same messages, same events.

Each story is played twice on one schedule. In the second one every live call is made anew of its document after each
input: so nothing that a call needs can be kept anywhere but in its fields.
"""

from __future__ import annotations

import random

from hypothesis import given

from pbx_signaling.users.snapshot import encode, restore_call
from pbx_sip.address import HostPort
from support.b2bua_node import B2buaNode
from support.several_phones import STORIES, Story, begin
from support.simulation import SIMULATION


def thawing(node: B2buaNode) -> None:
    """Lets every call of a node be made anew of its document after each input."""
    receive, handle_timeout = node.receive, node.handle_timeout

    def thaw() -> None:
        for entry in node.calls.values():
            assert not entry.call.pending
            assert not entry.call.conclusions
            before, entry.call = entry.call, restore_call(encode(entry), node.harness.config.calls)
            assert entry.call == before

    def received(data: bytes, source: HostPort, now: float) -> None:
        receive(data, source, now)
        thaw()

    def timed_out(now: float) -> None:
        handle_timeout(now)
        thaw()

    node.receive, node.handle_timeout = received, timed_out  # type: ignore[method-assign]


def played(story: Story, *, thaws: bool) -> tuple[list[tuple[str, bytes]], list[str]]:
    """All datagrams of a story, and its events."""
    random.seed(7)  # how long phones wait after glare
    rig = begin(story)
    if thaws:
        thawing(rig.pbx)
    rig.end()
    return [(str(each.target), each.data) for each in rig.network.ladder], rig.pbx.names()


@SIMULATION
@given(STORIES)
def test_a_call_that_was_thawed_goes_on_alike(story: Story) -> None:
    assert played(story, thaws=True) == played(story, thaws=False)
