-- Gateways that no longer answer: what they held stays counted, as what nobody proved. An incarnation that says nothing
-- for a while is `#silent`; one that this server was never told of, as it lost its state meanwhile, is stood in for by
-- what its node said last (`#left`), until it tells itself or its journal is booked.

local function turn(incarnation, is_silent)
  local entries = p .. 'e:' .. incarnation
  local all = call('HGETALL', entries)
  for i = 1, #all, 2 do
    if all[i]:sub(1, 1) ~= '#' then
      local entry = unpack_(all[i + 1])
      if entry.state == LIVE then
        count(entry, -1)
        for _, counted in ipairs(entry.counted) do
          local amount = counted[2] + counted[3]
          counted[2], counted[3] = is_silent and 0 or amount, is_silent and amount or 0
        end
        count(entry, 1)
        call('HSET', entries, all[i], pack(entry))
      end
    end
  end
  if is_silent then
    call('HSET', entries, '#silent', '1')
  else
    call('HDEL', entries, '#silent')
  end
end

local function stand_in(incarnation, held)
  local entries = p .. 'e:' .. incarnation
  for _, each in ipairs(held) do
    local counter, bucket, leaves_s, amount = each[1], each[2], each[3], each[4]
    local entry = {state = LEFT, places = {{counter, bucket, 0, 0, leaves_s}}, counted = {{0, 0, amount}, {0, 0, 0}}}
    count(entry, 1)
    call('HSET', entries, 'left|' .. counter .. '|' .. int(bucket), pack(entry))
  end
  call('HSET', entries, '#left', '1')
end

local function told_itself(incarnation)
  local entries = p .. 'e:' .. incarnation
  local all = call('HGETALL', entries)
  for i = 1, #all, 2 do
    if all[i]:sub(1, 5) == 'left|' then
      drop(incarnation, all[i], unpack_(all[i + 1]), 0)
    end
  end
  call('HDEL', entries, '#left')
end

-- `left`: an incarnation, and what its node said last that it holds.
local function leave(left, silence_s)
  local known = call('HMGET', p .. 'e:' .. left[1], '#pos', '#at', '#silent', '#left')
  if known[1] == END or known[3] or known[4] then
    return
  end
  if not known[2] then
    stand_in(left[1], left[2])
  elseif tonumber(call('TIME')[1]) - tonumber(known[2]) >= silence_s then
    turn(left[1], true)
  end
end
