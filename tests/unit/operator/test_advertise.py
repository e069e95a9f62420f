"""Which address signaling tells phones."""

from __future__ import annotations

import pytest

from pbx_operator import advertise
from pbx_operator.addressing import advertised
from pbx_operator.crd.pool import Addressing
from pbx_operator.kube import Kinds
from pbx_operator.observed import Manifest, Node
from support.fake_kube import FakeKube, merge, node


def noted(text: str) -> Manifest:
    return {"metadata": {"annotations": {"pbx.io/advertise": text}}}


INTERNAL = {"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}


@pytest.mark.parametrize(
    ("ingress", "expected"),
    [
        ([], ""),
        ([{"ip": "203.0.113.1"}], "203.0.113.1"),
        ([{"hostname": "lb.example.com"}], "lb.example.com"),
        ([{"hostname": "lb.example.com"}, {"ip": "203.0.113.1"}], "203.0.113.1"),
    ],
)
def test_of_a_service(ingress: list[Manifest], expected: str) -> None:
    assert advertise.of_service({"status": {"loadBalancer": {"ingress": ingress}}}) == expected


@pytest.mark.parametrize(
    ("change", "wanted", "expected"),
    [
        ({}, {}, ("192.0.2.1",)),
        (noted("198.51.100.1, 2001:db8::1"), {}, ("198.51.100.1", "2001:db8::1")),
        (noted("nonsense"), {}, ("192.0.2.1",)),
        ({}, {"advertise": ("203.0.113.9",)}, ("203.0.113.9",)),
        (INTERNAL, {}, ()),
        (INTERNAL, {"allow_internal_ip": True}, ("10.0.0.1",)),
        ({}, {"external_ip": False}, ()),
    ],
)  # fmt: skip
def test_of_a_node_in_order_and_never_guessed(change: Manifest, wanted: Manifest, expected: tuple[str, ...]) -> None:
    body = merge(node("node-1", 1), change)
    assert advertised(Node.from_manifest(body), Addressing(**wanted)) == expected


async def test_it_waits_and_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    kube = FakeKube()
    place = {"PBX_SERVICE": "sip", "PBX_NAMESPACE": "pbx"}
    service = {"metadata": {"name": "sip", "namespace": "pbx"}}
    kube.put(Kinds.SERVICE, service)
    assert (await advertise.look(kube, place))[0] == ""
    reads = 0

    class Late(FakeKube):
        async def get(self, kind: Kinds, namespace: str, name: str) -> Manifest:
            nonlocal reads
            reads += 1
            return {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}] if reads > 1 else []}}}

    assert await advertise.wait(Late(), place, interval_s=0) == "203.0.113.1"
    assert "no LoadBalancer ingress yet" in capsys.readouterr().err
