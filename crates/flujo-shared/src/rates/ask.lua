-- Lets a call through and answers 0, or answers how many microseconds it has to wait.
-- Times are microseconds of the server's clock, times the scale. A call counts from the earlier of its end and a tenth of
-- the span after its beginning, for one span.
local call, scale = ARGV[1], tonumber(ARGV[2])
local most_requests, request_span = tonumber(ARGV[3]), tonumber(ARGV[4])
local most_tokens, token_span = tonumber(ARGV[5]), tonumber(ARGV[6])
local at_once, tokens = tonumber(ARGV[7]), math.max(tonumber(ARGV[8]), 1)
local lease = tonumber(ARGV[10])
local time = redis.call('TIME')
local now = math.floor(((time[1] - 1700000000) * 1000000 + time[2]) * scale)
local wait = 0

local hold = tonumber(redis.call('GET', KEYS[5]) or '0')
if hold > now then wait = hold - now end

if at_once > 0 then
  -- Calls stand with the end of their lease: those of a process that died are given back with it.
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
  if redis.call('ZCARD', KEYS[4]) >= at_once then wait = math.max(wait, 20000 * scale) end
end

if most_requests > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - request_span)
  local over = redis.call('ZCARD', KEYS[1]) + 1 - most_requests
  if over > 0 then
    local oldest = redis.call('ZRANGE', KEYS[1], over - 1, over - 1, 'WITHSCORES')
    wait = math.max(wait, oldest[2] + request_span - now)
  end
end

if most_tokens > 0 then
  local past = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - token_span)
  for _, old in ipairs(past) do redis.call('HDEL', KEYS[3], old) end
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - token_span)
  local sum = math.min(tokens, most_tokens)
  for _, amount in ipairs(redis.call('HVALS', KEYS[3])) do sum = sum + tonumber(amount) end
  if sum > most_tokens then
    local kept = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
    local place = 1
    while sum > most_tokens and kept[place] do
      sum = sum - tonumber(redis.call('HGET', KEYS[3], kept[place]) or '0')
      wait = math.max(wait, kept[place + 1] + token_span - now)
      place = place + 2
    end
  end
end

if wait > 0 then return math.ceil(wait) end
if most_requests > 0 then
  redis.call('ZADD', KEYS[1], now + math.floor(request_span / 10), call)
  redis.call('PEXPIRE', KEYS[1], math.ceil(request_span / 1000 * 1.2))
end
if most_tokens > 0 then
  redis.call('ZADD', KEYS[2], now + math.floor(token_span / 10), call)
  redis.call('HSET', KEYS[3], call, tokens)
  local span_ms = math.ceil(token_span / 1000 * 1.2)
  redis.call('PEXPIRE', KEYS[2], span_ms)
  redis.call('PEXPIRE', KEYS[3], span_ms)
end
if at_once > 0 then
  redis.call('ZADD', KEYS[4], now + math.floor(lease * scale), call)
  redis.call('PEXPIRE', KEYS[4], math.ceil(lease / 1000) * 60)
end
return 0
