"""A pod's volumes as directories of this machine, and where its containers see them."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from support.kubelet.client import ApiError, Client
from support.kubelet.sandbox import Mount

Pod = dict[str, Any]
ACCOUNT = "/run/secrets/kubernetes.io/serviceaccount"
"""/var/run is a link to /run, and links are read from where they lead: outside of the container's root."""


class NotReadyError(Exception):
    """Something that the pod names is not there: CreateContainerConfigError."""


def field_of(pod: Pod, path: str) -> str:
    """The downward API."""
    found = re.fullmatch(r"metadata\.(annotations|labels)\['(.+)'\]", path)
    if found:
        return str((pod["metadata"].get(found[1]) or {}).get(found[2], ""))
    value: Any = pod
    for part in path.split("."):
        value = (value or {}).get(part)
    return str(value or "")


class Volumes:
    """Of one pod. `claims` holds the contents of persistent volumes, which outlive pods."""

    def __init__(self, client: Client, pod: Pod, where: Path, claims: Path, hosts: Path, pki: Path) -> None:
        self._client = client
        self._pod = pod
        self._where = where
        self._claims = claims
        self._hosts = hosts
        self._pki = pki

    async def secret(self, name: str, key: str, *, optional: bool = False) -> str | None:
        """One key. Raises NotReadyError."""
        data = await self.secret_data(name)
        if key in data:
            return data[key].decode()
        if optional:
            return None
        raise NotReadyError(f"couldn't find key {key} in Secret {self._pod['metadata']['namespace']}/{name}")

    async def secret_data(self, name: str) -> dict[str, bytes]:
        """All keys. Raises NotReadyError."""
        try:
            body = await self._client.call("GET", f"/api/v1/namespaces/{self._namespace}/secrets/{name}")
        except ApiError as error:
            raise NotReadyError(f'secret "{name}" not found') from error
        return {key: base64.b64decode(value) for key, value in (body.get("data") or {}).items()}

    async def prepare(self) -> dict[str, Path]:
        """Directories by volume name. Raises NotReadyError."""
        made = {}
        for volume in self._pod["spec"].get("volumes") or ():
            made[volume["name"]] = await self._one(volume)
        return made

    async def refresh(self) -> None:
        """Write anew what follows its source while the pod lives."""
        for volume in self._pod["spec"].get("volumes") or ():
            if "downwardAPI" in volume:
                await self._one(volume)

    async def mounts(self, container: dict[str, Any], directories: dict[str, Path]) -> list[Mount]:
        """What a container sees."""
        found = [Mount(self._hosts, "/etc/hosts")]
        for mount in container.get("volumeMounts") or ():
            source = directories.get(mount["name"])
            if source is not None:
                found.append(Mount(source, mount["mountPath"], bool(mount.get("readOnly"))))
        spec = self._pod["spec"]
        if spec.get("automountServiceAccountToken", True):
            found.append(Mount(await self._account(spec.get("serviceAccountName") or "default"), ACCOUNT, True))
        return found

    @property
    def _namespace(self) -> str:
        return str(self._pod["metadata"]["namespace"])

    async def _one(self, volume: dict[str, Any]) -> Path:
        where = self._where / "volumes" / str(volume["name"])
        if "persistentVolumeClaim" in volume:
            where = self._claims / f"{self._namespace}-{volume['persistentVolumeClaim']['claimName']}"
        elif "hostPath" in volume:
            where = self._where / "host" / str(volume["hostPath"]["path"]).strip("/")
        where.mkdir(parents=True, exist_ok=True)
        if "secret" in volume:
            data = await self.secret_data(volume["secret"]["secretName"])
            wanted = volume["secret"].get("items") or [{"key": key, "path": key} for key in data]
            for item in wanted:
                if item["key"] not in data:
                    raise NotReadyError(f"references non-existent secret key: {item['key']}")
                _put(where / item["path"], data[item["key"]])
        for item in (volume.get("downwardAPI") or {}).get("items") or ():
            _put(where / item["path"], field_of(self._pod, item["fieldRef"]["fieldPath"]).encode())
        return where

    async def _account(self, name: str) -> Path:
        where = self._where / "account"
        where.mkdir(parents=True, exist_ok=True)
        path = f"/api/v1/namespaces/{self._namespace}/serviceaccounts/{name}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
        token = await self._client.call("POST", path, body)
        (where / "token").write_text(token["status"]["token"])
        (where / "namespace").write_text(self._namespace)
        (where / "ca.crt").write_bytes((self._pki / "ca.crt").read_bytes())
        return where


def _put(path: Path, content: bytes) -> None:
    """At once, as a kubelet does it: whoever reads sees the old content or the new one."""
    if not path.exists() or path.read_bytes() != content:
        beside = path.with_name(f".{path.name}")
        beside.write_bytes(content)
        beside.replace(path)
