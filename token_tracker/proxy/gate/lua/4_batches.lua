-- What a gateway tells: calls that ended, never left, or live on.

local function place(op)
  local entries = p .. 'e:' .. op.incarnation
  local booked = call('HGET', entries, '#pos') or ''
  local entry = read(op.incarnation, op.id)
  if entry and entry.state == FREED then
    entry = nil
  end
  if op.position == '' then
    if booked == END or (entry and entry.state == ENDED) then
      return
    end
  elseif op.position <= booked then
    if entry then
      drop(op.incarnation, op.id, entry, op.counted[2][1])
    end
    return
  end
  entry = entry or {places = {}, counted = {{0, 0, 0}, {0, 0, 0}}}
  count(entry, -1)
  entry.places, entry.counted = op.places, op.counted
  if op.position == '' then
    entry.state = LIVE
  else
    free_rates(op.id, entry, op.counted[2][1])
    if entry.position then
      call('ZREM', p .. 'o:' .. op.incarnation, entry.position .. ':' .. op.id)
    end
    entry.state, entry.position = ENDED, op.position
    call('ZADD', p .. 'o:' .. op.incarnation, 0, op.position .. ':' .. op.id)
  end
  count(entry, 1)
  call('HSET', entries, op.id, pack(entry))
end

-- `is_unknown`: its admission was given up without an answer, and may still come.
local function free(op)
  local entry = read(op.incarnation, op.id)
  if entry and entry.state == LIVE then
    drop(op.incarnation, op.id, entry, 0)
    entry = nil
  end
  if op.is_unknown and not entry then
    call('HSET', p .. 'e:' .. op.incarnation, op.id, pack({state = FREED, places = {}, counted = {{0, 0, 0}, {0, 0, 0}}}))
  end
end

local function renew(op)
  for _, counter in ipairs(op.counters) do
    call('ZADD', p .. 'l:' .. counter, int(op.until_us), op.id)
    call('EXPIRE', p .. 'l:' .. counter, 60)
  end
end

-- The calls that a gateway holds something for, as far as this server knows.
function commands.live(asked)
  local all, ids = call('HGETALL', p .. 'e:' .. asked.incarnation), {}
  for i = 1, #all, 2 do
    if all[i]:sub(1, 1) ~= '#' and unpack_(all[i + 1]).state == LIVE then
      ids[#ids + 1] = all[i]
    end
  end
  return {generation[1] or '', ids}
end

local operations = {place = place, free = free, renew = renew}

-- A batch of one gateway, each once and in order; and what it must know from time to time.
function commands.batch(batch)
  if generation[1] ~= batch.generation then
    return {'lost', generation[1] or ''}
  end
  local own = p .. 'e:' .. batch.incarnation
  local known = call('HMGET', own, '#seq', '#silent', '#left')
  begin()
  if known[2] then
    turn(batch.incarnation, false)
  end
  if tonumber(known[1] or 0) < batch.sequence then
    for _, op in ipairs(batch.operations) do
      operations[op.kind](op)
    end
    call('HSET', own, '#seq', int(batch.sequence))
  end
  if known[3] and batch.is_told then
    told_itself(batch.incarnation)
  end
  commit()
  call('HSET', own, '#at', call('TIME')[1])
  if generation[2] ~= 'ready' then
    local since = call('HMGET', KEYS[1], 'since', 'books')
    if since[2] and tonumber(call('TIME')[1]) - tonumber(since[1]) >= batch.recovery_s then
      call('HSET', KEYS[1], 'state', 'ready')
      generation[2] = 'ready'
    end
  end
  return {'taken', generation[2], call('HGET', own, '#pos') or '', call('SMEMBERS', p .. 'y')}
end
