"""What is installed is what requirements.lock names, and nothing that an index offers since it was written."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LIBRARIES = {"pbx-sip", "pbx-runtime", "pbx-proto"}
"""Of this repository: an image gets them as wheels."""


@pytest.mark.parametrize("name", ["Makefile", "Dockerfile"])
def test_pip_resolves_nothing_where_it_installs_from_a_lock(name: str) -> None:
    """Where one package wants another with an extra, pip looks at the newest there is, which has no hash."""
    installs = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if "--require-hashes" in line]
    assert installs
    assert all("--no-deps" in line for line in installs)


def test_the_lock_of_an_image_has_all_that_its_packages_need() -> None:
    """With --no-deps nobody else asks. By the metadata of what is installed here, extras included."""
    command = [sys.executable, str(ROOT / "tools/image-requirements"), str(ROOT / "requirements.lock")]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    names = {canonicalize_name(name) for name in re.findall(r"(?m)^([A-Za-z0-9._-]+)==", text)}
    projects = [tomllib.loads(path.read_text(encoding="utf-8")) for path in ROOT.glob("services/*/pyproject.toml")]
    ours = {canonicalize_name(project["project"]["name"]) for project in projects}
    wanted = [Requirement(name) for name in ours]
    seen: set[str] = set()
    missing: list[str] = []
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        if name not in names and name not in ours and name not in LIBRARIES:
            missing.append(str(requirement))
            continue
        for needed in map(Requirement, distribution(requirement.name).requires or []):
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                wanted.append(needed)
    assert len(seen) > 30
    assert not missing
