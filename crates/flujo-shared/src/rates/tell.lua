-- Takes in what became of a call: tokens it used; -1 when nobody knows; -2 when it was never made. With a time for which
-- nobody is to be let through, 0 without one.
local call, scale = ARGV[1], tonumber(ARGV[2])
local tokens, hold = tonumber(ARGV[8]), tonumber(ARGV[9])
local time = redis.call('TIME')
local now = math.floor(((time[1] - 1700000000) * 1000000 + time[2]) * scale)

redis.call('ZREM', KEYS[4], call)
if tokens == -2 then
  redis.call('ZREM', KEYS[1], call)
  redis.call('ZREM', KEYS[2], call)
  redis.call('HDEL', KEYS[3], call)
elseif tokens >= 0 then
  -- It counts from its end, where that is earlier than it would count from otherwise.
  redis.call('ZADD', KEYS[1], 'XX', 'LT', now, call)
  if redis.call('HEXISTS', KEYS[3], call) == 1 then
    redis.call('ZADD', KEYS[2], 'XX', 'LT', now, call)
    redis.call('HSET', KEYS[3], call, tokens)
  end
end
if hold > 0 then
  local before = tonumber(redis.call('GET', KEYS[5]) or '0')
  redis.call('SET', KEYS[5], string.format('%.0f', math.max(before, now + hold)), 'PX', math.ceil(hold / scale / 1000) + 1)
end
return 0
