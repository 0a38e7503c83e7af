"""Properties that are computed at their first use."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

_Value = TypeVar("_Value")


class lazy(Generic[_Value]):
    """A property that is computed once, without a lock.

    `functools.cached_property` holds one meanwhile, until Python 3.12: a process that is forked by
    another thread just then would wait for it for ever. Two threads at once may compute it twice.
    """

    def __init__(self, compute: Callable[[Any], _Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> "lazy[_Value]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> _Value: ...
    def __get__(self, instance: object | None, owner: type) -> "lazy[_Value] | _Value":
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._compute(instance)  # found first from now on
        return value
