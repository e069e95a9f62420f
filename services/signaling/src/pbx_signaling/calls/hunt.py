"""Finding the callee: its phones invited in parallel and in series until one answers (RFC 3261 sections 16.6, 16.7).

A hunt is a plain value. Each target becomes a *branch* with a leg of its own; targets of equal preference (q) make a
*group* that rings together, and the next group is invited when no phone of the one before may answer any more. The
first answer wins: all others are stopped, and one that answers all the same is ended at once. What is to be done comes
back as outputs, in order; sessions, events and timers are the call's business. What happens to one branch is the table
of `branch`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from pbx_signaling.calls.branch import INVITED, MAY_ANSWER, Branch, Phase, Word
from pbx_signaling.calls.ending import Outcome, Refusal, missing
from pbx_signaling.calls.hunt_output import EndLate, Invite, Look, Lost, Output, Stop
from pbx_signaling.calls.signals import Cause, Target
from pbx_sip.swift import swift

BRANCHES_MAX: Final = 50
"""Phones invited for one call, those of redirections among them. Threat: one INVITE that becomes hundreds of ours."""
GONE: Final = Cause("no answer", 19)
"""To a phone that said nothing while another refused."""
NOBODY: Final = missing(480, "unavailable", Outcome.UNREACHABLE, 20)
"""Where no phone refused, because none could be invited any more."""
SILENT_S: Final = 4.0
"""For any word of a phone among several: three repetitions of the INVITE have gone by then. A binding whose phone was
switched off would else hold up what the others say until the transaction gives up (32 s)."""
ELSEWHERE: Final = Cause(others=('SIP;cause=200;text="Call completed elsewhere"',))
"""To the phones that did not answer: by it they know that there is no missed call (RFC 3326 section 2)."""


class Ringing(enum.StrEnum):
    """How several phones of a user are found."""

    PARALLEL = "parallel"
    """Those of equal preference ring together, less preferred ones after them."""
    SERIAL = "serial"
    """One after the other, the preferred ones first."""


@swift
@dataclass(frozen=True, slots=True)
class HuntPolicy:
    """How phones are found, from the settings."""

    ringing: Ringing = Ringing.PARALLEL
    branches_max: int = 10
    """Phones that are invited at the same time. Threat: one INVITE that becomes many at once."""
    redirects: int = 5
    """Times that a call follows a 3xx to another user of our domain; 0: never. More than this is a mistake."""


@dataclass(slots=True)
class Hunt:
    """All branches to one callee."""

    been: list[str] = field(default_factory=list)
    """Addresses-of-record whose phones were looked up, or will be: the one dialled first."""
    branches: dict[int, Branch] = field(default_factory=dict)
    """By leg, in the order of preference."""
    groups: list[list[int]] = field(default_factory=list)
    """Legs of the groups that come next, in order."""
    group: list[int] = field(default_factory=list)
    """Legs of the group under way."""
    sought: str = ""
    """The address-of-record that is looked up because a phone sent the call on."""
    onward: list[str] = field(default_factory=list)
    """Those that will be looked up after it."""
    best: Refusal | None = None
    rang: int = 0
    """The leg that rang first; 0: none yet."""
    winner: int = 0
    """The leg that answered first; 0: none yet."""
    legs: int = 0
    """Numbers given to legs so far."""
    is_stopped: bool = False
    """No phone is invited any more."""

    # --- what is known

    def branch(self, leg: int) -> Branch | None:
        """The branch of a leg."""
        return self.branches.get(leg)

    def is_ringing(self, leg: int) -> bool:
        """Whether a phone is invited and may answer."""
        branch = self.branch(leg)
        return branch is not None and branch.phase in INVITED

    @property
    def invited(self) -> int:
        """How many phones are invited and may answer."""
        return sum(branch.phase in INVITED for branch in self.branches.values())

    @property
    def is_over(self) -> bool:
        """Whether no phone but the winner has a word to say."""
        return all(branch.phase in (Phase.ANSWERED, Phase.OVER, Phase.WAITING) for branch in self.branches.values())

    @property
    def leg(self) -> int:
        """The leg that stands for the callee: the winner's, else that of the best refusal, else what rang first."""
        refused = 0 if self.best is None else self.best.leg
        return self.winner or refused or self.rang or min(self.legs, 1)

    @property
    def verdict(self) -> Refusal | None:
        """The best of what phones themselves refused; None where one rings, or none has refused."""
        is_ringing = any(branch.phase is Phase.RINGING for branch in self.branches.values())
        is_phone = self.best is not None and self.best.leg and not self.best.is_unreached
        return self.best if is_phone and not is_ringing else None

    def target(self, leg: int) -> Target | None:
        """The phone of a leg."""
        branch = self.branch(leg)
        return None if branch is None else branch.target

    # --- what happens

    def begin(self, aor: str, targets: Iterable[Target], policy: HuntPolicy) -> None:
        """Plans the branches to the phones of the callee; `advance` next."""
        self.been, self.groups = [aor], self._grouped(targets, policy)

    def found(self, targets: Iterable[Target], policy: HuntPolicy) -> list[Output]:
        """The phones of a user to whom the call was sent on: they ring beside those that ring still."""
        groups = self._grouped(targets, policy)
        if groups:
            self.group = [*self.group, *groups[0]]
            self.groups = [*groups[1:], *self.groups]
        return [*self._look_on(), *self.advance(policy)]

    def missed(self, refusal: Refusal, policy: HuntPolicy) -> list[Output]:
        """There is no phone of that user."""
        self._note(refusal)
        return [*self._look_on(), *self.advance(policy)]

    def advance(self, policy: HuntPolicy) -> list[Output]:
        """Invites whose turn it is; where nobody may answer any more, the hunt is lost."""
        if self.is_stopped or self.winner:
            return []
        outputs: list[Output] = []
        while not self._holds() and self.groups:
            left = [
                each.leg for each in self.branches.values() if each.leg in self.group and each.phase is Phase.WAITING
            ]
            self.group = [*self.groups.pop(0), *left]
        ringing = self.invited
        for leg in self.group:
            branch = self.branch(leg)
            if branch is not None and ringing < policy.branches_max and branch.take(Word.INVITE):
                ringing += 1
                outputs.append(Invite(leg, branch.target, bool(self.groups)))
        if self._is_lost():
            outputs += [*self.stop(GONE), Lost(self.best or NOBODY)]
        return outputs

    def hear(self, leg: int) -> None:
        """A phone said something."""
        branch = self.branch(leg)
        if branch is not None:
            branch.is_heard, branch.is_silent = True, False

    def silent(self, leg: int, policy: HuntPolicy) -> list[Output]:
        """A phone has said nothing for `SILENT_S`: it is waited for no longer than anybody else is."""
        branch = self.branch(leg)
        if branch is None or branch.phase is not Phase.TRYING or branch.is_heard:
            return []
        branch.is_silent = True
        return self.advance(policy)

    def ring(self, leg: int) -> bool:
        """A phone rings; whether that is news."""
        branch = self.branch(leg)
        if branch is None:
            return False
        before = branch.phase
        is_news = branch.take(Word.RING) and before is Phase.TRYING
        self.rang = self.rang or (leg if is_news else 0)
        return is_news

    def answered(self, leg: int) -> list[Output]:
        """A phone answered: the first one wins, and all others stop."""
        branch = self.branch(leg)
        if branch is None or not branch.take(Word.ANSWER):
            return []
        if branch.phase is not Phase.ANSWERED:
            return [EndLate(leg)]
        self.winner = leg
        return [*self.stop(ELSEWHERE)]

    def failed(self, leg: int, refusal: Refusal, policy: HuntPolicy, users: Iterable[str] = ()) -> list[Output]:
        """A phone refused, could not be reached, or sent the call on to `users` of our domain."""
        branch = self.branch(leg)
        if branch is None:
            return []
        was_stopped = branch.phase is Phase.STOPPING
        if not branch.take(Word.FAILURE) or was_stopped or self.is_stopped:
            return []
        if refusal.is_unreached and branch.flows and self.legs < BRANCHES_MAX:
            first, *others = branch.flows
            self.group = [*self.group, self._add(first, others)]
            return self.advance(policy)
        return self._went_on(refusal, policy, users)

    def gave_up(self, leg: int, refusal: Refusal, cause: Cause, policy: HuntPolicy) -> list[Output]:
        """A phone is not waited for any longer; others are."""
        branch = self.branch(leg)
        if branch is None or branch.phase not in INVITED or self.is_stopped:
            return []
        branch.take(Word.STOP)
        return [Stop(leg, cause), *self._went_on(refusal, policy, ())]

    def stop(self, cause: Cause) -> list[Stop]:
        """Stops all phones but the winner's."""
        self.is_stopped, self.sought = True, ""
        self.groups, self.group, self.onward = [], [], []
        stopped = [branch for branch in self.branches.values() if branch.take(Word.STOP)]
        return [Stop(branch.leg, cause) for branch in stopped if branch.phase is Phase.STOPPING]

    def again(self, cause: Cause) -> list[Stop]:
        """Stops the phones that are invited, each to be invited once more with the next `advance`."""
        stopped = [branch for branch in self.branches.values() if branch.phase in INVITED and branch.take(Word.STOP)]
        anew = [self._add(branch.target, branch.flows) for branch in stopped[: BRANCHES_MAX - self.legs]]
        self.group = [*self.group, *anew]
        return [Stop(branch.leg, cause) for branch in stopped]

    def forget(self, leg: int) -> bool:
        """Drops a branch that is over; whether there was one. Before an answer all stay, for the last event."""
        branch = self.branch(leg)
        if not self.winner or branch is None or branch.phase is not Phase.OVER:
            return False
        del self.branches[leg]
        return True

    # --- tools

    def _went_on(self, refusal: Refusal, policy: HuntPolicy, users: Iterable[str]) -> list[Output]:
        """After a refusal: for good (6xx), onward (3xx), or to the phones that come next (16.7 items 4 to 6)."""
        if refusal.is_final:
            self._note(refusal)
            said = Cause(others=(f"SIP;cause={refusal.ending.sip_status}",))
            return [*self.stop(said), Lost(refusal)]
        onward = self._onward(users, policy)
        if onward:
            looks = [] if self.sought else self._look(onward)
            if not looks:
                self.onward = [*self.onward, onward]
            return [*looks, *self.advance(policy)]
        self._note(refusal)
        return self.advance(policy)

    def _onward(self, users: Iterable[str], policy: HuntPolicy) -> str:
        """The first user of a 3xx where this call was not yet, as long as it may go on at all."""
        if len(self.been) > policy.redirects:
            return ""
        aor = next((aor for aor in users if aor not in self.been), "")
        if aor:
            self.been = [*self.been, aor]
        return aor

    def _look(self, aor: str) -> list[Output]:
        self.sought = aor
        return [Look(aor)]

    def _look_on(self) -> list[Output]:
        self.sought = ""
        if not self.onward:
            return []
        aor, *self.onward = self.onward
        return self._look(aor)

    def _note(self, refusal: Refusal) -> None:
        """Keeps the best of the refusals (RFC 3261 section 16.7 item 6); of equal ones the first."""
        if self.best is None or refusal.rank < self.best.rank:
            self.best = refusal

    def _grouped(self, targets: Iterable[Target], policy: HuntPolicy) -> list[list[int]]:
        """Legs for targets, the preferred ones first, those not thought to be there last."""
        targets = list(targets)
        if len(targets) == 1 and self.legs < BRANCHES_MAX:
            return [[self._add(targets[0], [])]]
        ordered = sorted(targets, key=lambda target: (-target.q_thousandths, target.unreachable))
        if policy.ringing is Ringing.SERIAL:
            ordered.sort(key=lambda target: target.unreachable)
        phones: dict[object, list[Target]] = {}
        for number, target in enumerate(ordered):
            # Of one phone only one flow is invited at a time (RFC 5626 section 5.3).
            phones.setdefault(target.sip_instance or number, []).append(target)
        groups = []
        for _, equal in groupby(phones.values(), key=lambda flows: flows[0].q_thousandths):
            legs = [self._add(flows[0], flows[1:]) for flows in list(equal)[: BRANCHES_MAX - self.legs]]
            groups += [legs] if policy.ringing is Ringing.PARALLEL else [[leg] for leg in legs]
        return [group for group in groups if group]

    def _add(self, target: Target, flows: list[Target]) -> int:
        self.legs += 1
        self.branches[self.legs] = Branch(self.legs, target, flows=flows)
        return self.legs

    def _holds(self) -> bool:
        """Whether the group under way may still answer, or whom it sent the call on to.

        A phone that is not thought to be there holds up no other.
        """
        if self.sought:
            return True
        group = [branch for branch in self.branches.values() if branch.leg in self.group and not branch.is_silent]
        thought_there = [branch for branch in group if not branch.target.unreachable]
        return any(branch.phase in MAY_ANSWER for branch in thought_there or group)

    def _is_lost(self) -> bool:
        """Whether nobody may answer any more; where a phone has refused, none that is silent is waited for."""
        if self.groups or self.sought or self.onward:
            return False
        left = [branch for branch in self.branches.values() if branch.phase in MAY_ANSWER]
        return not left or (self.verdict is not None and all(branch.is_silent for branch in left))
