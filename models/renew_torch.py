"""a member prepared anew → the one that graphs were captured with, holding the new numbers."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch


def renew(old: Any, new: Any) -> bool:
    """Copy the tensors of `new` into those of `old`; False, and nothing is done, if that won't do.

    It will not where they differ in anything but numbers in tensors: captured work knows the
    tensors by their addresses, and everything else by its value.
    """
    pairs = list(_pairs(old, new))
    if not all(_alike(was, now) for was, now in pairs):
        return False
    for was, now in pairs:
        if isinstance(was, torch.Tensor) and was.data_ptr() != now.data_ptr():
            was.copy_(now)
    return True


def _pairs(old: Any, new: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the parts of both side by side; parts that do not match as they are."""
    if type(old) is not type(new):
        yield old, new
    elif is_dataclass(old):
        for field in fields(old):
            yield from _pairs(getattr(old, field.name), getattr(new, field.name))
    elif isinstance(old, Mapping) and old.keys() == new.keys():
        for name in old:
            yield from _pairs(old[name], new[name])
    elif isinstance(old, tuple) and len(old) == len(new):
        for was, now in zip(old, new, strict=True):
            yield from _pairs(was, now)
    else:
        yield old, new


def _alike(was: Any, now: Any) -> bool:
    if isinstance(was, torch.Tensor) and isinstance(now, torch.Tensor):
        return was.shape == now.shape and was.dtype == now.dtype and was.device == now.device
    return type(was) is type(now) and bool(was == now)
