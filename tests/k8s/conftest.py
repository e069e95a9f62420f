"""A cluster of Kubernetes with what `make k8s-tools` has built; not run, by name, where that is missing.

The newest version with helm 4; with PBX_K8S=all (`make test-k8s`) each version with each helm.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.control_plane import ControlPlane, missing_for
from support.k8s_installation import Installation

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import k8s_tools

ALL = os.environ.get("PBX_K8S", "") == "all"
VERSIONS = os.environ.get("PBX_K8S_VERSIONS", "").split() or list(k8s_tools.KUBERNETES[: None if ALL else 1])
HELMS = os.environ.get("PBX_K8S_HELMS", "").split() or list(k8s_tools.HELM)[0 if ALL else -1 :]


@pytest.fixture(scope="module", params=VERSIONS)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Four nodes in two zones, a storage class that grows, and the kubelets."""
    missing = missing_for(request.param, k8s_tools.cache())
    if missing:
        pytest.skip(f"not run: {missing}")
    running = ControlPlane(request.param, k8s_tools.cache(), tmp_path_factory.mktemp("cluster"))
    try:
        running.start()
        for number in (1, 2, 3, 4):
            running.add_node(number)
        running.add_volumes(16)
        running.start_kubelets()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module", params=HELMS)
def helm(request: pytest.FixtureRequest) -> str:
    """helm 3 and helm 4."""
    program = k8s_tools.cache() / request.param
    if not program.exists():
        pytest.skip(f"not run: {program} is missing, `make k8s-tools` builds it")
    return str(program)


@pytest.fixture(scope="module")
def pbx(cluster: ControlPlane, helm: str) -> Iterator[Installation]:
    """The chart, installed and ready."""
    namespace = f"pbx-{Path(helm).name}"
    installation = Installation(cluster, helm, namespace)
    installation.install("--set", "relays.datapath=python", "--set", "relays.drain.deadlineSeconds=600")
    installation.wait_until_ready()
    yield installation
    installation.uninstall()
