"""What the models of all kinds share: camelCase on the wire, frozen, nothing unknown accepted."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

GROUP: Final = "pbx.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"


class Spec(BaseModel):
    """A frozen part of a custom resource."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")


def cel(rule: str, message: str) -> dict[str, str]:
    """One validation rule of a CRD in CEL: the API server refuses what it does not hold for, with this message."""
    return {"rule": rule, "message": message}
