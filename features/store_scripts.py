"""What Redis itself runs, in Lua: a compare-and-set over everything that one act changes.

Every script touches only keys of one hash tag. It answers a status array whose first element names
the outcome, so that each refusal has its own exception on our side.
"""

from collections.abc import Sequence

from features.store import SchemaMismatch, StoreConflict, StoreEpochMismatch, StoreError

RETIRED = "retired"

OPEN = """
-- KEYS: 1 meta, 2 watermarks.  ARGV: 1 epoch, 2 partitions, 3 digest, 4 make ('1' or '0'), 5 empty
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'partitions', 'digest', 'offset')
if not meta[1] then
  if ARGV[4] ~= '1' then return {'absent'} end
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'partitions', ARGV[2], 'digest', ARGV[3],
             'offset', '0')
  redis.call('SET', KEYS[2], ARGV[5])
  return {'ok', '0', ARGV[5]}
end
if meta[1] ~= ARGV[1] then return {'epoch', meta[1]} end
if meta[2] ~= ARGV[2] then return {'partitions', meta[2]} end
if meta[3] ~= ARGV[3] then return {'digest', meta[3]} end
return {'ok', meta[4], redis.call('GET', KEYS[2])}
"""

COMMIT = """
-- KEYS: 1 meta, 2 watermarks, then s states, a dedup buckets to append, d buckets to drop
-- ARGV: 1 epoch, 2 partitions, 3 digest, 4 expected offset, 5 next offset, 6 watermarks,
--       7 ttl in s, 8 s, 9 a, 10 d, then s states, then a packed hashes
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'partitions', 'digest', 'offset')
if not meta[1] then return {'absent'} end
if meta[1] ~= ARGV[1] then return {'epoch', meta[1]} end
if meta[2] ~= ARGV[2] then return {'partitions', meta[2]} end
if meta[3] ~= ARGV[3] then return {'digest', meta[3]} end
if meta[4] ~= ARGV[4] then return {'conflict', meta[4]} end
local ttl, s, a, d = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
for i = 1, s do redis.call('SET', KEYS[2 + i], ARGV[10 + i], 'EX', ttl) end
for i = 1, a do
  redis.call('APPEND', KEYS[2 + s + i], ARGV[10 + s + i])
  redis.call('EXPIRE', KEYS[2 + s + i], ttl)
end
for i = 1, d do redis.call('UNLINK', KEYS[2 + s + a + i]) end
redis.call('SET', KEYS[2], ARGV[6])
redis.call('HSET', KEYS[1], 'offset', ARGV[5], 'at', redis.call('TIME')[1])
return {'ok', ARGV[5]}
"""

BEGIN = """
-- KEYS: 1 pointer, 2 epochs.  ARGV: 1 what it becomes in an empty store, 2 epoch, 3 the next one
local now = redis.call('GET', KEYS[1])
if now then return {'ok', now} end
if redis.call('EXISTS', KEYS[2]) == 1 then return {'other'} end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[1], 'next', ARGV[3])
redis.call('SET', KEYS[1], ARGV[1])
return {'ok', ARGV[1]}
"""

ALLOCATE = """
-- KEYS: 1 epochs.  ARGV: 1 lowest, 2 updates topic of epoch 0, 3 partitions, 4 digest
local n = math.max(tonumber(ARGV[1]), tonumber(redis.call('HGET', KEYS[1], 'next') or '0'))
local topic = string.format('%s.e%d', ARGV[2], n)
local made = cjson.encode({epoch = n, updates_topic = topic, partitions = tonumber(ARGV[3]),
                           digest = ARGV[4]})
redis.call('HSET', KEYS[1], string.format('%d', n), made, 'next', string.format('%d', n + 1))
return {'ok', made}
"""

REVIVE = """
-- May the epoch be written? An emptied store does not know it any more, and learns it again.
-- KEYS: 1 pointer, 2 epochs.  ARGV: 1 our pointer, 2 epoch, 3 digest, 4 alive ('1' or '0')
local now = redis.call('GET', KEYS[1])
if ARGV[4] == '1' and now and now ~= ARGV[1] then
  return {'epoch', tostring(cjson.decode(now).epoch)}
end
local kept = redis.call('HGET', KEYS[2], ARGV[2])
if kept then
  local known = cjson.decode(kept)
  if known.digest ~= ARGV[3] then return {'digest', known.digest} end
  if known.gone then return {'epoch', 'retired'} end
else
  local free = math.max(tonumber(redis.call('HGET', KEYS[2], 'next') or '0'), ARGV[2] + 1)
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[1], 'next', string.format('%d', free))
end
if ARGV[4] == '1' then redis.call('SET', KEYS[1], ARGV[1]) end
return {'ok'}
"""

FLIP = """
-- KEYS: 1 pointer, 2 epochs.  ARGV: 1 what it must hold ('' = nothing), 2 what it becomes, 3 epoch
local now = redis.call('GET', KEYS[1]) or ''
if now ~= ARGV[1] then return {'conflict', now} end
local kept = redis.call('HGET', KEYS[2], ARGV[3])
if not kept or cjson.decode(kept).gone then return {'gone'} end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('HSET', KEYS[2], ARGV[3], ARGV[2])
return {'ok', ARGV[2]}
"""

BURY = """
-- KEYS: 1 pointer of its digest, 2 epochs.  ARGV: 1 epoch, 2 its record, which says that it is gone
local now = redis.call('GET', KEYS[1])
if now and tostring(cjson.decode(now).epoch) == ARGV[1] then redis.call('UNLINK', KEYS[1]) end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return {'ok'}
"""

FENCE = """
-- KEYS: 1 meta of a dead epoch.  ARGV: 1 what lives instead, 2 ttl in s
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return {'ok'}
"""


def refusal(status: bytes, rest: Sequence[bytes], partition: int, epoch: int) -> StoreError:
    """Return the exception for what a script answered instead of `ok`.

    Args:
        status: First element of the answer.
        rest: What the store holds instead.
        partition: Of the updates topic.
        epoch: The one that we write.
    """
    stored = rest[0].decode() if rest else ""
    where = f"updates partition {partition}"
    if status in (b"conflict", b"absent"):
        return StoreConflict(f"{where} stands at {stored or 'nothing'}, not where we left it")
    if stored == RETIRED:
        return StoreEpochMismatch(f"epoch {epoch}, which we write, was retired")
    if status == b"epoch":
        return StoreEpochMismatch(f"{where} was moved to epoch {stored}, we are in {epoch}")
    return SchemaMismatch(
        f"{where}: the stored {status.decode()} is {stored}: run `riskbeat rebuild`"
    )
