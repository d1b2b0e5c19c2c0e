-- Says of calls (from the third argument on) that they are under way: their lease ends so many microseconds from now.
local scale, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = math.floor(((time[1] - 1700000000) * 1000000 + time[2]) * scale)
for place = 3, #ARGV do
  redis.call('ZADD', KEYS[1], now + math.floor(lease * scale), ARGV[place])
end
redis.call('PEXPIRE', KEYS[1], math.ceil(lease / 1000) * 60)
return 0
