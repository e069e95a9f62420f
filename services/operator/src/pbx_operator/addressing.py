"""Which address a relay announces to phones (DESIGN section 8). Pure; never a guess.

In order: given in the pool, the node's annotation, the node's ExternalIP, its InternalIP if that is allowed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from pbx_operator.crd.pool import Addressing
from pbx_operator.observed import Node


def one_per_family(addresses: Iterable[str]) -> tuple[str, ...]:
    """The first address of each family, in the order given; what is no IP literal is left out."""
    found: dict[int, str] = {}
    for text in addresses:
        try:
            address = ipaddress.ip_address(text.strip())
        except ValueError:
            continue
        found.setdefault(address.version, str(address))
    return tuple(found.values())


def advertised(node: Node, wanted: Addressing) -> tuple[str, ...]:
    """What the relays of a node announce: at most one address of each family; empty: not known."""
    sources = [wanted.advertise]
    if wanted.annotation:
        sources.append(tuple(node.annotations.get(wanted.annotation, "").split(",")))
    if wanted.external_ip:
        sources.append(of_type(node, "ExternalIP"))
    if wanted.allow_internal_ip:
        sources.append(of_type(node, "InternalIP"))
    return next((found for found in map(one_per_family, sources) if found), ())


def of_type(node: Node, kind: str) -> tuple[str, ...]:
    """A node's addresses of one type."""
    return tuple(address for type_, address in node.addresses if type_ == kind)


def control_host(node: Node) -> str:
    """Where the cluster reaches a relay on this node; empty: not known."""
    internal = one_per_family(of_type(node, "InternalIP"))
    return internal[0] if internal else ""


def explain_unknown(node: str, wanted: Addressing) -> str:
    """What a person can do about an address that is not known."""
    return (
        f"node {node} has no address to announce: annotate it ({wanted.annotation}=ADDRESS), give it an ExternalIP, "
        "set spec.addressing.advertise, or allow spec.addressing.allowInternalIp where phones reach it directly"
    )
