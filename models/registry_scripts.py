"""The weights registry's moves, each one atomic script on the node that holds a line of versions.

A line's versions stand under `v:N` beside its other keys, with the same hash tag. Which of them a
publication lets go is known only inside the script, so it makes their names itself, from the
name of `state`: they are on the same node.
"""

# Defines `at(n)`, the key of version n, and `trim()`, which drops what no chain needs of a version
# that is kept (as many as the last publisher keeps), pinned or held.
# KEYS[1] is state, KEYS[2] fulls.
_SHELF = """
local state, fulls = KEYS[1], KEYS[2]
local line = string.sub(state, 1, -6)
local function at(n) return line .. 'v:' .. n end
local function trim()
  local keep = tonumber(redis.call('HGET', state, 'keep'))
  local latest = tonumber(redis.call('HGET', state, 'latest') or '0')
  local pinned = tonumber(redis.call('HGET', state, 'pinned') or '0')
  local held = tonumber(redis.call('HGET', state, 'held') or '0')
  local flat = redis.call('HGETALL', fulls)
  local floor, pinned_full, held_full = latest, pinned, held
  for i = 1, #flat, 2 do
    local n, full = tonumber(flat[i]), tonumber(flat[i + 1])
    if n > latest - keep and full < floor then floor = full end
    if n == pinned then pinned_full = full end
    if n == held then held_full = full end
  end
  for i = 1, #flat, 2 do
    local n = tonumber(flat[i])
    if n < floor and (n > pinned or n < pinned_full) and (n > held or n < held_full) then
      redis.call('DEL', at(n))
      redis.call('HDEL', fulls, n)
    end
  end
end
local function note(acts, act, cap)
  redis.call('LPUSH', acts, act)
  redis.call('LTRIM', acts, 0, tonumber(cap) - 1)
end
"""
# KEYS: state, fulls, news. ARGV: version, bytes, base, over gaps?, news cap, keep.
# Returns -1 when done, -2 when the base is absent, else the latest version that stood in the way
PUBLISH = (
    _SHELF
    + """
local latest = tonumber(redis.call('HGET', state, 'latest') or '0')
local version = tonumber(ARGV[1])
if ARGV[4] == '1' then
  if latest >= version then return latest end
elseif latest + 1 ~= version then
  return latest
end
local full = ARGV[1]
if ARGV[3] ~= '0' then
  full = redis.call('HGET', fulls, ARGV[3])
  if not full then return -2 end
end
redis.call('SET', at(ARGV[1]), ARGV[2])
redis.call('HSET', fulls, ARGV[1], full)
redis.call('HSET', state, 'latest', ARGV[1])
if not redis.call('HGET', state, 'pinned') then redis.call('HSET', state, 'active', ARGV[1]) end
redis.call('HSET', state, 'keep', ARGV[6])
trim()
redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[5], '*', 'v', ARGV[1])
return -1
"""
)
# KEYS: state, fulls, news, acts. ARGV: version, act, news cap, acts cap
PIN = (
    _SHELF
    + """
if redis.call('HEXISTS', fulls, ARGV[1]) == 0 then return 0 end
redis.call('HSET', state, 'pinned', ARGV[1], 'active', ARGV[1])
trim()
note(KEYS[4], ARGV[2], ARGV[4])
redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[3], '*', 'v', ARGV[1])
return 1
"""
)
# KEYS: state, fulls. ARGV: version, or 0 for none
HOLD = (
    _SHELF
    + """
if ARGV[1] == '0' then
  redis.call('HDEL', state, 'held')
  trim()
  return 1
end
if redis.call('HEXISTS', fulls, ARGV[1]) == 0 then return 0 end
redis.call('HSET', state, 'held', ARGV[1])
trim()
return 1
"""
)
# KEYS: state, fulls, news, acts. ARGV: the pin to lift, act, news cap, acts cap
UNPIN = (
    _SHELF
    + """
if redis.call('HGET', state, 'pinned') ~= ARGV[1] then return 0 end
local latest = redis.call('HGET', state, 'latest')
redis.call('HDEL', state, 'pinned')
redis.call('HSET', state, 'active', latest)
trim()
note(KEYS[4], ARGV[2], ARGV[4])
redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[3], '*', 'v', latest)
return 1
"""
)
# KEYS: state, fulls. Returns number, number of its full version, bytes, of each on the shelf
SHELF = (
    _SHELF
    + """
local flat, found = redis.call('HGETALL', fulls), {}
for i = 1, #flat, 2 do
  found[#found + 1] = tonumber(flat[i])
  found[#found + 1] = tonumber(flat[i + 1])
  found[#found + 1] = redis.call('STRLEN', at(flat[i]))
end
return found
"""
)
# KEYS: state, news. Pointers and the place in the news from which to wait, read together
STANDING = """
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
local state = redis.call('HMGET', KEYS[1], 'latest', 'active', 'pinned')
return {state[1] or '0', state[2] or '0', state[3] or '0', last[1] and last[1][1] or '0-0'}
"""
# KEYS: seen, scorers. ARGV: ttl ms, then scorer id and version, or nothing to only read
REPORT = """
local now = redis.call('TIME')
local now_ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms)) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
end
if ARGV[2] then
  redis.call('ZADD', KEYS[1], now_ms + tonumber(ARGV[1]), ARGV[2])
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
  return {}
end
return redis.call('HGETALL', KEYS[2])
"""
# KEYS: who sends label transitions. ARGV: who asks to
CLAIM = """
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
"""
# KEYS: freeze, acts. ARGV: freeze, act, acts cap. Returns the freeze that stands
FREEZE = """
redis.call('SET', KEYS[1], ARGV[1], 'NX')
redis.call('LPUSH', KEYS[2], ARGV[2])
redis.call('LTRIM', KEYS[2], 0, tonumber(ARGV[3]) - 1)
return redis.call('GET', KEYS[1])
"""
# KEYS: freeze, acts. ARGV: act, acts cap
THAW = """
if redis.call('DEL', KEYS[1]) == 0 then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[1])
redis.call('LTRIM', KEYS[2], 0, tonumber(ARGV[2]) - 1)
return 1
"""
# KEYS: lease. ARGV: owner, ttl ms, whom it may take the lease from. Returns the owner
LEASE = """
local owner = redis.call('GET', KEYS[1])
if not owner or owner == ARGV[1] or owner == ARGV[3] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return ARGV[1]
end
return owner
"""
# KEYS: lease. ARGV: owner
RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 0
"""
