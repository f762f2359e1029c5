"""Keys: what opens, what does not any more, and what is kept of them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from api.keys import (
    BadKeyRequest,
    KeyRecord,
    KeyRefused,
    KeysUnavailable,
    KeyTable,
    MadeKey,
    Scope,
    hash_of,
    make_key,
    revoke_keys,
    rotate_key,
)
from api.keys_file import FileKeyStore
from api.keys_ring import KeyRing
from tests.fakes_keys import MemoryKeyStore, Quiet

SECRET = b"s" * 32
NOW = 1_000_000
ALL: tuple[Scope, ...] = ("decide", "ingest", "label", "read")


def a_key(
    known: Sequence[KeyRecord] = (), name: str = "shop", tenant: str = "default", **more: int
) -> MadeKey:
    return make_key(
        known, SECRET, name=name, tenant=tenant, scopes=ALL, made_by="me", now_ms=NOW, **more
    )


def finds(records: Sequence[KeyRecord], token: str, at_ms: int = NOW) -> str:
    try:
        return KeyTable(records, SECRET, lambda: at_ms).find(token).name
    except KeyRefused:
        return ""


def test_a_token_opens_its_key_and_no_other_string_does() -> None:
    record, token = a_key()
    assert finds([record], token) == "shop"
    flipped = token[:-1] + ("A" if token[-1] != "A" else "B")
    for bad in (flipped, token + "A", token[:-1], "", "rb_", record.id, record.hash, f" {token}"):
        assert finds([record], bad) == ""


def test_nothing_that_is_kept_opens_anything() -> None:
    record, token = a_key()
    kept = str(record)
    assert token not in kept and token.split("_", 2)[2] not in kept
    forged = KeyRecord(
        id="0" * 12,
        name="thief",
        tenant="*",
        scopes=["admin"],
        hash=hash_of("rb_000000000000_" + "x" * 43, b"another secret"),
        made_at_ms=0,
    )
    assert finds([forged], "rb_000000000000_" + "x" * 43) == ""


def test_tokens_are_never_the_same() -> None:
    assert len({a_key().token for _ in range(200)}) == 200


def test_a_key_ends_when_it_expires_or_is_revoked() -> None:
    record, token = a_key(expires_at_ms=NOW + 10)
    assert finds([record], token, NOW + 9) == "shop"
    assert finds([record], token, NOW + 10) == ""
    [gone] = revoke_keys([record], "shop", NOW)
    assert finds([gone], token) == ""
    with pytest.raises(BadKeyRequest):
        revoke_keys([gone], "shop", NOW)


def test_a_key_that_expires_between_two_reads_is_refused_at_once() -> None:
    clock = [NOW]
    record, token = a_key(expires_at_ms=NOW + 10)
    table = KeyTable([record], SECRET, lambda: clock[0])
    assert table.find(token).name == "shop"
    clock[0] += 10
    with pytest.raises(KeyRefused):
        table.find(token)


def test_old_and_new_are_valid_while_a_key_is_rotated_and_never_three() -> None:
    old, old_token = a_key()
    made, ending = rotate_key([old], SECRET, name="shop", overlap_ms=100, made_by="me", now_ms=NOW)
    both = [ending, made.record]
    for token in (old_token, made.token):
        assert finds(both, token, NOW + 99) == "shop"
    assert (finds(both, old_token, NOW + 100), finds(both, made.token, NOW + 100)) == ("", "shop")
    assert (made.record.tenant, made.record.scopes) == (old.tenant, old.scopes)
    with pytest.raises(BadKeyRequest, match="2 valid"):
        rotate_key(both, SECRET, name="shop", overlap_ms=100, made_by="me", now_ms=NOW)
    rotate_key(both, SECRET, name="shop", overlap_ms=100, made_by="me", now_ms=NOW + 100)


def test_a_rotation_does_not_lengthen_a_life() -> None:
    old, _ = a_key(expires_at_ms=NOW + 5)
    _, ending = rotate_key([old], SECRET, name="shop", overlap_ms=100, made_by="me", now_ms=NOW)
    assert ending.expires_at_ms == NOW + 5


def test_what_makes_no_sense_is_refused() -> None:
    known = [a_key().record]
    with pytest.raises(BadKeyRequest, match="rotate or revoke"):
        a_key(known)
    for name in ("", "a b", "-a", "x" * 65):
        with pytest.raises(BadKeyRequest, match="name"):
            a_key(name=name)
    with pytest.raises(BadKeyRequest, match="tenant"):
        a_key(tenant="")
    with pytest.raises(BadKeyRequest, match="admin"):
        make_key([], SECRET, name="x", tenant="t", scopes=["admin"], made_by="", now_ms=NOW)


async def test_keys_go_on_without_their_store_but_not_for_ever() -> None:
    clock, store = [0.0], MemoryKeyStore()
    ring = KeyRing(
        store, SECRET, lambda: NOW, Quiet(), refresh_s=5, stale_max_s=60, clock=lambda: clock[0]
    )
    record, token = a_key()
    with pytest.raises(KeysUnavailable):
        ring.find(token)
    await store.put_many([record])
    assert await ring.refresh() == 1
    store.away = True
    with pytest.raises(KeysUnavailable):
        await ring.refresh()
    assert (ring.find(token).name, ring.failure) == ("shop", "nobody listens")
    clock[0] = 61
    with pytest.raises(KeysUnavailable):
        ring.find(token)
    store.away = False
    await ring.refresh()
    assert (ring.find(token).name, ring.failure) == ("shop", "")


async def test_a_revoked_key_is_known_after_the_next_read() -> None:
    store, stopping = MemoryKeyStore(), asyncio.Event()
    record, token = a_key()
    await store.put_many([record])
    ring = KeyRing(store, SECRET, lambda: NOW, Quiet(), refresh_s=0.01, stale_max_s=60)
    await ring.refresh()
    running = asyncio.create_task(ring.run(stopping))
    await store.put_many(revoke_keys([record], "shop", NOW))
    async with asyncio.timeout(10):
        while True:
            try:
                ring.find(token)
            except KeyRefused:
                break
            await asyncio.sleep(0.01)
    stopping.set()
    await running


async def test_a_new_key_brings_the_next_read_forward() -> None:
    store, stopping = MemoryKeyStore(), asyncio.Event()
    ring = KeyRing(store, SECRET, lambda: NOW, Quiet(), refresh_s=3600, stale_max_s=7200)
    await ring.refresh()
    running = asyncio.create_task(ring.run(stopping))
    record, token = a_key()
    await store.put_many([record])
    async with asyncio.timeout(10):
        while True:
            try:
                assert ring.find(token).id == record.id
                break
            except KeyRefused:
                await asyncio.sleep(0.01)
    stopping.set()
    await running


async def test_a_file_that_is_damaged_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    assert await FileKeyStore(path).read_all() == []
    path.write_text('{"keys": [{"id": 3}]}')
    with pytest.raises(KeysUnavailable, match="keys"):
        await FileKeyStore(path).read_all()
    await FileKeyStore(tmp_path / "deep" / "keys.json").put_many([a_key().record])
    assert (tmp_path / "deep" / "keys.json").stat().st_mode & 0o077 == 0
