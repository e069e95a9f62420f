"""Which engine gRPC waits with: chosen before gRPC is loaded, in words that the locked gRPC knows."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pbx_runtime.grpc_engine import EXPERIMENTS

LOADED = (
    "import sys, {package}.__main__; names = list(sys.modules); print(names.index({engine!r}), names.index('grpc'))"
)


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"} | environment
    return subprocess.run(
        [sys.executable, "-c", program], env=clean, capture_output=True, text=True, check=True, timeout=60
    )


@pytest.mark.parametrize("package", ["pbx_events", "pbx_media_relay", "pbx_operator", "pbx_registrar", "pbx_signaling"])
def test_every_service_chooses_before_grpc_is_loaded(package: str) -> None:
    engine, grpc = map(int, run(LOADED.format(package=package, engine="pbx_runtime.grpc_engine")).stdout.split())
    assert engine < grpc


def test_the_locked_grpc_knows_what_is_switched_off() -> None:
    ended = run("import pbx_runtime.grpc_engine, os, grpc.aio; print(os.environ['GRPC_EXPERIMENTS'])")
    assert ended.stdout.strip() == EXPERIMENTS
    assert "Unknown experiment" not in ended.stderr, ended.stderr
    wrong = run("import grpc.aio", GRPC_EXPERIMENTS="-no_such_thing")
    assert "Unknown experiment" in wrong.stderr, "the test would see it"


def test_whoever_sets_the_variable_is_heard() -> None:
    ended = run("import pbx_runtime.grpc_engine, os; print(os.environ['GRPC_EXPERIMENTS'])", GRPC_EXPERIMENTS="mine")
    assert ended.stdout.strip() == "mine"
