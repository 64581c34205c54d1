-- The gate's counters in Redis. One call admits all rules of a call or none; all keys share one hash tag.
-- KEYS[1]: {namespace}:g, the generation. ARGV[1]: what to do, ARGV[2]: its arguments, MessagePack. Answers are
-- MessagePack. Amounts are kept as 64-bit integers and read as doubles: exact up to 2^53, beyond it rounded against the
-- spender (SLACK).
--
--   <g>                 hash   id, run, state ('recovering' | 'ready'), since, books
--   <p>c:counter:bucket hash   s h u: spent, held, unproven, the base in them; b d v: the base's spent, unproven, version
--   <p>r:counter        hash   s h u of all buckets from f on (rolling windows)
--   <p>k:counter        zset   its buckets
--   <p>e:incarnation    hash   call -> entry; #seq, #at: the last batch taken, and when; #pos: how far the journal is
--                              booked; #silent, #left: see 3_silence.lua
--   <p>o:incarnation    zset   position and call of what has ended and is not booked
--   <p>w:counter        hash   a rate's slices by number modulo 61; t: their sum, n: the newest
--   <p>l:counter        zset   calls in flight, by the end of their lease
--   <p>m:rule           zset   live members, by when they may be forgotten
--   <p>y                set    rules whose bases are there
local call, unpack_, pack = redis.call, cmsgpack.unpack, cmsgpack.pack
local base_key = string.sub(KEYS[1], 1, -2)
local EXACT, SLACK, KEPT_S, COUNTED = 2 ^ 53, 8192, 7200, 61
local LIVE, ENDED, FREED, LEFT = 1, 2, 3, 4
local END = string.rep('9', 25)
local generation = call('HMGET', KEYS[1], 'id', 'state')
local p = base_key .. (generation[1] or '') .. ':'
local now_s

local function int(number)
  return string.format('%.0f', number)
end

local function amounts(key)
  local found = call('HMGET', key, 's', 'h', 'u', 'f')
  return {found[1] or '0', found[2] or '0', found[3] or '0', found[4]}
end

-- By the server's own clock: a gateway whose clock is ahead must not end what others still count.
local server_s
local function expire(key, at_s)
  if at_s < 2 ^ 50 then
    server_s = server_s or tonumber(call('TIME')[1])
    call('EXPIRE', key, KEPT_S + math.max(0, at_s - server_s))
  end
end

-- The amounts that an admission compares with the limit: {s, h, u}, as text.
local function window(counter, bucket, hours, first)
  if hours == 0 then
    return amounts(p .. 'c:' .. counter .. ':' .. int(bucket))
  end
  local key = p .. 'r:' .. counter
  local sum = amounts(key)
  if sum[4] ~= int(first) then
    call('DEL', key)
    for _, each in ipairs(call('ZRANGEBYSCORE', p .. 'k:' .. counter, int(first), '+inf')) do
      local cell = amounts(p .. 'c:' .. counter .. ':' .. each)
      for i, field in ipairs({'s', 'h', 'u'}) do
        call('HINCRBY', key, field, cell[i])
      end
    end
    call('HSET', key, 'f', int(first))
    expire(key, first + (hours + 1) * 3600)
    sum = amounts(key)
  end
  return sum
end

-- The oldest bucket of a rolling window in which anything counts.
local function oldest(counter, first)
  for _, each in ipairs(call('ZRANGEBYSCORE', p .. 'k:' .. counter, int(first), '+inf')) do
    local cell = amounts(p .. 'c:' .. counter .. ':' .. each)
    if cell[1] ~= '0' or cell[2] ~= '0' or cell[3] ~= '0' then
      return tonumber(each)
    end
  end
  return 0
end

-- A bucket that was written for the first time (or stood at 0) is listed, and forgotten in time.
local function list(counter, bucket, leaves_s)
  call('ZADD', p .. 'k:' .. counter, int(bucket), int(bucket))
  expire(p .. 'c:' .. counter .. ':' .. int(bucket), leaves_s)
  expire(p .. 'k:' .. counter, leaves_s)
end

-- Add to a bucket and to the rolling sum over it; whether the bucket may be new.
local function add(counter, bucket, leaves_s, spent, held, unproven)
  local cell = p .. 'c:' .. counter .. ':' .. int(bucket)
  local sum = p .. 'r:' .. counter
  local first = call('HGET', sum, 'f')
  local is_summed = first and bucket >= tonumber(first)
  local is_new = spent == 0 and held == 0 and unproven == 0
  for field, amount in pairs({s = spent, h = held, u = unproven}) do
    if amount ~= 0 then
      local text = int(amount)
      is_new = call('HINCRBY', cell, field, text) == amount or is_new
      if is_summed then
        call('HINCRBY', sum, field, text)
      end
    end
  end
  if is_new then
    list(counter, bucket, leaves_s)
  end
  return is_new
end

local commands = {}
