"""The committed object of the kernel program: made of these sources, of this layout, whole or refused."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

import pytest

from pbx_media_relay.ebpf import abi, elf
from pbx_media_relay.ebpf.maps import OBJECT

SOURCES = Path(__file__).parents[3] / "services/media-relay/bpf"
COMPILED = resources.files("pbx_media_relay.ebpf").joinpath(OBJECT).read_bytes()


def test_the_object_was_made_of_these_sources() -> None:
    said = resources.files("pbx_media_relay.ebpf").joinpath(f"{OBJECT}.sources").read_text("ascii")
    names = ["relay.bpf.c", *sorted(path.name for path in SOURCES.glob("*.h"))]
    sums = "".join(f"{hashlib.sha256((SOURCES / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    assert said.split()[0] == hashlib.sha256(sums.encode()).hexdigest(), "make bpf"


def test_the_layout_is_the_one_that_python_knows() -> None:
    abi.check(elf.parse(COMPILED).layout)
    with pytest.raises(elf.ObjectError):
        abi.check((*abi.LAYOUT[:-1], 0))


def test_every_map_is_bound() -> None:
    program = elf.parse(COMPILED)
    assert {name for _, name in program.maps} == {"places", "forwards", "streams", "locals", "control"}
    code = program.bound({name: 7 for _, name in program.maps})
    for offset, _ in program.maps:
        assert code[offset + 1] >> 4 == 1
        assert code[offset + 4] == 7


@pytest.mark.parametrize("size", [0, 5, 64, len(COMPILED) // 2])
def test_a_cut_object_is_refused(size: int) -> None:
    with pytest.raises(elf.ObjectError):
        elf.parse(COMPILED[:size])


def test_addresses_go_into_the_maps_and_back() -> None:
    for host in ("192.0.2.1", "2001:db8::1"):
        value = abi.host_c(host)
        assert abi.host_text(bytes(value.address), value.family) == host
    assert abi.host_c("").family == 0
