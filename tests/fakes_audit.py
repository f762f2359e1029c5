"""An audit log in memory: what is appended is claimed, kept and read as on the topic."""

import msgspec

from models.audit import AuditUnavailable, Entry, Kept, decode_entry, encode_entry
from models.audit_chain import Link, claim_at_end


class MemoryAuditLog:
    """`audit.AuditLog`; `away` makes it refuse after so many more entries."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.away_after: int | None = None
        self.clock_ms = 1_000

    async def append(self, entry: Entry) -> None:
        if self.away_after is not None:
            if self.away_after == 0:
                raise AuditUnavailable("the audit log is away")
            self.away_after -= 1
        links = [Link(k.offset, k.data, k.entry.claim) for k in await self.read()]
        claim = claim_at_end(links, 0, len(links))
        self.records.append(encode_entry(msgspec.structs.replace(entry, claim=claim)))

    async def read(self) -> list[Kept]:
        return [
            Kept(offset, self.clock_ms + offset, data, decode_entry(data, offset))
            for offset, data in enumerate(self.records)
        ]
