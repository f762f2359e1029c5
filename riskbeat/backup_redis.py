"""Redis ↔ parts of a backup: what a deployment's store holds beside features and claims.

A *section* is a set of keys that share one hash tag, so it is read as of one moment, and put back
by one atomic script. Its part is a sequence of frames: a key's name within the section, its kind,
and some of its values; a large key has several frames.
"""

import re
import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from features.client_redis import Client, RedisLink
from features.faults_redis import ask
from models.registry import RegistryUnavailable

LINE_KEYS = ("state", "fulls", "acts", "freeze", "rollout", "rollout.acts", "rollout.judged")
LINE_LIVE = ("news", "lease", "seen", "scorers", "progress")
"""Of who runs at present: not kept, and gone after a restore."""
POLICY_KEYS = ("state", "kept", "switches", "acts", "counts")
ENTRIES, LIST_LOG = "entries", "log"
READS_MAX = 5
SCAN_COUNT = 2_000
WRITE_VALUES = 2_000
_STAGED = "restoring:"
_LENGTH = struct.Struct(">I")

Kind = Literal["string", "hash", "list"]
# KEYS: all of one section. Returns for each its kind and values
_READ = """
local found = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  local values = {}
  if kind == 'hash' then values = redis.call('HGETALL', key)
  elseif kind == 'list' then values = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'string' then values = {redis.call('GET', key)} end
  found[i] = {kind, values}
end
return found
"""
# KEYS: the section's `fulls`, then keys that go, then staged and final names by turns.
# ARGV: how many go, what `v:` begins with
_SWAP = """
for _, n in ipairs(redis.call('HKEYS', KEYS[1])) do redis.call('DEL', ARGV[2] .. n) end
local gone = tonumber(ARGV[1])
for i = 2, gone + 1 do redis.call('DEL', KEYS[i]) end
for i = gone + 2, #KEYS, 2 do redis.call('RENAME', KEYS[i], KEYS[i + 1]) end
return 1
"""


class SectionMoves(RuntimeError):
    """A section changed each time it was read; stop what changes it, or try again."""


class _Left(Exception):
    """A version left the shelf before it was read."""


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """A key of a section, or a piece of it.

    Attributes:
        values: Of a hash, fields and values by turns.
    """

    name: str
    kind: Kind
    values: list[bytes]


@dataclass(frozen=True, slots=True)
class Section:
    """Keys of one hash tag.

    Attributes:
        name: As its part is named.
        base: What its keys begin with.
        keys: What is kept of it, after `base`; versions and list entries come beside.
        live: What goes with a restore without being kept.
    """

    name: str
    base: str
    keys: Sequence[str]
    live: Sequence[str] = ()


def line_section(prefix: str, name: str) -> Section:
    """Return the section of a line of versions, as its hash tag names it."""
    return Section(f"weights.{name}", f"{prefix}{{weights.{name}}}:", LINE_KEYS, LINE_LIVE)


def policy_section(prefix: str) -> Section:
    """Return the section of policy and lists."""
    return Section("policy", f"{prefix}{{policy}}:", POLICY_KEYS, (LIST_LOG, "seen", "scorers"))


