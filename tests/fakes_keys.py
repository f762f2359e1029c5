"""A store of API keys in memory, and somebody who hears of reads and says nothing."""

from collections.abc import Sequence

from api.keys import KeyRecord, KeysUnavailable
from api.route import Head


class MemoryKeyStore:
    """Records in a dictionary; it can be away."""

    def __init__(self) -> None:
        self.kept: dict[str, KeyRecord] = {}
        self.away = False

    async def read_all(self) -> list[KeyRecord]:
        self._check()
        return sorted(self.kept.values(), key=lambda record: (record.made_at_ms, record.id))

    async def put_many(self, records: Sequence[KeyRecord]) -> None:
        self._check()
        self.kept |= {record.id: record for record in records}

    def _check(self) -> None:
        if self.away:
            raise KeysUnavailable("nobody listens")


class Quiet:
    """Hears, and says nothing."""

    def keys_read(self, keys: int) -> None:
        pass

    def keys_failed(self, detail: str) -> None:
        pass

    def refused(self, why: Exception, head: Head, who: str) -> None:
        pass
