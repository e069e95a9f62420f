"""Registration at the running product: SIPp for what phones do every day, the wire-level phone for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.call import establish
from support.wire import Credentials

if TYPE_CHECKING:
    from support.pair import Pair
    from support.wire import Message

pytestmark = pytest.mark.interop


def contacts(response: Message) -> set[str]:
    """URIs of the bindings that a 200 lists."""
    found = {value.strip().lstrip("<").split(">")[0] for line in response.all("contact") for value in line.split(",")}
    return found - {""}


def test_sipp_registers_refreshes_and_unregisters(pair: Pair) -> None:
    script = pair.calling()
    script.callee = pair.caller
    for expires in (60, 300, 0):
        headers = f"Expires: {expires}\n"
        script.outside("REGISTER", headers=headers, to_domain=True)
        script.outside_again("REGISTER", 401, headers=headers, to_domain=True)
        script.recv(200, **({} if expires == 0 else {"Contact": rf"expires=({expires}|{expires - 1})"}))
        script.cseq += 1
    pair.play(script)
    assert pair.contacts(pair.caller) == []


def test_registrations_are_listed(pair: Pair) -> None:
    with pair.product.phone(pair.caller) as phone:
        assert phone.register(expires_s=120).status == 200
        assert pair.contacts(pair.caller) == [phone.contact]
        assert phone.register(expires_s=0).status == 200
        assert pair.contacts(pair.caller) == []


def test_several_contacts_and_a_query(pair: Pair) -> None:
    with pair.product.phone(pair.caller) as phone:
        second = f"sip:{pair.caller}@127.0.0.1:45678"
        assert phone.register(contacts=(f"<{phone.contact}>;q=0.5", f"<{second}>")).status == 200
        query = phone.register(contacts=(), expires_s=None)
        assert query.status == 200
        assert contacts(query) == {phone.contact, second}
        assert phone.register(contacts=(f"<{second}>;expires=0",), expires_s=None).status == 200
        assert contacts(phone.register(contacts=(), expires_s=None)) == {phone.contact}


def test_star_removes_all(pair: Pair) -> None:
    with pair.product.phone(pair.caller) as phone:
        assert phone.register(contacts=(f"<{phone.contact}>", "<sip:other@127.0.0.1:45679>")).status == 200
        assert phone.register(contacts=("*",), expires_s=300).status == 400  # RFC 3261 section 10.3 step 6
        assert phone.register(contacts=("*",), expires_s=0).status == 200
        assert contacts(phone.register(contacts=(), expires_s=None)) == set()


def test_too_brief(pair: Pair) -> None:
    with pair.product.phone(pair.caller) as phone:
        refused = phone.register(expires_s=1)
        assert refused.status == 423
        assert phone.register(expires_s=int(refused.get("min-expires"))).status == 200


def test_wrong_password(pair: Pair) -> None:
    with pair.product.phone(pair.caller) as phone:
        phone.credentials = Credentials(pair.caller, "wrong")
        assert phone.register().status in (401, 403)
        phone.credentials = Credentials("nobody-at-all", "wrong")
        assert phone.register().status in (401, 403)
    assert pair.contacts(pair.caller) == []


def test_no_account_registers_another(pair: Pair) -> None:
    with pair.product.phone(pair.callee) as thief:
        headers = [("Contact", f"<{thief.contact}>"), ("Expires", "300")]
        assert thief.ask("REGISTER", f"sip:{thief.domain}", pair.caller, headers).status == 403
    assert pair.contacts(pair.caller) == []


@pytest.mark.parametrize("algorithm", ["SHA-256", "MD5"])
def test_both_algorithms_are_offered_and_taken(pair: Pair, algorithm: str) -> None:
    with pair.product.phone(pair.caller) as phone:
        phone.extra, phone.algorithm = [("User-Agent", "PJSUA v2.14")], algorithm
        assert phone.register().status == 200


def test_a_phone_that_does_not_say_its_name_is_offered_what_every_phone_bears(pair: Pair) -> None:
    with pair.product.phone(pair.caller) as phone:
        phone.algorithm = "MD5"
        assert phone.register().status == 200
        assert phone.challenged == ["MD5"]


def test_an_old_cseq_changes_nothing(pair: Pair) -> None:
    with pair.product.phone(pair.caller) as phone:
        assert phone.register(expires_s=120).status == 200
        phone.register_cseq = 0  # the same Call-ID: out of order (RFC 3261 section 10.3 step 7)
        assert phone.register(expires_s=0).status in (400, 500)
        assert pair.contacts(pair.caller) == [phone.contact]


def test_a_contact_that_is_no_sip_address_is_kept_and_never_called(pair: Pair) -> None:
    with pair.product.phone(pair.callee) as phone:
        assert phone.register(contacts=("<mailto:bob@pbx.local>",)).status == 200
        assert pair.contacts(pair.callee) == ["mailto:bob@pbx.local"]
        pair.play(pair.calling().invite().recv(480).reject_ack())
        pair.cdr(outcome="unreachable", sip_status=480)
        assert phone.register().status == 200
        caller, callee = pair.product.phone(pair.caller), phone
        with caller:
            establish(caller, callee).hang_up()
