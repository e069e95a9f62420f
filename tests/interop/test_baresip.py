"""Two headless baresip phones through the product: each hears the other's tone, and the CDR and webhook tell of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.two_phones import hold_and_dial, talk

if TYPE_CHECKING:
    from support.pair import Pair

pytestmark = pytest.mark.interop


def test_two_phones_hear_each_other(pair: Pair) -> None:
    talk(pair)


@pytest.mark.parametrize("transports", [("tcp", "tls"), ("tls", ""), ("", "tcp"), ("tls", "tls")], ids="-".join)
def test_hold_resume_and_a_digit_over_other_transports(pair: Pair, transports: tuple[str, str]) -> None:
    hold_and_dial(pair, transports)
