"""Values that Kubernetes checks by rules of its own: the same rules, so that a mistake is refused where it is made.

Each has two sides: the pydantic type (what the operator reads) and the pattern or CEL rule of the CRD (what the API
server admits). Written as regular expressions where a function of CEL would do: the chart supports Kubernetes 1.27.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from pbx_operator.crd.base import cel
from pbx_operator.crd.schema import INT_OR_STRING

ENTRIES_MAX: Final = 64
"""Labels, annotations, variables: more is a mistake."""
KEY: Final = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
"""A label's or an annotation's key: [domain/]name."""
_KEY_SHAPE: Final = r"^([a-z0-9][-a-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
"""The same without lengths: the API server reckons a rule's cost by its pattern's length, and refuses the CRD."""
LABEL_VALUE: Final = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
NAME: Final = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
"""Of an object: a DNS subdomain."""
AMOUNT: Final = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"
BINARY_SIZE: Final = r"^[1-9][0-9]*(Mi|Gi|Ti)$"
FORBIDDEN_ANNOTATIONS: Final = (
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
)
"""Beginnings of keys that would lift the relay's confinement."""
_IPV4: Final = r"^(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}$"
_IPV6: Final = r"^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*$"
_NOBODY: Final = r"^(0\..*|22[4-9]\..*|2[3-5][0-9]\..*|::|[fF][fF][0-9a-fA-F]{2}:.*)$"
"""Unspecified, multicast and reserved addresses: no phone can send there."""


def _amount(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _binary(text: str) -> str:
    if mebibytes(text) < 16:
        raise ValueError(f"{text!r} is less than 16Mi")
    return text


def mebibytes(size: str) -> int:
    """A size of `BinarySize` in MiB."""
    return int(size[:-2]) << {"Mi": 0, "Gi": 10, "Ti": 20}[size[-2:]]


def _is_address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is no IP address") from None
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"{text!r} is an address to which no phone can send")
    return text


def _has_label_keys(labels: dict[str, str]) -> dict[str, str]:
    for key in labels:
        if not re.match(KEY, key):
            raise ValueError(f"{key!r} is no key: [domain/]name")
    return labels


def _confines(annotations: dict[str, str]) -> dict[str, str]:
    for key in annotations:
        if key.startswith(FORBIDDEN_ANNOTATIONS):
            raise ValueError(f"{key!r} is not for a pool to set")
    return annotations


Amount = Annotated[
    str,
    BeforeValidator(_amount),
    Field(pattern=AMOUNT),
    WithJsonSchema({INT_OR_STRING: True, "anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": AMOUNT}),
]
"""A quantity, `2` and `"2"` alike."""
BinarySize = Annotated[str, Field(pattern=BINARY_SIZE, max_length=16), AfterValidator(_binary)]
"""Size of a volume, 16Mi or more."""
LabelValue = Annotated[str, Field(pattern=LABEL_VALUE, max_length=63)]
Labels = Annotated[dict[str, LabelValue], AfterValidator(_has_label_keys), Field(max_length=ENTRIES_MAX)]
Annotations = Annotated[
    dict[str, str], AfterValidator(_has_label_keys), AfterValidator(_confines), Field(max_length=ENTRIES_MAX)
]
Address = Annotated[
    str,
    AfterValidator(_is_address),
    Field(max_length=45),
]
"""An IP address that can be announced."""

KEYS_RULE: Final[dict[str, str]] = cel(f"self.all(key, key.matches(r'{_KEY_SHAPE}'))", "a key is [domain/]name")
ANNOTATIONS_RULE: Final[dict[str, str]] = cel(
    "!self.exists(key, " + " || ".join(f"key.startsWith('{start}')" for start in FORBIDDEN_ANNOTATIONS) + ")",
    "annotations that lift the confinement of a pod are not for a pool to set",
)
ADDRESS_RULES: Final[list[dict[str, str]]] = [
    cel(
        f"self.all(a, (a.matches(r'{_IPV4}') || a.matches(r'{_IPV6}')) && !a.matches(r'{_NOBODY}'))",
        "advertise holds IP addresses that phones can send to",
    ),
    cel(
        "self.filter(a, a.contains(':')).size() <= 1 && self.filter(a, !a.contains(':')).size() <= 1",
        "advertise holds at most one address of each family",
    ),
]
ADDRESS_SCHEMA: Final[dict[str, Any]] = {"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
