"""RFC 3261 section 10.3 and RFC 5626 section 6, rule by rule."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx_registrar.bindings import (
    USER_AGENT_MAX,
    Binding,
    ChangeKind,
    Contact,
    Flow,
    Outcome,
    Policy,
    Registration,
    Report,
    expire,
    register,
    report,
    unregister,
)
from support.registrations import AOR, NOW_MS, TCP, UDP, binding, contact, registration, uris

POLICY = Policy(expires_default_s=3600, expires_min_s=60, expires_max_s=7200, bindings_max=3)
A, B, C, D = (f"sip:1004@192.0.2.{n}:5060" for n in range(1, 5))
PHONE = "urn:uuid:00000000-0000-1000-8000-000A95A0E128"


def kinds(outcome: Outcome) -> list[ChangeKind]:
    return [change.kind for change in outcome.changes]


def apply(current: list[Binding], request: Registration, now_ms: int = NOW_MS) -> Outcome:
    return register(current, request, POLICY, now_ms)


def test_a_first_contact_is_bound_with_all_that_the_request_says() -> None:
    request = registration(contact(A, q_thousandths=700), cseq=3, path=("<sip:edge;lr>",), flow=TCP)
    outcome = apply([], request)
    assert (outcome.status, kinds(outcome), outcome.outbound) == (200, [ChangeKind.ADDED], False)
    assert outcome.bindings == (
        Binding(
            aor=AOR,
            uri=A,
            q_thousandths=700,
            expires_at_ms=NOW_MS + 600_000,
            flow=TCP,
            path=("<sip:edge;lr>",),
            call_id="reg-1",
            cseq=3,
            user_agent="Phone/1.0",
            sip_instance="",
            reg_id=0,
            registered_at_ms=NOW_MS,
            refreshed_at_ms=NOW_MS,
        ),
    )


def test_a_refresh_moves_expiry_flow_and_order_and_keeps_the_beginning() -> None:
    first = apply([], registration(contact(A)))
    later = apply([*first.bindings], registration(contact(A), cseq=2, flow=TCP), NOW_MS + 5_000)
    (after,) = later.bindings
    assert kinds(later) == [ChangeKind.REFRESHED]
    assert (after.cseq, after.flow, after.registered_at_ms) == (2, TCP, NOW_MS)
    assert after.expires_at_ms == NOW_MS + 605_000


def test_several_contacts_of_one_request_are_bound_in_their_order() -> None:
    outcome = apply([], registration(contact(A), contact(B), contact(C)))
    assert uris(outcome.bindings) == [A, B, C]


def test_bindings_stand_best_q_first_then_most_recently_registered() -> None:
    current = [binding(A, q_thousandths=500), binding(B, q_thousandths=900)]
    outcome = apply(current, registration(contact(C, q_thousandths=500), cseq=2))
    assert uris(outcome.bindings) == [B, C, A]


def test_a_refresh_without_change_of_q_brings_a_binding_to_the_front_of_its_equals() -> None:
    outcome = apply([binding(A), binding(B)], registration(contact(B), cseq=2))
    assert uris(outcome.bindings) == [B, A]


def test_a_contact_twice_in_one_request_is_one_binding_and_the_last_counts() -> None:
    outcome = apply([], registration(contact(A, 600), contact(A, 1200)))
    assert [each.expires_at_ms for each in outcome.bindings] == [NOW_MS + 1_200_000]
    assert kinds(outcome) == [ChangeKind.ADDED, ChangeKind.REFRESHED]


def test_expires_zero_removes_that_contact_alone() -> None:
    outcome = apply([binding(A), binding(B)], registration(contact(A, 0), cseq=2))
    assert (uris(outcome.bindings), kinds(outcome)) == ([B], [ChangeKind.REMOVED])


def test_removal_of_what_is_not_bound_is_no_error_and_no_change() -> None:
    outcome = apply([binding(A)], registration(contact(B, 0), cseq=2))
    assert (outcome.status, outcome.changes, uris(outcome.bindings)) == (200, (), [A])


def test_one_request_may_remove_and_add() -> None:
    outcome = apply([binding(A)], registration(contact(A, 0), contact(B), cseq=2))
    assert (uris(outcome.bindings), kinds(outcome)) == ([B], [ChangeKind.REMOVED, ChangeKind.ADDED])


def test_star_removes_all() -> None:
    outcome = apply([binding(A), binding(B, call_id="other", cseq=9)], registration(remove_all=True, cseq=2))
    assert (outcome.status, outcome.bindings) == (200, ())
    assert kinds(outcome) == [ChangeKind.REMOVED] * 2


def test_star_beside_a_contact_is_refused() -> None:
    assert apply([], registration(contact(A), remove_all=True)).status == 400


def test_star_with_an_old_cseq_removes_nothing() -> None:
    current = [binding(A, cseq=5), binding(B, call_id="other", cseq=1)]
    outcome = apply(current, registration(remove_all=True, cseq=5))
    assert (outcome.status, outcome.changes) == (500, ())


def test_a_query_lists_and_changes_nothing() -> None:
    outcome = apply([binding(A), binding(B, expires_at_ms=NOW_MS)], registration(cseq=1))
    assert (outcome.status, uris(outcome.bindings), outcome.changes) == (200, [A], ())


@pytest.mark.parametrize(
    ("asked_s", "granted_s"), [(None, 3600), (60, 60), (600, 600), (7200, 7200), (7201, 7200), (2**32 - 1, 7200)]
)
def test_lifetimes_granted(asked_s: int | None, granted_s: int) -> None:
    (made,) = apply([], registration(contact(A, asked_s))).bindings
    assert made.expires_at_ms == NOW_MS + granted_s * 1000


@pytest.mark.parametrize("asked_s", [1, 59])
def test_too_brief_a_lifetime_is_423_for_the_whole_request(asked_s: int) -> None:
    outcome = apply([], registration(contact(A), contact(B, asked_s)))
    assert (outcome.status, outcome.min_expires_s, outcome.changes) == (423, 60, ())


def test_an_hour_is_never_too_brief() -> None:
    # RFC 3261 section 10.3 step 7: 423 only below one hour, whatever the minimum.
    policy = dataclasses.replace(POLICY, expires_min_s=5000, expires_default_s=6000)
    assert register([], registration(contact(A, 3600)), policy, NOW_MS).status == 200
    assert register([], registration(contact(A, 3599)), policy, NOW_MS).status == 423


@pytest.mark.parametrize(("cseq", "status"), [(4, 500), (5, 500), (6, 200)])
def test_with_the_same_call_id_only_a_higher_cseq_changes_a_binding(cseq: int, status: int) -> None:
    outcome = apply([binding(A, cseq=5)], registration(contact(A), cseq=cseq))
    assert (outcome.status, bool(outcome.changes)) == (status, status == 200)


def test_another_call_id_starts_its_own_order() -> None:
    assert apply([binding(A, cseq=5)], registration(contact(A), call_id="rebooted", cseq=1)).status == 200


def test_a_contact_out_of_order_refuses_the_whole_request() -> None:
    outcome = apply([binding(A, cseq=5)], registration(contact(B), contact(A), cseq=5))
    assert (outcome.status, outcome.changes, outcome.bindings) == (500, (), ())


def test_an_expired_binding_holds_no_order() -> None:
    outcome = apply([binding(A, NOW_MS, cseq=5)], registration(contact(A), cseq=1))
    assert outcome.status == 200
    assert kinds(outcome) == [ChangeKind.EXPIRED, ChangeKind.ADDED]


def test_bindings_beyond_the_limit_are_refused_whole() -> None:
    full = [binding(A), binding(B), binding(C)]
    outcome = apply(full, registration(contact(D), cseq=2))
    assert (outcome.status, outcome.changes) == (403, ())
    assert apply(full, registration(contact(C), cseq=2)).status == 200
    assert apply(full, registration(contact(C, 0), contact(D), cseq=2)).status == 200


def test_a_lowered_limit_lets_phones_refresh() -> None:
    crowd = [binding(uri) for uri in (A, B, C, D)]
    assert apply(crowd, registration(contact(D), cseq=2)).status == 200


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (registration(contact("")), "Contact Too Long"),
        (registration(contact("sip:" + "x" * 1021)), "Contact Too Long"),
        (registration(contact(A), contact("sip:" + "x" * 1021)), "Contact Too Long"),
        (registration(contact(A, sip_instance="urn:" + "i" * 253)), "Instance Too Long"),
        (registration(contact(A), contact(B, sip_instance="urn:" + "i" * 253, reg_id=2)), "Instance Too Long"),
        (registration(contact(A), call_id="c" * 513), "Call-ID Too Long"),
        (registration(contact(A), path=("<sip:p;lr>",) * 11), "Path Too Long"),
        (registration(contact(A), path=("<sip:p;lr>", f"<sip:{'p' * 1020}>")), "Path Too Long"),
    ],
)
def test_what_is_too_large_is_refused_and_told(request_: Registration, reason: str) -> None:
    outcome = apply([], request_)
    assert (outcome.status, outcome.reason, outcome.changes) == (400, reason, ())


def test_the_longest_that_may_be_kept_is_kept() -> None:
    longest = contact("sip:" + "x" * 1020, sip_instance="i" * 256)
    outcome = apply([], registration(longest, call_id="c" * 512, path=("p" * 1024,) * 10))
    assert outcome.status == 200


def test_the_user_agent_is_cut() -> None:
    (made,) = apply([], registration(contact(A), user_agent="x" * 1000)).bindings
    assert len(made.user_agent) == USER_AGENT_MAX


# RFC 5626


def flow_contact(uri: str, reg_id: int = 1, instance: str = PHONE, expires_s: int | None = 600) -> Contact:
    return contact(uri, expires_s, sip_instance=instance, reg_id=reg_id)


def test_instance_and_reg_id_name_the_binding_whatever_the_uri() -> None:
    first = apply([], registration(flow_contact(A)))
    moved = apply([*first.bindings], registration(flow_contact(B), call_id="rebooted", flow=TCP))
    assert (uris(moved.bindings), kinds(moved), moved.outbound) == ([B], [ChangeKind.REFRESHED], True)


def test_the_instance_is_compared_without_regard_to_case() -> None:
    first = apply([], registration(flow_contact(A)))
    again = apply([*first.bindings], registration(flow_contact(B, instance=PHONE.lower()), cseq=2))
    assert len(again.bindings) == 1


def test_each_reg_id_is_a_flow_of_its_own_even_with_one_uri() -> None:
    first = apply([], registration(flow_contact(A, reg_id=1)))
    both = apply([*first.bindings], registration(flow_contact(A, reg_id=2), call_id="flow-2", flow=TCP))
    assert [each.reg_id for each in both.bindings] == [2, 1]


def test_another_instance_with_the_same_reg_id_is_another_phone() -> None:
    first = apply([], registration(flow_contact(A)))
    both = apply([*first.bindings], registration(flow_contact(B, instance="urn:uuid:other"), call_id="b"))
    assert len(both.bindings) == 2


def test_several_lasting_contacts_with_reg_id_are_refused() -> None:
    assert apply([], registration(flow_contact(A, 1), flow_contact(B, 2))).status == 400
    assert apply([], registration(flow_contact(A, 1), flow_contact(B, 2, expires_s=0))).status == 200


def test_a_reg_id_without_an_instance_is_ignored() -> None:
    outcome = apply([], registration(contact(A, reg_id=1)))
    assert (outcome.outbound, outcome.bindings[0].reg_id) == (False, 0)


def test_the_order_holds_for_a_flow_too() -> None:
    first = apply([], registration(flow_contact(A), cseq=5))
    assert apply([*first.bindings], registration(flow_contact(B), cseq=5)).status == 500


def test_removing_a_flow_is_not_answered_with_outbound() -> None:
    first = apply([], registration(flow_contact(A)))
    gone = apply([*first.bindings], registration(flow_contact(B, expires_s=0), cseq=2))
    assert (gone.bindings, gone.outbound, kinds(gone)) == ((), False, [ChangeKind.REMOVED])


def test_a_phone_that_turns_outbound_on_or_off_keeps_one_binding() -> None:
    plain = apply([], registration(contact(A)))
    with_flow = apply([*plain.bindings], registration(flow_contact(A), cseq=2))
    assert len(with_flow.bindings) == 1
    assert len(apply([*with_flow.bindings], registration(contact(A), cseq=3)).bindings) == 1


def test_one_uri_over_two_flows_registered_plainly_ends_both() -> None:
    flows = [binding(A, sip_instance=PHONE, reg_id=n) for n in (1, 2)]
    outcome = apply(flows, registration(contact(A), cseq=2))
    assert len(outcome.bindings) == 1
    assert sorted(kinds(outcome)) == [ChangeKind.REFRESHED, ChangeKind.REMOVED]


# Removal without a REGISTER, expiry


@pytest.mark.parametrize(
    ("uri", "flow", "left"),
    [
        ("", None, []),
        (A, None, [B]),
        ("", TCP, [B]),
        (B, TCP, [A, B]),
        ("", dataclasses.replace(TCP, connection_id=8), [A, B]),
        ("", dataclasses.replace(TCP, instance_id="s2"), [A, B]),
        ("", UDP, [A]),
        ("", dataclasses.replace(UDP, port=5061), [A, B]),
    ],
)
def test_removal_takes_what_is_meant(uri: str, flow: Flow | None, left: list[str]) -> None:
    outcome = unregister([binding(A, flow=TCP), binding(B, flow=UDP)], uri, flow, NOW_MS)
    assert uris(outcome.bindings) == left
    assert kinds(outcome) == [ChangeKind.REMOVED] * (2 - len(left))


def test_a_broken_flow_leaves_the_binding_that_moved_to_a_new_one() -> None:
    moved = binding(A, flow=dataclasses.replace(TCP, connection_id=8))
    assert unregister([moved], "", TCP, NOW_MS).changes == ()


def test_expiry_drops_what_ran_out_and_nothing_else() -> None:
    outcome = expire([binding(A, NOW_MS), binding(B, NOW_MS + 1)], NOW_MS)
    assert (uris(outcome.bindings), kinds(outcome)) == ([B], [ChangeKind.EXPIRED])


CONTACTS = st.lists(
    st.builds(
        Contact,
        st.sampled_from([A, B, C, D]),
        st.sampled_from([None, 0, 30, 600]),
        st.integers(0, 1000),
        st.sampled_from(["", PHONE]),
        st.integers(0, 2),
    ),
    max_size=4,
)
REQUESTS = st.builds(
    lambda contacts, everything, call, cseq, wait: (
        registration(*([] if everything else contacts), remove_all=everything, call_id=call, cseq=cseq),
        wait,
    ),
    CONTACTS,
    st.booleans(),
    st.sampled_from(["a", "b"]),
    st.integers(1, 20),
    st.integers(0, 400_000),
)


@given(st.lists(REQUESTS, max_size=8))
def test_whatever_comes_the_table_stays_sound(requests: list[tuple[Registration, int]]) -> None:
    table: list[Binding] = []
    now_ms = NOW_MS
    for request, wait_ms in requests:
        now_ms += wait_ms
        outcome = register(table, request, POLICY, now_ms)
        if outcome.status != 200:
            assert outcome.changes == ()
            continue
        if outcome.changes:
            told = {ChangeKind.ADDED: 1, ChangeKind.REMOVED: -1, ChangeKind.EXPIRED: -1}
            assert len(outcome.bindings) == len(table) + sum(told.get(kind, 0) for kind in kinds(outcome))
            table = [*outcome.bindings]
        assert len(outcome.bindings) <= POLICY.bindings_max
        assert all(each.expires_at_ms > now_ms for each in outcome.bindings)
        flows = [(each.sip_instance, each.reg_id) for each in outcome.bindings if each.reg_id]
        assert len(set(flows)) == len(flows)
        plain = [each.uri for each in outcome.bindings if not each.reg_id]
        assert len(set(plain)) == len(plain)
        assert [each.q_thousandths for each in outcome.bindings] == sorted(
            (each.q_thousandths for each in outcome.bindings), reverse=True
        )


def again(cseq: int, after_ms: int, **more: object) -> Outcome:
    """A second REGISTER of a phone that was bound with CSeq 40."""
    first = binding(A, cseq=40, refreshed_at_ms=NOW_MS)
    return apply([first], registration(contact(A), cseq=cseq, **more), NOW_MS + after_ms)


@pytest.mark.parametrize(
    ("cseq", "after_ms", "more", "status"),
    [
        # Overtaken on the way: from the same place, hardly behind, at once.
        (40, 100, {}, 500),
        (39, 100, {}, 500),
        (38, 31_000, {}, 500),
        # It began anew: from elsewhere, far behind, or when no datagram of then can be under way any more.
        (40, 100, {"flow": TCP}, 200),
        (39, 100, {"flow": dataclasses.replace(UDP, port=5071)}, 200),
        (1, 100, {}, 200),
        (37, 100, {}, 200),
        (40, 33_000, {}, 200),
        # Another Call-ID has its own order.
        (39, 100, {"call_id": "reg-2"}, 200),
    ],
)
def test_a_phone_that_began_to_count_anew_is_let_in(
    cseq: int, after_ms: int, more: dict[str, object], status: int
) -> None:
    assert again(cseq, after_ms, **more).status == status


def test_the_oldest_binding_of_the_same_device_makes_room() -> None:
    def old(uri: str, age_s: int, instance: str = PHONE) -> Binding:
        return binding(uri, sip_instance=instance, refreshed_at_ms=NOW_MS - age_s * 1000, call_id=uri)

    full = [old(A, 10), old(B, 30), old(C, 60, "urn:uuid:other")]
    outcome = apply(full, registration(contact(D, sip_instance=PHONE.lower()), cseq=9))
    assert (outcome.status, uris(outcome.bindings)) == (200, [D, A, C])
    assert [(change.kind, change.binding.uri) for change in outcome.changes] == [
        (ChangeKind.ADDED, D),
        (ChangeKind.REMOVED, B),
    ]
    refused = apply(full, registration(contact(D, sip_instance="urn:uuid:third"), cseq=9))
    assert (refused.status, refused.reason, refused.changes) == (403, "Too Many Contacts", ())


def test_what_a_keep_alive_found_out_is_noted_until_the_phone_registers() -> None:
    bound = apply([], registration(contact(A))).bindings
    gone = report(bound, UDP, Report(False), NOW_MS + 1_000)
    assert kinds(gone) == [ChangeKind.REPORTED]
    assert gone.bindings[0].unreachable_since_ms == NOW_MS + 1_000
    still = report(gone.bindings, UDP, Report(False), NOW_MS + 9_000)
    assert (still.changes, still.bindings) == ((), gone.bindings)
    back = report(gone.bindings, UDP, Report(True, 12), NOW_MS + 9_000)
    assert (back.bindings[0].unreachable_since_ms, back.bindings[0].round_trip_ms) == (0, 12)
    again = apply(list(gone.bindings), registration(contact(A), cseq=2), NOW_MS + 9_000)
    assert again.bindings[0].unreachable_since_ms == 0
    kept = apply(list(back.bindings), registration(contact(A), cseq=2), NOW_MS + 9_000)
    assert kept.bindings[0].round_trip_ms == 12


@pytest.mark.parametrize("flow", [TCP, dataclasses.replace(UDP, port=5071), dataclasses.replace(UDP, instance_id="s2")])
def test_a_report_about_another_flow_is_about_nobody(flow: Flow) -> None:
    bound = apply([], registration(contact(A))).bindings
    assert not any(each.is_kept_by(flow) for each in bound)
    assert report(bound, flow, Report(False), NOW_MS).changes == ()