class SectionStore:
    """Reads and puts back sections."""

    def __init__(self, client: Client) -> None:
        """Take a client, which stays its owner's to close."""
        self._client: Any = client
        self._link = RedisLink(client)

    async def lines(self, prefix: str) -> list[str]:
        """Return the lines of versions that the store holds, as their hash tags name them."""
        literal = re.sub(r"([*?\[\]\\^])", r"\\\1", prefix)
        pattern = re.compile(re.escape(f"{prefix}{{weights.").encode() + rb"([^}]+)\}:state")
        found = set()
        async for key in self._link.scan(f"{literal}{{weights.*}}:state".encode()):
            if match := pattern.fullmatch(key):
                found.add(match.group(1).decode())
        return sorted(found)

    async def lease_of(self, section: Section) -> str:
        """Return who learns on a line at present; empty for nobody."""
        return bytes(await self._ask("GET", f"{section.base}lease") or b"").decode()

    async def latest_of(self, section: Section) -> int:
        """Return the newest version of a line; 0 for none."""
        return int(await self._ask("HGET", f"{section.base}state", "latest") or 0)

    async def holds(self, section: Section) -> bool:
        """Return whether a section has anything that a restore would replace."""
        names = [f"{section.base}{name}" for name in (*section.keys, ENTRIES)]
        return any([await self._ask("EXISTS", name) for name in names])

    async def save(self, section: Section, path: Path) -> bool:
        """Write a section to a file as of one moment; return whether there was anything.

        Raises:
            SectionMoves: It changed each time it was read.
        """
        for _ in range(READS_MAX):
            place = await self._list_place(section)
            frames = 0
            with path.open("wb") as out:
                try:
                    async for frame in self._read(section):
                        write_frame(out, frame)
                        frames += 1
                except _Left:
                    continue
            if await self._list_place(section) == place:
                return frames > 0
        raise SectionMoves(f"{section.name} changed {READS_MAX} times while it was read: try again")

    async def _read(self, section: Section) -> AsyncIterator[Frame]:
        """Yield pointers as of one moment, then versions, which never change, and list entries."""
        names = [f"{section.base}{name}" for name in section.keys]
        found = await self._ask("EVAL", _READ, len(names), *names)
        fulls: list[bytes] = []
        for name, (kind, values) in zip(section.keys, found, strict=True):
            if values:
                yield Frame(name, bytes(kind).decode(), values)  # type: ignore[arg-type]
            if name == "fulls":
                fulls = sorted(values[::2], key=int)
        for number in map(bytes.decode, fulls):
            data = await self._ask("GET", f"{section.base}v:{number}")
            if data is None:
                raise _Left
            yield Frame(f"v:{number}", "string", [data])
        if section.keys is POLICY_KEYS:
            async for frame in self._read_entries(section):
                yield frame

    async def _list_place(self, section: Section) -> bytes:
        """Return where the log of list changes ends; nothing changes entries without it."""
        key = f"{section.base}{LIST_LOG}"
        last = await self._ask("XREVRANGE", key, "+", "-", "COUNT", 1)
        return bytes(last[0][0]) if last else b""

    async def put_back(self, section: Section, frames: Iterator[Frame]) -> None:
        """Replace a section by what was read of one, all at once.

        What is cut short leaves the section as it was; the same may be done again.
        """
        names: dict[str, None] = {}
        await self._drop_staged(section)
        for frame in frames:
            names[frame.name] = None
            await self._stage(section, frame)
        base = section.base
        gone = [f"{base}{name}" for name in (*section.keys, ENTRIES, *section.live)]
        moves = [key for name in names for key in (f"{base}{_STAGED}{name}", f"{base}{name}")]
        keys = [f"{base}fulls", *gone, *moves]
        await self._ask("EVAL", _SWAP, len(keys), *keys, len(gone), f"{base}v:")

    async def _stage(self, section: Section, frame: Frame) -> None:
        key = f"{section.base}{_STAGED}{frame.name}"
        if frame.kind == "string":
            await self._ask("SET", key, frame.values[0])
            return
        command = "HSET" if frame.kind == "hash" else "RPUSH"
        for start in range(0, len(frame.values), WRITE_VALUES):
            await self._ask(command, key, *frame.values[start : start + WRITE_VALUES])

    async def _drop_staged(self, section: Section) -> None:
        literal = re.sub(r"([*?\[\]\\^])", r"\\\1", f"{section.base}{_STAGED}")
        async for key in self._link.scan(f"{literal}*".encode()):
            await self._link.unlink([key])

    async def _read_entries(self, section: Section) -> AsyncIterator[Frame]:
        cursor = 0
        while True:
            key = f"{section.base}{ENTRIES}"
            cursor, flat = await self._ask("HSCAN", key, cursor, "COUNT", SCAN_COUNT)
            if isinstance(flat, dict):
                flat = [one for pair in flat.items() for one in pair]
            if flat:
                yield Frame(ENTRIES, "hash", flat)
            if not int(cursor):
                return

    async def _ask(self, *command: Any) -> Any:
        return await ask(self._client, RegistryUnavailable, *command)


def write_frame(out: IO[bytes], frame: Frame) -> None:
    """Append a frame to a part."""
    data = msgspec.msgpack.encode(frame)
    out.write(_LENGTH.pack(len(data)) + data)


def read_frames(source: IO[bytes]) -> Iterator[Frame]:
    """Yield the frames of a part; it was verified before."""
    while head := source.read(_LENGTH.size):
        (length,) = _LENGTH.unpack(head)
        yield msgspec.msgpack.decode(source.read(length), type=Frame)
