"""Two headless baresip phones through the product: each hears the other's tone, and the CDR and webhook tell of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.two_phones import talk

if TYPE_CHECKING:
    from support.pair import Pair

pytestmark = pytest.mark.interop


def test_two_phones_hear_each_other(pair: Pair) -> None:
    talk(pair)
