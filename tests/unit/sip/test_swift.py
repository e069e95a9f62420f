"""Frozen values that are made quickly are what the dataclass would have made, and as frozen."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, replace
from typing import Any

import pytest

from pbx_sip.swift import swift


@dataclass(frozen=True, slots=True)
class Plain:
    first: int
    second: str = "two"
    third: list[int] = field(default_factory=list)
    fourth: tuple[int, ...] | None = None


@swift
@dataclass(frozen=True, slots=True)
class Swift:
    first: int
    second: str = "two"
    third: list[int] = field(default_factory=list)
    fourth: tuple[int, ...] | None = None


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}),
    ((1, "x", [3], (4,)), {}),
    ((1,), {"third": [5], "second": "y"}),
    ((), {"first": 7, "fourth": None}),
]


@pytest.mark.parametrize(("given", "named"), CALLS)
def test_it_is_what_the_dataclass_makes(given: tuple[Any, ...], named: dict[str, Any]) -> None:
    plain, quick = Plain(*given, **named), Swift(*given, **named)
    assert type(quick) is Swift
    assert repr(quick) == repr(plain).replace("Plain", "Swift")
    assert quick == Swift(*given, **named)
    assert copy.copy(quick) == copy.deepcopy(quick) == pickle.loads(pickle.dumps(quick)) == quick
    assert replace(quick, first=9) == Swift(9, quick.second, quick.third, quick.fourth)
    match quick:
        case Swift(first, second, third, fourth):
            assert (first, second, third, fourth) == (plain.first, plain.second, plain.third, plain.fourth)
        case _:
            pytest.fail("it matches by position")


def test_it_is_frozen_and_has_no_other_places() -> None:
    quick = Swift(1)
    for name in ("first", "fifth"):
        with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
            setattr(quick, name, 2)
    with pytest.raises((FrozenInstanceError, TypeError)):
        del quick.first  # type: ignore[misc]
    assert quick.first == 1
    assert not hasattr(quick, "__dict__")


def test_values_do_not_share_what_a_factory_makes() -> None:
    assert Swift(1).third is not Swift(1).third


@pytest.mark.parametrize(
    ("given", "named"), [((), {}), ((1, "", [], (), 5), {}), ((1,), {"fifth": 2}), ((1,), {"first": 2})]
)
def test_wrong_parameters_are_refused_as_ever(given: tuple[Any, ...], named: dict[str, Any]) -> None:
    for kind in (Plain, Swift):
        with pytest.raises(TypeError, match="argument"):
            kind(*given, **named)


def test_its_signature_is_the_dataclasses() -> None:
    plain, quick = inspect.signature(Plain), inspect.signature(Swift)
    assert [(p.name, p.kind, p.annotation) for p in plain.parameters.values()] == [
        (p.name, p.kind, p.annotation) for p in quick.parameters.values()
    ]


@dataclass(slots=True)
class Open:
    first: int


@dataclass(frozen=True)
class WithDict:
    first: int


@dataclass(frozen=True, slots=True)
class Checked:
    first: int

    def __post_init__(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Heir(Plain):
    fifth: int = 5


@dataclass(frozen=True, slots=True)
class Named:
    first: int = field(kw_only=True)


@pytest.mark.parametrize("kind", [Open, WithDict, Checked, Heir, Named])
def test_what_it_is_not_made_for_is_refused(kind: type) -> None:
    with pytest.raises(TypeError):
        swift(kind)
