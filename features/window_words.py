"""bytes ↔ words: unaligned loads and stores of machine words, which numba's arrays do not offer.

One load in place of eight, and a shift, reads any bit-packed number; that is most of what reading
a state takes. All run as plain Python where compilation is off. None checks its place: who calls
knows the bounds (behind the last state `features.window_room.PADDING` may be loaded).
"""

from typing import Any

import numba
from numba.core import types
from numba.extending import intrinsic

from features.window_jit import Bytes, Int

_numba: Any = numba
_types: Any = types


def _address(context: Any, builder: Any, array: Any, type_: Any, pos: Any, word: Any) -> Any:
    data = context.make_array(type_)(context, builder, array).data
    pointer = context.get_value_type(word).as_pointer()
    return builder.bitcast(builder.gep(data, [pos]), pointer)


def _load(typing: Any, data: Any, pos: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _address(context, builder, values[0], signature.args[0], values[1], _types.int64)
        loaded = builder.load(place)
        loaded.align = 1
        return loaded

    return _types.int64(data, _types.int64), generate


def _store(typing: Any, out: Any, pos: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _address(context, builder, values[0], signature.args[0], values[1], _types.int32)
        stored = builder.store(
            builder.trunc(values[2], context.get_value_type(_types.int32)), place
        )
        stored.align = 1
        return context.get_dummy_value()

    return _types.void(out, _types.int64, _types.int64), generate


def _count(typing: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        leading = builder.ctlz(values[0], context.get_constant(_types.boolean, 0))
        return builder.sub(context.get_constant(_types.int64, 64), leading)

    return _types.int64(_types.int64), generate


def _load_in_python(data: Bytes, pos: Int) -> Int:
    return int.from_bytes(data[pos : pos + 8].tobytes(), "little", signed=True)


def _store_in_python(out: Bytes, pos: Int, value: Int) -> None:
    for k in range(4):
        out[pos + k] = value >> (8 * k) & 255


def _count_in_python(value: Int) -> Int:
    return 64 if value < 0 else int(value).bit_length()


_as_python = _numba.config.DISABLE_JIT
load_word: Any = _load_in_python if _as_python else intrinsic(_load)
"""(data, pos) → the 8 bytes at `pos`, little-endian, as a signed number."""
store_half: Any = _store_in_python if _as_python else intrinsic(_store)
"""(out, pos, value): write the low 4 bytes of `value` at `pos`, little-endian."""
bits_for: Any = _count_in_python if _as_python else intrinsic(_count)
"""(value) → how many bits an unsigned number takes; 64 for what reads as negative."""
