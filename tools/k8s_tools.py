"""Get and build what the tests in tests/k8s run: a Kubernetes control plane of two minors, etcd, helm 3 and helm 4.

`make k8s-tools` builds all of it from Go modules, which takes half an hour of CPU the first time, into
`~/.cache/sip-pbx/k8s` (PBX_K8S_TOOLS names another place):

    etcd  helm3  helm4  1.37.2/{kube-apiserver,kube-controller-manager,kube-scheduler,kubectl}  ...

What is there already is left alone. `--list` says what is there; a version as an argument builds that one alone.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

KUBERNETES: Final = ("1.37.2", "1.33.13")
"""The newest minor, and the oldest that its makers still mend."""
PROGRAMS: Final = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
ETCD: Final = "3.6.5"
HELM: Final = {"helm3": "3.22.0", "helm4": "4.3.2"}


def cache() -> Path:
    """Where the programs are."""
    given = os.environ.get("PBX_K8S_TOOLS")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(given) if given else Path(base) / "sip-pbx" / "k8s"


def wanted() -> dict[str, Path]:
    """Every program by its name in the list."""
    root = cache()
    programs = {f"{version}/{name}": root / version / name for version in KUBERNETES for name in PROGRAMS}
    return {**{name: root / name for name in ("etcd", *HELM)}, **programs}


def staged_modules(version: str) -> tuple[list[str], str]:
    """Modules that kubernetes replaces by directories of its own, and the version of Go that it asks for."""
    told = _go("mod", "download", "-json", f"k8s.io/kubernetes@v{version}", output=True)
    source = Path(json.loads(told)["GoMod"]).read_text(encoding="utf-8")
    found = re.findall(r"^\s*(k8s\.io/[a-z0-9-]+) (?:=> \./staging|v0\.0\.0\s*$)", source, re.MULTILINE)
    go = re.search(r"^go (\S+)", source, re.MULTILINE)
    assert go is not None, "no version of Go in the go.mod of kubernetes"
    return sorted(set(found)), go[1]


def build_kubernetes(version: str) -> None:
    """The programs of one version: they cannot be installed by `go install`, which refuses a module that replaces."""
    modules, go = staged_modules(version)
    minor = version.split(".")[1]
    stamped = {"gitVersion": f"v{version}", "gitMajor": "1", "gitMinor": minor}
    flags = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in stamped.items())
    with tempfile.TemporaryDirectory(prefix="k8s-build-") as scratch:
        where = Path(scratch)
        replaced = "".join(f"\t{name} => {name} v0{version[1:]}\n" for name in modules)
        text = f"module scratch\n\ngo {go}\n\nrequire k8s.io/kubernetes v{version}\n\nreplace (\n{replaced})\n"
        (where / "go.mod").write_text(text, encoding="utf-8")
        imported = "".join(f'\t_ "k8s.io/kubernetes/cmd/{name}"\n' for name in PROGRAMS)
        tools = f"//go:build tools\n\npackage tools\n\nimport (\n{imported})\n"
        (where / "tools.go").write_text(tools, encoding="utf-8")
        _go("mod", "tidy", where=where)
        for name in PROGRAMS:
            target = cache() / version / name
            if not target.exists():
                _say(f"building {name} {version}")
                options = ("-mod=mod", "-ldflags", f"-s -w {flags}", "-o", str(target))
                _go("build", *options, f"k8s.io/kubernetes/cmd/{name}", where=where)


def build_etcd() -> None:
    """The server, whose module replaces too."""
    _say(f"building etcd {ETCD}")
    with tempfile.TemporaryDirectory(prefix="etcd-build-") as scratch:
        where = Path(scratch)
        _go("mod", "init", "scratch", where=where)
        tools = '//go:build tools\n\npackage tools\n\nimport _ "go.etcd.io/etcd/server/v3"\n'
        (where / "tools.go").write_text(tools, encoding="utf-8")
        _go("get", f"go.etcd.io/etcd/server/v3@v{ETCD}", where=where)
        _go("mod", "tidy", where=where)
        _go("build", "-mod=mod", "-o", str(cache() / "etcd"), "go.etcd.io/etcd/server/v3", where=where)


def build_helm(name: str) -> None:
    """One version of helm."""
    version = HELM[name]
    _say(f"building helm {version}")
    with tempfile.TemporaryDirectory(prefix="helm-build-") as scratch:
        package = f"helm.sh/helm/v{version.partition('.')[0]}/cmd/helm@v{version}"
        _go("install", "-ldflags", "-s -w", package, bin_directory=Path(scratch))
        (Path(scratch) / "helm").replace(cache() / name)


def _go(*arguments: str, where: Path | None = None, bin_directory: Path | None = None, output: bool = False) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0", **({"GOBIN": str(bin_directory)} if bin_directory else {})}
    done = subprocess.run(
        ["nice", "-n", "10", "go", *arguments], cwd=where, env=environment, check=False, text=True,
        stdout=subprocess.PIPE if output else None,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"go {arguments[0]} failed: {' '.join(arguments)}")
    return done.stdout or ""


def _say(text: str) -> None:
    sys.stderr.write(f"k8s-tools: {text}\n")


def main(arguments: list[str]) -> int:
    """Build what is missing. Returns the exit code."""
    if "--list" in arguments:
        for name, path in wanted().items():
            sys.stdout.write(f"{'present' if path.exists() else 'missing'} {name}\n")
        return 0
    if subprocess.run(["which", "go"], capture_output=True, check=False).returncode != 0:
        sys.stderr.write("k8s-tools not built: go is missing (1.26 or newer)\n")
        return 1
    cache().mkdir(parents=True, exist_ok=True)
    for name in HELM:
        if not (cache() / name).exists():
            build_helm(name)
    if not (cache() / "etcd").exists():
        build_etcd()
    for version in [given for given in arguments if given in KUBERNETES] or KUBERNETES:
        if not all((cache() / version / name).exists() for name in PROGRAMS):
            build_kubernetes(version)
    _say(f"all in {cache()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
