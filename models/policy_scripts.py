"""The policy store's moves, each one atomic script; all keys share one hash tag."""

_NOTE = """
local function note(acts, act, cap)
  redis.call('LPUSH', acts, act)
  redis.call('LTRIM', acts, 0, tonumber(cap) - 1)
end
"""
# KEYS: state, kept, acts.
# ARGV: version, kept, expected active, digest, act, acts cap, versions cap
# Returns {-1, 0} when done, else {active, latest}, which stood in the way
APPLY = (
    _NOTE
    + """
local active = tonumber(redis.call('HGET', KEYS[1], 'active') or '0')
local latest = tonumber(redis.call('HGET', KEYS[1], 'latest') or '0')
local version = tonumber(ARGV[1])
if active ~= tonumber(ARGV[3]) or version <= latest then return {active, latest} end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[1], 'active', ARGV[1], 'latest', ARGV[1], 'digest', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'revision', 1)
local numbers = {}
for _, n in ipairs(redis.call('HKEYS', KEYS[2])) do numbers[#numbers + 1] = tonumber(n) end
table.sort(numbers)
for i = 1, #numbers - tonumber(ARGV[7]) do
  redis.call('HDEL', KEYS[2], string.format('%d', numbers[i]))
end
note(KEYS[3], ARGV[5], ARGV[6])
return {-1, 0}
"""
)
# KEYS: state, kept, acts. ARGV: version, expected active, digest, act, acts cap.
# Returns -1 when done, -2 when the version is absent, else the active one
ROLLBACK = (
    _NOTE
    + """
local active = tonumber(redis.call('HGET', KEYS[1], 'active') or '0')
if active ~= tonumber(ARGV[2]) then return active end
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return -2 end
redis.call('HSET', KEYS[1], 'active', ARGV[1], 'digest', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'revision', 1)
note(KEYS[3], ARGV[4], ARGV[5])
return -1
"""
)
# KEYS: state, switches, acts. ARGV: rule, switch, act, acts cap
SWITCH = (
    _NOTE
    + """
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('HINCRBY', KEYS[1], 'revision', 1)
note(KEYS[3], ARGV[3], ARGV[4])
return 1
"""
)
# KEYS: state, switches, acts. ARGV: rule, act, acts cap
RESUME = (
    _NOTE
    + """
if redis.call('HDEL', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[1], 'revision', 1)
note(KEYS[3], ARGV[2], ARGV[3])
return 1
"""
)
# KEYS: acts. ARGV: act, acts cap
NOTE = _NOTE + "note(KEYS[1], ARGV[1], ARGV[2])\nreturn 1\n"
# KEYS: entries, counts, log. ARGV: entries max, log cap, change, then key, value, list of each.
# Returns how many are new; -1 when they would be too many
LIST_PUT = """
local new, added = {}, 0
for i = 4, #ARGV, 3 do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 0 and not new[ARGV[i]] then
    new[ARGV[i]] = ARGV[i + 2]
    added = added + 1
  end
end
if redis.call('HLEN', KEYS[1]) + added > tonumber(ARGV[1]) then return -1 end
for i = 4, #ARGV, 3 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
for _, list in pairs(new) do redis.call('HINCRBY', KEYS[2], list, 1) end
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], '*', 'c', ARGV[3])
return added
"""
# KEYS: entries, counts, log. ARGV: log cap, change, then key and list of each. Returns how many
LIST_REMOVE = """
local removed = 0
for i = 3, #ARGV, 2 do
  if redis.call('HDEL', KEYS[1], ARGV[i]) == 1 then
    removed = removed + 1
    redis.call('HINCRBY', KEYS[2], ARGV[i + 1], -1)
  end
end
if removed > 0 then redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[1], '*', 'c', ARGV[2]) end
return removed
"""
# KEYS: log. ARGV: position, count. Returns first id, last id, changes after the position
LIST_CHANGES = """
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local found = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
return {first[1] and first[1][1] or '0-0', last[1] and last[1][1] or '0-0', found}
"""
