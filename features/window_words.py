"""bytes ↔ words: unaligned loads and stores of machine words, which numba's arrays do not offer.

One load in place of eight, and a shift, reads any bit-packed number; that is most of what reading
a state takes. Both run as plain Python where compilation is off. Neither checks its place:
who calls knows the bounds (`features.window.PADDING` bytes may be loaded behind the last state).
"""

from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from features.window_jit import Bytes, Int

_numba: Any = numba
_intrinsic: Any = intrinsic
_types: Any = types
_WORD: Any = ir.IntType(64)
_HALF: Any = ir.IntType(32)


def _address(context: Any, builder: Any, array: Any, type_: Any, pos: Any, word: Any) -> Any:
    data = context.make_array(type_)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [pos]), word.as_pointer())


@_intrinsic  # type: ignore[misc]
def _load(typing: Any, data: Any, pos: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _address(context, builder, values[0], signature.args[0], values[1], _WORD)
        loaded = builder.load(place)
        loaded.align = 1
        return loaded

    return _types.int64(data, _types.int64), generate


@_intrinsic  # type: ignore[misc]
def _store(typing: Any, out: Any, pos: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _address(context, builder, values[0], signature.args[0], values[1], _HALF)
        stored = builder.store(builder.trunc(values[2], _HALF), place)
        stored.align = 1
        return context.get_dummy_value()

    return _types.void(out, _types.int64, _types.int64), generate


def _load_in_python(data: Bytes, pos: Int) -> Int:
    return int.from_bytes(data[pos : pos + 8].tobytes(), "little", signed=True)


def _store_in_python(out: Bytes, pos: Int, value: Int) -> None:
    for k in range(4):
        out[pos + k] = value >> (8 * k) & 255


load_word: Any = _load_in_python if _numba.config.DISABLE_JIT else _load
"""(data, pos) → the 8 bytes at `pos`, little-endian, as a signed number."""
store_half: Any = _store_in_python if _numba.config.DISABLE_JIT else _store
"""(out, pos, value): write the low 4 bytes of `value` at `pos`, little-endian."""
