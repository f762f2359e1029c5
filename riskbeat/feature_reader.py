"""Redis, a feature spec → features: for Python services that sit beside the store.

    from riskbeat.feature_reader import FeatureReader

    async with FeatureReader.connect("redis://127.0.0.1:6379", "features.yaml") as reader:
        card = await reader.read("card", "tok_9")

It reads what the scorer reads, with the scorer's store reader and window kernel; no other process
is asked. The spec must be the one that the store was filled by.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from features.client_redis import Client, connect_redis
from features.entity_features import (
    EntityFeatures,
    FeatureQuestion,
    QuestionRejected,
    check_fields,
)
from features.event import DEFAULT_TENANT
from features.read import STALE_AFTER_S, check_question, read_features, warm_up_reads
from features.spec import Spec, SpecError
from features.store import Reads, SchemaMismatch, StoreError, StoreUnavailable
from features.store_redis import RedisFeatureStore
from features.window import StateCorrupt, warm_up
from riskbeat.clock import now_ms

READ_MANY_MAX: Final = 1_000
TIMEOUT_S: Final = 1.0

__all__ = [
    "EntityFeatures",
    "FeatureQuestion",
    "FeatureReader",
    "QuestionRejected",
    "SchemaMismatch",
    "SpecError",
    "StateCorrupt",
    "StoreError",
    "StoreUnavailable",
]


class LivingStore:
    """The feature store as its own pointer describes it: its epoch, and how many partitions.

    Implements `features.store.FeatureReader`.
    """

    def __init__(self, client: Client, spec: Spec, prefix: str) -> None:
        """Hold a client; nothing is read before the first question."""
        self._client = client
        self._spec = spec
        self._prefix = prefix
        self._store: RedisFeatureStore | None = None

    async def read_many(self, keys: Sequence[bytes]) -> Reads:
        """Read the states of many entities in one round trip (the first time in two).

        Raises:
            SchemaMismatch: The store was filled under another feature spec.
            StoreUnavailable: No answer within the client's timeout.
        """
        if self._store is not None:
            try:
                return await self._store.read_many(keys)
            except SchemaMismatch:  # rebuilt meanwhile: perhaps for another number of partitions
                self._store = None
        store = await self._find()
        if store is None:  # no worker has ever opened it: every entity is new
            return Reads([b""] * len(keys), [0] * len(keys), {}, {})
        reads = await store.read_many(keys)
        self._store = store
        return reads

    async def _find(self) -> RedisFeatureStore | None:
        """Return the store of our spec, None where no spec was ever kept."""
        pointer = await (any_store := self._of(1)).read_pointer()
        if pointer is not None:
            return self._of(pointer.partitions)
        await any_store.check_readable()  # refuses where others' features are, and not ours
        return None

    def _of(self, partitions: int) -> RedisFeatureStore:
        return RedisFeatureStore(
            self._client,
            prefix=self._prefix,
            partitions=partitions,
            spec_digest=self._spec.digest,
            ttl_s=self._spec.ttl_s,
            updates_topic="",
        )


class FeatureReader:
    """Reads features of entities out of the living store."""

    def __init__(
        self,
        spec: Spec,
        client: Client,
        *,
        prefix: str,
        stale_after_s: float,
        now_ms: Callable[[], int],
    ) -> None:
        """Take what it reads by; `connect` is the usual way."""
        self.spec = spec
        self._client = client
        self._store = LivingStore(client, spec, prefix)
        self._stale_after_s = stale_after_s
        self._now_ms = now_ms

    @classmethod
    def connect(
        cls,
        redis_url: str,
        spec_path: Path | str,
        *,
        cluster: bool = False,
        prefix: str = "riskbeat:",
        timeout_s: float = TIMEOUT_S,
        stale_after_s: float = STALE_AFTER_S,
        now_ms: Callable[[], int] = now_ms,
    ) -> Self:
        """Return a reader; nothing is connected before `async with`, or the first question.

        Args:
            redis_url: `redis://`, `rediss://` or `unix://`, with ACL user and password in it; a
                user that may `GET` and `MGET` is enough.
            spec_path: The feature spec that the store was filled by.
            cluster: Whether the URL names a node of a Redis Cluster.
            prefix: Begins every key of the deployment (`RISKBEAT_REDIS_PREFIX`).
            timeout_s: Longest wait for one answer of the store.
            stale_after_s: A state that is older is called stale.
            now_ms: Wall clock, milliseconds since 1970.

        Raises:
            SpecError: The spec cannot be read.
        """
        client = connect_redis(redis_url, cluster=cluster, timeout_s=timeout_s, retries=1)
        return cls(
            Spec.load(Path(spec_path)),
            client,
            prefix=prefix,
            stale_after_s=stale_after_s,
            now_ms=now_ms,
        )

    async def __aenter__(self) -> Self:
        """Compile the kernel (or load it), so that the first question does not wait for it."""
        await asyncio.to_thread(self.warm_up)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.close()

    def warm_up(self) -> None:
        """Compile the kernel or load what was compiled: once for a machine and a version."""
        warm_up(self.spec)
        warm_up_reads(self.spec)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def read(
        self,
        entity: str,
        id: str | Sequence[str],
        at: datetime | None = None,
        *,
        tenant: str = DEFAULT_TENANT,
        explain: bool = False,
    ) -> EntityFeatures:
        """Return what is known of an entity at an instant.

        Args:
            entity: A name that the feature spec declares.
            id: Its id; of a composite key the ids, in the order of the key.
            at: With an offset; None means now.
            tenant: Whose entity.
            explain: Whether the answer says what its values mean.

        Raises:
            QuestionRejected: There is no such entity, or its id or the instant cannot be.
            StoreError: No answer, or the store was filled by another spec.
        """
        ids = id if isinstance(id, str) else list(id)
        question = FeatureQuestion(entity=entity, id=ids, at=at, tenant=tenant)
        return (await self.read_many([question], explain=explain))[0]

    async def read_many(
        self, questions: Sequence[FeatureQuestion], *, explain: bool = False
    ) -> list[EntityFeatures]:
        """Answer up to `READ_MANY_MAX` questions in one round trip, in order.

        Raises:
            QuestionRejected: One of them cannot be answered, or there are too many.
            StoreError: No answer, or the store was filled by another spec.
        """
        if len(questions) > READ_MANY_MAX:
            raise QuestionRejected("too_many", "", f"at most {READ_MANY_MAX} are taken at once")
        if not questions:
            return []
        for question in questions:
            check_fields(question)
        now_ms = self._now_ms()
        asked = [check_question(self.spec, question, now_ms) for question in questions]
        return await read_features(
            self.spec,
            self._store,
            asked,
            now_ms,
            stale_after_s=self._stale_after_s,
            explain=explain,
        )
