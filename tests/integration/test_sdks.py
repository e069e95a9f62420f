"""Clients that two generators make of the OpenAPI document: made, type-checked, and driven against the product.

The generators are pinned in tests/sdk and fetched once into `build`; where they cannot be had, the test is not run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.call import establish
from support.product import Product, Settings, accounts

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
SOURCE, BUILD = ROOT / "tests" / "sdk", ROOT / "build" / "sdk"
FETCH_S = 240


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    with Product(Settings(accounts(2))) as running:
        yield running


@pytest.fixture(scope="module")
def call_id(product: Product) -> str:
    """Of a call that was answered and is over."""
    with product.phone("2000") as caller, product.phone("2001") as callee:
        assert callee.register().status == 200
        establish(caller, callee).hang_up()
    return str(product.cdr(caller="2000")["call_id"])


@pytest.fixture(scope="module")
def document(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("openapi") / "openapi.json"
    with urllib.request.urlopen(f"{product.http}/openapi.json", timeout=10) as answer:
        path.write_bytes(answer.read())
    return path


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def fetched(*command: str | Path, cwd: Path) -> bool:
    try:
        subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, timeout=FETCH_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def python_generator() -> Path:
    place = BUILD / "python"
    program = place / "bin" / "openapi-python-client"
    if not program.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        made = fetched(sys.executable, "-m", "venv", place, cwd=BUILD) and fetched(
            place / "bin" / "pip", "install", "--quiet", "-r", SOURCE / "requirements.txt", cwd=BUILD
        )
        if not made:
            pytest.skip("pip cannot fetch openapi-python-client")
    return program


def test_a_python_client(product: Product, document: Path, call_id: str, tmp_path: Path) -> None:
    program = python_generator()
    run(program, "generate", "--path", document, "--output-path", tmp_path / "pbx_sdk", "--meta", "none", cwd=tmp_path)
    (tmp_path / "drive.py").write_bytes((SOURCE / "drive.py").read_bytes())
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\nstrict = true\nignore_missing_imports = true\n", encoding="utf-8")
    run(sys.executable, "-m", "mypy", "--config-file", config, "pbx_sdk", "drive.py", cwd=tmp_path)
    python = program.parent / "python"
    assert run(python, "drive.py", product.http, call_id, cwd=tmp_path) == "driven\n"


def test_a_typescript_client(product: Product, document: Path, call_id: str) -> None:
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    place = BUILD / "typescript"
    place.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "drive.ts"):
        shutil.copyfile(SOURCE / name, place / name)
    if not (place / "node_modules" / "openapi-fetch").is_dir():
        options = ("--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--silent")
        if not fetched("npm", "install", *options, cwd=place):
            pytest.skip("npm cannot fetch openapi-typescript")
    tools = place / "node_modules" / ".bin"
    run(tools / "openapi-typescript", document, "-o", "api.d.ts", cwd=place)
    target = ("--target", "es2022", "--module", "nodenext", "--moduleResolution", "nodenext", "--lib", "es2022,dom")
    run(tools / "tsc", "--strict", *target, "drive.ts", cwd=place)
    assert run("node", "drive.js", product.http, call_id, cwd=place) == "driven\n"
