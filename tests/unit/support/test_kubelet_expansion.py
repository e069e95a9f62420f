"""The stand-in for the kubelet reads `$(NAME)` as the kubelet does."""

from __future__ import annotations

import pytest

from support.kubelet.expansion import command_of, environment_of, expand, probe_command

CONTAINER = {
    "env": [
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "LISTEN", "value": "[$(IP)]:9102"},
        {"name": "EARLY", "value": "$(LATE)"},
        {"name": "LATE", "value": "x"},
        {"name": "EMPTY"},
    ],
    "command": ["serve", "$(LISTEN)"],
    "args": ["$$(IP)", "$(date)"],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(C)", "$(C)"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("50$", "50$"),
        ('$(printf %s "$X" | od)', '$(printf %s "$X" | od)'),
        ("", ""),
    ],
)
def test_expansion(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expected


def test_values_know_what_was_declared_before_them_whatever_its_source() -> None:
    found = environment_of(CONTAINER, lambda source: "10.0.0.7")
    assert found == {"IP": "10.0.0.7", "LISTEN": "[10.0.0.7]:9102", "EARLY": "$(LATE)", "LATE": "x", "EMPTY": ""}
    assert command_of(CONTAINER, found) == ["serve", "[10.0.0.7]:9102", "$(IP)", "$(date)"]


def test_a_probe_knows_plain_values_alone_as_they_are_written() -> None:
    command = ["probe", "$(IP):9112", "$(LATE)", "$(LISTEN)", "$(NOBODY)"]
    assert probe_command(CONTAINER, command) == ["probe", ":9112", "x", "[$(IP)]:9102", "$(NOBODY)"]
