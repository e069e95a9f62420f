"""What a project needs so that others may use it: its licence, in every package, and how to report."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, TypeGuard

import pytest
import yaml

ROOT = Path(__file__).parents[2]
HOME = "https://github.com/sip-pbx/sip-pbx"
PACKAGES = [*sorted(ROOT.glob("*/*/pyproject.toml")), ROOT / "proto" / "pyproject.toml"]


def project(path: Path) -> Any:
    return tomllib.loads(path.read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.parent.name)
def test_every_package_names_its_licence_and_its_home(path: Path) -> None:
    named = project(path)
    assert named["license"].startswith("Apache-2.0")
    assert named["urls"]["Homepage"] == HOME


def test_the_kernel_program_is_the_one_part_under_another_licence() -> None:
    bpf = ROOT / "services" / "media-relay" / "bpf"
    assert "GPL-2.0" in project(bpf.parent / "pyproject.toml")["license"]
    others = [path for path in PACKAGES if "GPL" in project(path)["license"]]
    assert others == [bpf.parent / "pyproject.toml"]
    sources = [*bpf.glob("*.c"), *bpf.glob("*.h")]
    assert sources
    for source in sources:
        assert source.read_text(encoding="utf-8").startswith("/* SPDX-License-Identifier: GPL-2.0 OR MIT */"), source
    assert "services/media-relay/bpf" in (ROOT / "NOTICE").read_text(encoding="utf-8")


def test_the_chart_names_licence_home_and_sources() -> None:
    chart = yaml.safe_load((ROOT / "helm" / "sip-pbx" / "Chart.yaml").read_text(encoding="utf-8"))
    assert (chart["home"], chart["sources"]) == (HOME, [HOME])
    assert chart["annotations"]["artifacthub.io/license"] == "Apache-2.0"
    values = yaml.safe_load((ROOT / "helm" / "sip-pbx" / "values.yaml").read_text(encoding="utf-8"))
    assert values["monitoring"]["prometheusRule"]["runbook"].startswith(HOME)


def test_every_image_carries_licence_and_notices() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "COPY LICENSE NOTICE /usr/share/doc/sip-pbx/" in text
    assert "org.opencontainers.image.licenses" in text


def test_the_licence_is_the_text_of_apache_2_0() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "END OF TERMS AND CONDITIONS" in text


def test_notice_names_what_is_loaded_and_all_that_is_installed() -> None:
    text = (ROOT / "NOTICE").read_text(encoding="utf-8")
    codecs = (ROOT / "services/media-relay/src/pbx_media_relay/recording/codec.py").read_text(encoding="utf-8")
    for library in ("libopus", "libspandsp"):
        assert library in codecs
        assert library in text
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "notices.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_people_are_told_how_to_report() -> None:
    assert "privately" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    templates = ROOT / ".github"
    assert (templates / "pull_request_template.md").exists()
    config = yaml.safe_load((templates / "ISSUE_TEMPLATE" / "config.yml").read_text(encoding="utf-8"))
    assert config["contact_links"][0]["url"].startswith(HOME)
    for path in (templates / "ISSUE_TEMPLATE").glob("*.md"):
        head = yaml.safe_load(path.read_text(encoding="utf-8").split("---")[1])
        assert {"name", "about"} <= head.keys(), path


def test_a_call_has_one_name_in_all_logs() -> None:
    """A log store joins lines by `call_id`; a service that says `call=` would be missing there."""
    for path in [*ROOT.glob("services/*/src/**/*.py"), *ROOT.glob("libs/runtime/src/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if _is_log_line(node):
                named = {each.arg for each in node.keywords}
                assert not {"call", "callid", "id"} & named, f"{path}:{node.lineno}"


def _is_log_line(node: ast.AST) -> TypeGuard[ast.Call]:
    levels = ("debug", "info", "warning", "error", "exception")
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in levels
