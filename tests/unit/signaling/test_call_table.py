"""The table of the call machine as a table: complete, without dead rows, and the only place where a state changes."""

from __future__ import annotations

import ast
import inspect
import typing

import pytest

from pbx_signaling.calls import branch, finish, machine, ringing, setup, talk
from pbx_signaling.calls import signals as e
from pbx_signaling.calls import value as v
from pbx_signaling.calls.state import BEFORE_ANSWER, CONNECTED, State

ROOMS = (setup, ringing, talk, finish)


def test_every_signal_means_something_in_some_state() -> None:
    kinds = {kind for _, kind in machine.TABLE}
    assert kinds >= set(typing.get_args(e.Signal)) - {e.Expired}
    assert kinds >= set(e.Deadline), "a deadline is a row of its own"
    assert kinds >= set(typing.get_args(v.Conclusion))


def test_every_state_is_reached_and_left() -> None:
    following: dict[State, set[State]] = {}
    for (state, _), (after, _) in machine.TABLE.items():
        following.setdefault(state, set()).add(after)
    reached, new = set(), {State.AUTHENTICATING}
    while new:
        reached |= new
        new = {after for state in new for after in following.get(state, ())} - reached
    assert reached == set(State)
    assert all(following[state] - {state} for state in State if state is not State.ENDED)
    assert State.ENDED not in following


def test_an_answered_call_never_rings_again() -> None:
    for (state, _), (after, _) in machine.TABLE.items():
        if state in CONNECTED:
            assert after in (*CONNECTED, State.CANCELLING)
        if state is State.CANCELLING:
            assert after in (State.CANCELLING, State.ENDED)


def test_a_caller_may_give_up_as_long_as_nobody_answered() -> None:
    for state in BEFORE_ANSWER:
        for kind in (e.Cancelled, e.Ordered, v.Failed, v.GivenUp):
            assert machine.TABLE[state, kind][0] is State.CANCELLING


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.__name__.rpartition(".")[2])
def test_no_action_sets_the_state(room: object) -> None:
    tree = ast.parse(inspect.getsource(room))  # type: ignore[arg-type]
    targets = [target for node in ast.walk(tree) if isinstance(node, ast.Assign) for target in node.targets]
    assert not [ast.unparse(each) for each in targets if isinstance(each, ast.Attribute) and each.attr == "state"]


def test_actions_are_of_the_rooms() -> None:
    modules = {action.__module__ for _, action in machine.TABLE.values()}
    assert modules == {room.__name__ for room in ROOMS} | {machine.__name__}


def test_a_branch_ends_in_every_phase_but_that_of_the_winner() -> None:
    phases = branch.Phase
    following = {phase: {after for (state, _), after in branch.TABLE.items() if state is phase} for phase in phases}
    assert following[phases.OVER] == following[phases.ANSWERED] == set()
    for phase in (phases.WAITING, phases.TRYING, phases.RINGING, phases.STOPPING):
        assert phases.OVER in following[phase] | {after for each in following[phase] for after in following[each]}
