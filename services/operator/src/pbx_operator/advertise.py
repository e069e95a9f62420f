"""Find the address that phones reach signaling by, and write it into a file: the init container of signaling.

`python -m pbx_operator.advertise FILE` waits until the address is known and says every few seconds what is missing. In
order (DESIGN section 8): with PBX_NODE the node's annotation, its ExternalIP, its InternalIP where
PBX_ALLOW_INTERNAL_IP is true; with PBX_SERVICE the ingress of that LoadBalancer. An address is never guessed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pbx_operator import addressing, credentials
from pbx_operator.apply import ApiServer
from pbx_operator.crd.pool import Addressing
from pbx_operator.kube import Kinds, Kube, KubeError
from pbx_operator.observed import Manifest, Node

INTERVAL_S: Final = 5.0


def of_service(service: Manifest) -> str:
    """The address of a LoadBalancer's ingress; empty: none yet. A name is as good as a literal in a Contact."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    for entry in ingress:
        if entry.get("ip"):
            return str(ipaddress.ip_address(entry["ip"]))
    return str(next((entry["hostname"] for entry in ingress if entry.get("hostname")), ""))


def of_node(body: Manifest, allow_internal: bool) -> str:
    """The address of a node, IPv4 before IPv6; empty: none."""
    wanted = Addressing(allow_internal_ip=allow_internal)
    return next(iter(addressing.advertised(Node.from_manifest(body), wanted)), "")


async def look(kube: Kube, environment: Mapping[str, str]) -> tuple[str, str]:
    """The address, and what is missing where there is none. Raises KubeError."""
    node = environment.get("PBX_NODE", "")
    if node:
        allowed = environment.get("PBX_ALLOW_INTERNAL_IP", "").lower() == "true"
        found = of_node(await kube.get(Kinds.NODE, "", node), allowed)
        return found, addressing.explain_unknown(node, Addressing())
    name = environment["PBX_SERVICE"]
    found = of_service(await kube.get(Kinds.SERVICE, environment["PBX_NAMESPACE"], name))
    missing = f"service {name} has no LoadBalancer ingress yet: is there a load balancer controller? Or set its address"
    return found, f"{missing} with signaling.advertise"


async def wait(kube: Kube, environment: Mapping[str, str], interval_s: float = INTERVAL_S) -> str:
    """Look until the address is known."""
    while True:
        try:
            found, missing = await look(kube, environment)
        except KubeError as error:
            found, missing = "", str(error)
        if found:
            return found
        sys.stderr.write(f"waiting for an address to advertise: {missing}\n")
        await asyncio.sleep(interval_s)


async def find() -> str:
    """Wait with the credentials of this pod."""
    access = credentials.find_access()
    async with ApiServer(access.url, access.headers, access.ssl) as kube:
        return await wait(kube, os.environ)


def main(path: Path) -> None:
    """Wait, then write the file."""
    found = asyncio.run(find())
    path.write_text(f"{found}\n", encoding="ascii")
    sys.stderr.write(f"advertising {found}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
