"""Frozen values that are made quickly.

The `__init__` of a frozen dataclass sets each field through `object.__setattr__`, since its own forbids it: a thousand
instructions a field, and a call makes 150 values with 800 fields. `swift` gives the class another `__init__` with the
same signature: the value is of a twin class while it is filled, with the same slots, which forbids nothing, and frozen
from then on. For values that each call makes; elsewhere the dataclass does.

    @swift
    @dataclass(frozen=True, slots=True)
    class Ring: ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar

T = TypeVar("T")


def swift(cls: type[T]) -> type[T]:
    """The class, with another `__init__`. Raises TypeError for what it is not made for.

    Those are classes that are no frozen and slotted dataclasses, or have base classes, `__post_init__`, or fields that
    are not parameters in order.
    """
    kind: Any = cls
    found: tuple[Field[Any], ...] = fields(kind)
    if kind.__bases__ != (object,) or not kind.__dataclass_params__.frozen or "__slots__" not in vars(cls):
        raise TypeError(f"{cls.__qualname__} is no frozen, slotted dataclass of its own")
    if hasattr(cls, "__post_init__") or any(not field.init or field.kw_only for field in found):
        raise TypeError(f"{cls.__qualname__} is not filled from parameters in order alone")
    names = tuple(field.name for field in found)
    namespace: dict[str, Any] = {
        "_become": object.__setattr__,
        "_twin": type(f"{cls.__name__}BeingMade", (), {"__slots__": names}),
        "_frozen": cls,
        "_missing": MISSING,
    }
    parameters, lines = ["self"], ['    _become(self, "__class__", _twin)']
    for field in found:
        name = field.name
        value = name
        if field.default is not MISSING:
            namespace[f"_default_{name}"] = field.default
            parameters.append(f"{name}=_default_{name}")
        elif field.default_factory is not MISSING:
            namespace[f"_make_{name}"] = field.default_factory
            parameters.append(f"{name}=_missing")
            value = f"_make_{name}() if {name} is _missing else {name}"
        else:
            parameters.append(name)
        lines.append(f"    self.{name} = {value}")
    lines.append("    self.__class__ = _frozen")
    source = f"def __init__({', '.join(parameters)}):\n" + "\n".join(lines)
    exec(compile(source, f"<swift {cls.__qualname__}>", "exec"), namespace)  # noqa: S102  # as dataclasses do
    made: Callable[..., None] = namespace["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__annotations__ = dict(kind.__init__.__annotations__)
    kind.__init__ = made
    return cls
