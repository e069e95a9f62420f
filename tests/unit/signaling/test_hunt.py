"""A hunt: who is invited when, who wins, who is stopped, and which refusal is told (RFC 3261 sections 16.6, 16.7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx_signaling.calls.branch import Phase
from pbx_signaling.calls.ending import NO_ANSWER, Refusal, missing, refusal_of
from pbx_signaling.calls.ending import Outcome as Went
from pbx_signaling.calls.hunt import (
    BRANCHES_MAX,
    ELSEWHERE,
    GONE,
    EndLate,
    Hunt,
    HuntPolicy,
    Invite,
    Look,
    Lost,
    Output,
    Ringing,
    Stop,
)
from pbx_signaling.calls.signals import Cause, Rejected, Target

AOR = "1008@pbx.local"
PARALLEL, SERIAL = HuntPolicy(), HuntPolicy(Ringing.SERIAL)
CAUSE = Cause("gone", 16)
NOBODY = Refusal(0, NO_ANSWER, Cause())


def phone(number: int, q: int = 1000, *, unreachable: bool = False, instance: str = "") -> Target:
    host = f"192.0.2.{number}"
    return Target(f"sip:1008@{host}", AOR, (), 1, host, 5060, "udp4", 0, "s1", unreachable, q, instance)


def begun(*targets: Target, policy: HuntPolicy = PARALLEL) -> tuple[Hunt, list[Output]]:
    hunt = Hunt()
    hunt.begin(AOR, targets, policy)
    return hunt, hunt.advance(policy)


def rejected(leg: int, status: int, *, local: bool = False) -> Refusal:
    return refusal_of(Rejected(leg, status, "", Cause(), local=local))


def refuse(hunt: Hunt, leg: int, status: int, *users: str, policy: HuntPolicy = PARALLEL, local: bool = False):
    return hunt.failed(leg, rejected(leg, status, local=local), policy, users)


def invited(outputs: list[Output]) -> list[int]:
    return [output.leg for output in outputs if isinstance(output, Invite)]


def told(outputs: list[Output]) -> int:
    """The status of the refusal that ends the hunt; 0: it goes on."""
    lost = [output.refusal.ending.sip_status for output in outputs if isinstance(output, Lost)]
    assert len(lost) <= 1
    return lost[0] if lost else 0


# --- who is invited


def test_phones_of_equal_preference_ring_together() -> None:
    _, outputs = begun(phone(1), phone(2), phone(3))
    assert outputs == [Invite(n, phone(n), others_wait=False) for n in (1, 2, 3)]


def test_less_preferred_ones_come_next_and_only_when_nobody_may_answer() -> None:
    hunt, outputs = begun(phone(1, 500), phone(2), phone(3))
    assert [output.target.host for output in outputs if isinstance(output, Invite)] == ["192.0.2.2", "192.0.2.3"]
    assert all(output.others_wait for output in outputs if isinstance(output, Invite))
    assert refuse(hunt, 1, 486) == []
    assert refuse(hunt, 2, 486) == [Invite(3, phone(1, 500), others_wait=False)]


def test_one_after_the_other_on_demand() -> None:
    hunt, outputs = begun(phone(1, 500), phone(2), phone(3), policy=SERIAL)
    assert invited(outputs) == [1]
    assert hunt.target(1) == phone(2)
    assert invited(refuse(hunt, 1, 480, policy=SERIAL)) == [2]
    assert invited(refuse(hunt, 2, 486, policy=SERIAL)) == [3]
    assert told(refuse(hunt, 3, 480, policy=SERIAL)) == 486


def test_a_phone_that_is_not_thought_to_be_there_holds_up_nobody() -> None:
    hunt, outputs = begun(phone(1, unreachable=True), phone(2), phone(3, 100))
    assert invited(outputs) == [1, 2], "it is invited all the same: it may be back"
    assert hunt.target(2) == phone(1, unreachable=True)
    assert invited(refuse(hunt, 1, 486)) == [3]
    assert told(refuse(hunt, 3, 486)) == 0, "but it may still answer"
    assert told(refuse(hunt, 2, 408, local=True)) == 486


def test_one_that_found_no_room_among_its_equals_is_invited_after_all() -> None:
    policy = HuntPolicy(branches_max=1)
    hunt, outputs = begun(phone(1, unreachable=True), phone(2), phone(3, 100), policy=policy)
    assert invited(outputs) == [1]
    assert invited(refuse(hunt, 1, 486, policy=policy)) == [3]
    assert invited(refuse(hunt, 3, 486, policy=policy)) == [2]


def test_where_no_phone_is_thought_to_be_there_all_are_waited_for() -> None:
    hunt, outputs = begun(phone(1, unreachable=True), phone(2, 100))
    assert invited(outputs) == [1]
    assert invited(refuse(hunt, 1, 408, local=True)) == [2]


def test_only_so_many_are_invited_at_the_same_time() -> None:
    policy = HuntPolicy(branches_max=2)
    hunt, outputs = begun(phone(1), phone(2), phone(3), phone(4, 100), policy=policy)
    assert invited(outputs) == [1, 2]
    assert invited(refuse(hunt, 1, 486, policy=policy)) == [3], "one is out: the next of its group"
    assert invited(refuse(hunt, 2, 486, policy=policy)) == []
    assert invited(refuse(hunt, 3, 486, policy=policy)) == [4]


def test_a_call_invites_a_bounded_number_of_phones() -> None:
    hunt, _ = begun(*(phone(number % 250) for number in range(BRANCHES_MAX + 9)))
    assert len(hunt.branches) == BRANCHES_MAX
    refuse(hunt, 1, 302, "1009@pbx.local")
    hunt.found([phone(1)], PARALLEL)
    assert len(hunt.branches) == BRANCHES_MAX


def test_of_a_phone_with_two_flows_one_is_invited_and_the_other_where_it_is_broken() -> None:
    """RFC 5626 section 5.3."""
    for status, local in ((430, False), (503, True), (408, True)):
        hunt, outputs = begun(phone(1, instance="<a>"), phone(2, instance="<a>"), phone(3, instance="<b>"))
        assert [output.target for output in outputs] == [phone(1, instance="<a>"), phone(3, instance="<b>")]
        assert refuse(hunt, 2, 486) == []
        (again,) = refuse(hunt, 1, status, local=local)
        assert again == Invite(3, phone(2, instance="<a>"), others_wait=False)
        assert told(refuse(hunt, 3, status, local=local)) == 486
    hunt, _ = begun(phone(1, instance="<a>"), phone(2, instance="<a>"))
    assert told(refuse(hunt, 1, 486)) == 486, "the phone itself has answered"


def test_a_phone_that_says_nothing_holds_up_no_refusal_and_no_other_phone() -> None:
    hunt, _ = begun(phone(1), phone(2))
    assert hunt.silent(2, PARALLEL) == [], "the other one may still answer"
    assert refuse(hunt, 1, 486) == [Stop(2, GONE), Lost(rejected(1, 486))]
    hunt, _ = begun(phone(1), phone(2))
    assert refuse(hunt, 1, 486) == []
    assert hunt.silent(2, PARALLEL) == [Stop(2, GONE), Lost(rejected(1, 486))]
    hunt, _ = begun(phone(1), phone(2), phone(3, 500))
    refuse(hunt, 1, 486)
    assert invited(hunt.silent(2, PARALLEL)) == [3]


def test_one_that_said_anything_is_waited_for() -> None:
    hunt, _ = begun(phone(1), phone(2))
    hunt.hear(2)
    assert hunt.silent(2, PARALLEL) == []
    assert refuse(hunt, 1, 486) == []
    hunt, _ = begun(phone(1), phone(2))
    hunt.silent(2, PARALLEL)
    hunt.hear(2)
    assert refuse(hunt, 1, 486) == [], "late, but there"


def test_where_nobody_says_anything_all_are_waited_for() -> None:
    hunt, _ = begun(phone(1), phone(2))
    assert hunt.silent(1, PARALLEL) == hunt.silent(2, PARALLEL) == []
    assert refuse(hunt, 1, 503, local=True) == []
    assert told(refuse(hunt, 2, 408, local=True)) == 408


# --- who wins


def test_the_first_answer_wins_and_all_others_stop() -> None:
    hunt, _ = begun(phone(1), phone(2), phone(3), phone(4, 500))
    hunt.ring(1)
    assert hunt.answered(2) == [Stop(1, ELSEWHERE), Stop(3, ELSEWHERE)]
    assert (hunt.winner, hunt.leg, hunt.is_over) == (2, 2, False)
    assert refuse(hunt, 1, 487) == []
    assert hunt.answered(3) == [EndLate(3)], "its answer crossed our CANCEL"
    assert hunt.is_over
    assert [hunt.forget(leg) for leg in (1, 2, 3, 4)] == [True, False, True, True]
    assert list(hunt.branches) == [2]


def test_they_know_that_there_is_no_missed_call() -> None:
    assert ELSEWHERE.others == ('SIP;cause=200;text="Call completed elsewhere"',)
    assert not ELSEWHERE.q850


def test_an_answer_is_told_once() -> None:
    hunt, _ = begun(phone(1))
    assert hunt.answered(1) == []
    assert hunt.answered(1) == []
    assert refuse(hunt, 1, 486) == []


def test_after_a_stop_an_answer_is_ended() -> None:
    hunt, _ = begun(phone(1), phone(2))
    assert hunt.stop(CAUSE) == [Stop(1, CAUSE), Stop(2, CAUSE)]
    assert hunt.answered(1) == [EndLate(1)]
    assert not hunt.is_over
    assert refuse(hunt, 2, 487) == []
    assert hunt.is_over
    assert not hunt.forget(1), "the last event of the call tells of it"


def test_a_phone_that_is_not_waited_for_any_longer_makes_room() -> None:
    hunt, _ = begun(phone(1), phone(2, 500))
    assert hunt.gave_up(1, Refusal(1, NO_ANSWER, Cause()), CAUSE, PARALLEL) == [
        Stop(1, CAUSE),
        Invite(2, phone(2, 500), others_wait=False),
    ]
    assert hunt.gave_up(1, NOBODY, CAUSE, PARALLEL) == []
    assert refuse(hunt, 1, 487) == []
    assert told(refuse(hunt, 2, 404)) == 480, "the first of what is worth the same"


# --- what is told


@pytest.mark.parametrize(
    ("statuses", "best"),
    [
        ((480, 486), 486),
        ((408, 486), 486),
        ((486, 484), 484),
        ((401, 486), 486),
        ((407, 404), 404),
        ((401, 407), 403),
        ((500, 480), 480),
        ((503, 500), 480),
        ((302, 486), 486),
        ((302, 500), 480),
        ((415, 486), 486),
        ((488, 480), 488),
        ((404, 480), 404),
        ((480, 404), 480),
    ],
)
def test_the_best_of_two_refusals(statuses: tuple[int, int], best: int) -> None:
    hunt, _ = begun(phone(1), phone(2))
    assert told(refuse(hunt, 1, statuses[0])) == 0
    assert told(refuse(hunt, 2, statuses[1])) == best


def test_a_phone_that_was_not_there_says_least() -> None:
    for local in (408, 503):
        for status in (404, 480, 486, 401):
            hunt, _ = begun(phone(1), phone(2))
            refuse(hunt, 1, local, local=True)
            (lost,) = refuse(hunt, 2, status)
            assert isinstance(lost, Lost)
            assert (lost.refusal.leg, hunt.leg) == (2, 2)


@pytest.mark.parametrize("status", [600, 603, 604, 606, 607])
def test_a_6xx_ends_all_at_once(status: int) -> None:
    hunt, _ = begun(phone(1), phone(2), phone(3, 500))
    refuse(hunt, 1, 486)
    outputs = refuse(hunt, 2, status)
    assert told(outputs) == status
    hunt, _ = begun(phone(1), phone(2), phone(3, 500))
    stop, lost = refuse(hunt, 1, status)
    assert stop == Stop(2, Cause(others=(f"SIP;cause={status}",)))
    assert isinstance(lost, Lost)
    assert refuse(hunt, 2, 487) == [], "and nothing comes after it"
    assert hunt.is_over


# --- onward


def test_a_3xx_is_followed_while_others_ring() -> None:
    hunt, _ = begun(phone(1), phone(2))
    assert refuse(hunt, 1, 302, "1009@pbx.local") == [Look("1009@pbx.local")]
    assert hunt.sought == "1009@pbx.local"
    assert told(refuse(hunt, 2, 486)) == 0, "who it was sent on to may answer"
    assert hunt.found([phone(9)], PARALLEL) == [Invite(3, phone(9), others_wait=False)]
    assert hunt.sought == ""
    assert told(refuse(hunt, 3, 480)) == 486


def test_where_it_was_sent_on_to_rings_before_the_less_preferred() -> None:
    hunt, _ = begun(phone(1), phone(2, 500))
    refuse(hunt, 1, 302, "1009@pbx.local")
    assert [output.target for output in hunt.found([phone(9), phone(8, 100)], PARALLEL)] == [phone(9)]
    assert hunt.target(invited(refuse(hunt, 3, 486))[0]) == phone(8, 100)


def test_nobody_there() -> None:
    hunt, _ = begun(phone(1))
    refuse(hunt, 1, 302, "1009@pbx.local")
    assert told(hunt.missed(missing(404, "user_unknown", Went.UNREACHABLE, 1), PARALLEL)) == 404


def test_two_are_followed_one_after_the_other() -> None:
    hunt, _ = begun(phone(1), phone(2))
    refuse(hunt, 1, 302, "1009@pbx.local")
    assert refuse(hunt, 2, 302, "1010@pbx.local") == []
    assert hunt.missed(NOBODY, PARALLEL) == [Look("1010@pbx.local")]
    assert invited(hunt.found([phone(10)], PARALLEL)) == [3]


def test_never_in_a_circle_and_never_for_ever() -> None:
    hunt, _ = begun(phone(1))
    assert told(refuse(hunt, 1, 302, AOR)) == 480
    policy = HuntPolicy(redirects=1)
    hunt, _ = begun(phone(1), policy=policy)
    assert refuse(hunt, 1, 302, "1009@pbx.local", policy=policy) == [Look("1009@pbx.local")]
    hunt.found([phone(9)], policy)
    assert told(refuse(hunt, 2, 302, "1010@pbx.local", policy=policy)) == 480


def test_an_answer_ends_the_search() -> None:
    hunt, _ = begun(phone(1), phone(2))
    refuse(hunt, 1, 302, "1009@pbx.local")
    hunt.answered(2)
    assert hunt.sought == ""
    assert invited(hunt.found([phone(9)], PARALLEL)) == [], "what was looked up comes too late"


# --- whatever happens

WORDS = st.lists(
    st.tuples(
        st.integers(1, 6),
        st.sampled_from(["ring", "answer", "late", "silent", "stop", *(200, 302, 404, 408, 486, 500, 603)]),
    ),
    max_size=40,
)
TARGETS = st.lists(st.builds(phone, st.integers(1, 9), st.sampled_from([100, 500, 1000]), unreachable=st.booleans()))


class Story:
    """A hunt to which anything happens, and what must hold on the way."""

    def __init__(self, targets: list[Target], policy: HuntPolicy) -> None:
        self.hunt, self.policy = Hunt(), policy
        self.outputs: list[Output] = []
        self.hunt.begin(AOR, targets, policy)
        self.note(self.hunt.advance(policy))

    def note(self, more: list[Output]) -> None:
        assert self.hunt.invited <= self.policy.branches_max
        self.outputs += more

    def happen(self, leg: int, word: str | int) -> None:
        match word:
            case "ring":
                self.hunt.ring(leg)
            case "answer":
                self.note(self.hunt.answered(leg))
            case "silent":
                self.note(self.hunt.silent(leg, self.policy))
            case "late":
                self.note(self.hunt.gave_up(leg, Refusal(leg, NO_ANSWER, Cause()), CAUSE, self.policy))
            case "stop":
                self.note([*self.hunt.stop(CAUSE)])
            case _:
                users = ["1009@pbx.local"] * (word == 302)
                self.note(refuse(self.hunt, leg, int(word), *users, policy=self.policy))

    def end(self) -> None:
        """Whoever was invited says a last word."""
        while self.hunt.sought or not self.hunt.is_over:
            if self.hunt.sought:
                self.note(self.hunt.missed(NOBODY, self.policy))
            for branch in list(self.hunt.branches.values()):
                if branch.phase in (Phase.TRYING, Phase.RINGING, Phase.STOPPING):
                    self.happen(branch.leg, 480)


@given(TARGETS.filter(bool), st.sampled_from(Ringing), st.integers(1, 3), WORDS)
def test_it_ends_once_and_forgets_nobody(
    targets: list[Target], ringing: Ringing, branches: int, words: list[tuple[int, str | int]]
) -> None:
    story = Story(targets, HuntPolicy(ringing, branches))
    for leg, word in words:
        story.happen(leg, word)
    story.end()
    outputs = story.outputs
    lost = sum(isinstance(output, Lost) for output in outputs)
    stopped = ("stop" in {word for _, word in words}) and not story.hunt.winner
    assert lost + bool(story.hunt.winner) == 1 or stopped
    assert len(invited(outputs)) == len(set(invited(outputs)))
    stops = [output.leg for output in outputs if isinstance(output, Stop)]
    assert set(stops) <= set(invited(outputs))
    assert len(stops) == len(set(stops))
