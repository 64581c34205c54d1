-- The gate's counters in Redis. One call admits all rules of a call or none; all keys share one hash tag.
-- KEYS[1]: {namespace}:g, the generation. ARGV[1]: what to do, ARGV[2]: its arguments, MessagePack. Answers are
-- MessagePack. Amounts are kept as 64-bit integers and read as doubles: exact up to 2^53, beyond it rounded against the
-- spender (SLACK).
--
--   <g>                 hash   id, run, state ('recovering' | 'ready'), since, books
--   <p>c:counter:bucket hash   s h u: spent, held, unproven, the base in them; b d v: the base's spent, unproven, version
--   <p>r:counter        hash   s h u of all buckets from f on (rolling windows)
--   <p>k:counter        zset   its buckets
--   <p>e:incarnation    hash   call -> entry; #seq, #pos: the last batch taken, how far the journal is booked
--   <p>o:incarnation    zset   position and call of what has ended and is not booked
--   <p>w:counter        hash   a rate's slices by number modulo 61; t: their sum, n: the newest
--   <p>l:counter        zset   calls in flight, by the end of their lease
--   <p>m:rule           zset   live members, by when they may be forgotten
--   <p>y                set    rules whose bases are there
local call, unpack_, pack = redis.call, cmsgpack.unpack, cmsgpack.pack
local base_key = string.sub(KEYS[1], 1, -2)
local EXACT, SLACK, KEPT_S, COUNTED = 2 ^ 53, 8192, 7200, 61
local LIVE, ENDED, FREED = 1, 2, 3
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

local function expire(key, at_s)
  if at_s < 2 ^ 50 then
    call('EXPIRE', key, math.max(1, at_s + KEPT_S - now_s))
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

-- Add to a bucket and to the rolling sum over it.
local function add(counter, bucket, leaves_s, spent, held, unproven)
  local cell = p .. 'c:' .. counter .. ':' .. int(bucket)
  local keys = {cell}
  local first = call('HGET', p .. 'r:' .. counter, 'f')
  if first and bucket >= tonumber(first) then
    keys[2] = p .. 'r:' .. counter
  end
  for _, key in ipairs(keys) do
    if spent ~= 0 then call('HINCRBY', key, 's', int(spent)) end
    if held ~= 0 then call('HINCRBY', key, 'h', int(held)) end
    if unproven ~= 0 then call('HINCRBY', key, 'u', int(unproven)) end
  end
  call('ZADD', p .. 'k:' .. counter, int(bucket), int(bucket))
  expire(cell, leaves_s)
  expire(p .. 'k:' .. counter, leaves_s)
end

-- Changes of a whole batch, added up by bucket so that a bucket is written once.
local changes, order
local function count(entry, sign)
  for _, place in ipairs(entry.places) do
    local counter, bucket, measure, leaves_s = place[1], place[2], place[3], place[5]
    local name = counter .. '\0' .. int(bucket)
    local change = changes[name]
    if not change then
      change = {counter, bucket, leaves_s, 0, 0, 0}
      changes[name] = change
      order[#order + 1] = change
    end
    local counted = entry.counted[measure + 1]
    for i = 1, 3 do
      change[3 + i] = change[3 + i] + sign * counted[i]
    end
  end
end

local function begin()
  changes, order = {}, {}
end

local function commit()
  for _, change in ipairs(order) do
    add(change[1], change[2], change[3], change[4], change[5], change[6])
  end
end

-- The slice in which an admission now is counted; what is too old is forgotten.
local function advance(key, slice)
  local found = call('HMGET', key, 't', 'n')
  local total, newest = tonumber(found[1] or 0), tonumber(found[2] or -1)
  if slice == newest then
    return total, slice
  end
  if newest - COUNTED < slice and slice < newest then
    return total, newest
  end
  if slice - COUNTED >= newest or slice < newest then
    call('DEL', key)
    total = 0
  else
    for number = newest + 1, slice do
      local field = int(number % COUNTED)
      total = total - tonumber(call('HGET', key, field) or 0)
      call('HDEL', key, field)
    end
  end
  call('HSET', key, 't', int(total), 'n', int(slice))
  return total, slice
end

local function correct(key, slice, amount)
  local newest = tonumber(call('HGET', key, 'n') or -1)
  if newest - COUNTED < slice and slice <= newest then
    local field = int(slice % COUNTED)
    amount = math.max(amount, -tonumber(call('HGET', key, field) or 0))
    call('HINCRBY', key, field, int(amount))
    call('HINCRBY', key, 't', int(amount))
  end
end

-- Leases end with the call, and rates of tokens learn what it really took, in the slice of its admission.
local function free_rates(id, entry, tokens)
  for _, counter in ipairs(entry.leases or {}) do
    call('ZREM', p .. 'l:' .. counter, id)
  end
  for _, each in ipairs(entry.slices or {}) do
    correct(p .. 'w:' .. each[1], each[2], tokens - each[3])
  end
  entry.leases, entry.slices = nil, nil
end

local function read(incarnation, id)
  local packed = call('HGET', p .. 'e:' .. incarnation, id)
  return packed and unpack_(packed)
end

local function drop(incarnation, id, entry, tokens)
  count(entry, -1)
  free_rates(id, entry, tokens)
  call('HDEL', p .. 'e:' .. incarnation, id)
  if entry.position then
    call('ZREM', p .. 'o:' .. incarnation, entry.position .. ':' .. id)
  end
end

-- Whether the rule of a member has room for it.
local function has_room(rule, counter, most)
  local key = p .. 'm:' .. rule
  if call('ZCARD', key) < most or call('ZSCORE', key, counter) then
    return true
  end
  call('ZREMRANGEBYSCORE', key, '-inf', '(' .. int(now_s))
  return call('ZCARD', key) < most
end

-- What the largest output maximum is whose worst case fits into `left`; exact also where left * 1000 is not.
local function outputs(left, whole, part, most)
  if left < 0 then
    return -1
  end
  local per = whole + part / 1000
  if per == 0 then
    return most
  end
  local found = math.min(most, math.floor(left / per))
  while found > 0 and whole * found + math.ceil(part * found / 1000) > left do
    found = found - 1
  end
  while found < most and whole * (found + 1) + math.ceil(part * (found + 1) / 1000) <= left do
    found = found + 1
  end
  return found
end

-- The amounts of all budgets, and whether there is room: the output maximum, or nil.
local function weigh(ask, states)
  local left, is_open = {}, true
  local fixed = {ask.usd_fixed, ask.tokens_fixed}
  for i, budget in ipairs(ask.budgets) do
    local state = window(budget.counter, budget.bucket, budget.hours, budget.first)
    states[i] = state
    local spent = tonumber(state[1])
    local counted = spent + tonumber(state[2]) + tonumber(state[3])
    if budget.member_rule and not has_room(budget.member_rule, budget.counter, ask.members_most) then
      state[4], is_open = 'full', false
    else
      state[4] = ''
    end
    if budget.is_hard then
      local m = budget.measure + 1
      if fixed[m] then
        local slack = (counted > EXACT or budget.limit > EXACT) and SLACK or 0
        left[m] = math.min(left[m] or math.huge, budget.limit - counted - slack)
      elseif not budget.allow_unbounded then
        is_open = false
      end
    end
    if (not budget.is_hard or not fixed[budget.measure + 1]) and spent >= budget.limit then
      is_open = false
    end
    local judged = budget.is_hard and counted or spent
    if budget.downgrade_at and ask.may_downgrade and judged * 100 >= budget.limit * budget.downgrade_at then
      is_open = false
    end
  end
  local output = ask.output_max
  if ask.output_min < ask.output_max then
    local share = ask.is_own_maximum and 1 or 2
    if left[1] then
      output = math.min(output, outputs(math.floor((left[1] - fixed[1]) / share), ask.usd_whole, ask.usd_part, output))
    end
    if left[2] then
      output = math.min(output, outputs(math.floor((left[2] - fixed[2]) / share), ask.tokens_per, 0, output))
    end
    output = math.max(output, ask.output_min)
  end
  local usd = (fixed[1] or 0) + ask.usd_whole * output + math.ceil(ask.usd_part * output / 1000)
  local tokens = (fixed[2] or 0) + ask.tokens_per * output
  local fits = (not left[1] or usd <= math.min(left[1], ask.largest))
    and (not left[2] or tokens <= math.min(left[2], ask.largest))
  return is_open and fits, output, usd, tokens
end

-- How much each rate counts, and whether all have room.
local function rate(ask, found)
  local is_open = true
  for i, each in ipairs(ask.rates) do
    local state
    if each.is_lease then
      local key = p .. 'l:' .. each.counter
      call('ZREMRANGEBYSCORE', key, '-inf', int(ask.now_us))
      state = {call('ZCARD', key), 0}
      is_open = is_open and state[1] < each.limit
    else
      local total, slice = advance(p .. 'w:' .. each.counter, math.floor(ask.now_us / each.slice_us))
      state = {total, slice}
      each.amount = each.is_tokens and math.min(ask.rate_tokens, each.limit) or 1
      is_open = is_open and total + each.amount <= each.limit
    end
    if each.member_rule and not has_room(each.member_rule, each.counter, ask.members_most) then
      state[3], is_open = 'full', false
    end
    found[i] = state
  end
  return is_open
end

local commands = {}

function commands.admit(ask)
  now_s = math.floor(ask.now_us / 1000000)
  if generation[1] ~= ask.generation then
    return {'lost'}
  end
  local entries = p .. 'e:' .. ask.incarnation
  local known = call('HMGET', entries, ask.id, '#pos')
  if known[1] or known[2] == END then
    return {'known'}
  end
  if generation[2] ~= 'ready' and ask.is_hard then
    return {'recovering'}
  end
  local states, rates = {}, {}
  local has_budgets, output, usd, tokens = weigh(ask, states)
  local has_rates = rate(ask, rates)
  if not (has_budgets and has_rates) then
    local slices = {}
    for i, each in ipairs(ask.rates) do
      slices[i] = each.is_lease and {} or call('HGETALL', p .. 'w:' .. each.counter)
    end
    for i, budget in ipairs(ask.budgets) do
      states[i][5] = budget.hours > 0 and oldest(budget.counter, budget.first) or budget.bucket
    end
    return {'refused', states, rates, slices}
  end
  local entry = {state = LIVE, places = {}, counted = {{0, usd, 0}, {0, tokens, 0}}, leases = {}, slices = {}}
  for i, budget in ipairs(ask.budgets) do
    entry.places[i] = budget.place
    add(budget.counter, budget.bucket, budget.leaves, 0, budget.measure == 0 and usd or tokens, 0)
    if budget.member_rule then
      call('ZADD', p .. 'm:' .. budget.member_rule, int(budget.leaves), budget.counter)
    end
  end
  for i, each in ipairs(ask.rates) do
    local idle_s = now_s + 15
    if each.is_lease then
      local key = p .. 'l:' .. each.counter
      call('ZADD', key, int(ask.lease_until_us), ask.id)
      call('EXPIRE', key, 60)
      entry.leases[#entry.leases + 1] = each.counter
      rates[i][1] = rates[i][1] + 1
    else
      local key, slice = p .. 'w:' .. each.counter, rates[i][2]
      call('HINCRBY', key, int(slice % COUNTED), int(each.amount))
      call('HINCRBY', key, 't', int(each.amount))
      idle_s = math.ceil((slice + COUNTED) * each.slice_us / 1000000)
      call('EXPIRE', key, math.max(1, idle_s - now_s) + 60)
      rates[i][1] = rates[i][1] + each.amount
      if each.is_tokens then
        entry.slices[#entry.slices + 1] = {each.counter, slice, each.amount}
      end
    end
    if each.member_rule then
      call('ZADD', p .. 'm:' .. each.member_rule, int(idle_s), each.counter)
    end
  end
  if #entry.places + #entry.leases + #entry.slices > 0 then
    call('HSET', entries, ask.id, pack(entry))
  end
  return {'admitted', output, usd, tokens, rates}
end

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

local operations = {place = place, free = free, renew = renew}

-- A batch of one gateway, each once and in order; and what it must know from time to time.
function commands.batch(batch)
  now_s = batch.now_s
  if generation[1] ~= batch.generation then
    return {'lost', generation[1] or ''}
  end
  local own = p .. 'e:' .. batch.incarnation
  if tonumber(call('HGET', own, '#seq') or 0) < batch.sequence then
    begin()
    for _, op in ipairs(batch.operations) do
      operations[op.kind](op)
    end
    commit()
    call('HSET', own, '#seq', int(batch.sequence))
  end
  if generation[2] ~= 'ready' then
    local since = call('HMGET', KEYS[1], 'since', 'books')
    if since[2] and tonumber(call('TIME')[1]) - tonumber(since[1]) >= batch.recovery_s then
      call('HSET', KEYS[1], 'state', 'ready')
      generation[2] = 'ready'
    end
  end
  return {'taken', generation[2], call('HGET', own, '#pos') or '', call('SMEMBERS', p .. 'y')}
end

local function rebase(base)
  local counter, bucket, leaves_s = base[1], base[2], base[3]
  local cell = p .. 'c:' .. counter .. ':' .. int(bucket)
  local old = call('HMGET', cell, 'b', 'd', 'v')
  if base[6] <= tonumber(old[3] or 0) then
    return
  end
  local keys = {cell}
  local first = call('HGET', p .. 'r:' .. counter, 'f')
  if first and bucket >= tonumber(first) then
    keys[2] = p .. 'r:' .. counter
  end
  for _, key in ipairs(keys) do
    for i, field in ipairs({'s', 'u'}) do
      local before = old[i] or '0'
      call('HINCRBY', key, field, base[3 + i])
      if before ~= '0' then
        call('HINCRBY', key, field, before:sub(1, 1) == '-' and before:sub(2) or '-' .. before)
      end
    end
  end
  call('HSET', cell, 'b', base[4], 'd', base[5], 'v', int(base[6]))
  call('ZADD', p .. 'k:' .. counter, int(bucket), int(bucket))
  expire(cell, leaves_s)
  expire(p .. 'k:' .. counter, leaves_s)
end

local function booked(incarnation, position)
  local entries, ended = p .. 'e:' .. incarnation, p .. 'o:' .. incarnation
  if position <= (call('HGET', entries, '#pos') or '') then
    return
  end
  if position == END then
    local all = call('HGETALL', entries)
    for i = 1, #all, 2 do
      if all[i]:sub(1, 1) ~= '#' then
        drop(incarnation, all[i], unpack_(all[i + 1]), 0)
      end
    end
    call('DEL', entries, ended)
    call('HSET', entries, '#pos', END)
    call('EXPIRE', entries, 30 * 86400)
    return
  end
  call('HSET', entries, '#pos', position)
  for _, member in ipairs(call('ZRANGEBYLEX', ended, '-', '(' .. position .. ';')) do
    local id = member:sub(#position + 2)
    local entry = read(incarnation, id)
    if entry then
      drop(incarnation, id, entry, entry.counted[2][1])
    end
  end
end

function commands.books(books)
  now_s = books.now_s
  if generation[1] ~= books.generation then
    return {'lost', generation[1] or '', generation[2] or ''}
  end
  begin()
  for _, base in ipairs(books.bases) do
    rebase(base)
  end
  for _, each in ipairs(books.positions) do
    booked(each[1], each[2])
  end
  commit()
  for _, rule in ipairs(books.ready) do
    call('SADD', p .. 'y', rule)
  end
  if books.is_complete then
    call('HSET', KEYS[1], 'books', '1')
  end
  return {'taken', generation[1], generation[2]}
end

-- Who connects says which server it found; one that is new, or was restarted, has lost state: all begins anew.
function commands.generation(found)
  local known = call('HMGET', KEYS[1], 'id', 'run')
  if not known[1] or known[2] ~= found.run then
    call('DEL', KEYS[1])
    call('HSET', KEYS[1], 'id', found.new_id, 'run', found.run, 'state', 'recovering', 'since', call('TIME')[1])
    return {found.new_id, 'recovering', known[1] or ''}
  end
  return {known[1], generation[2], ''}
end

function commands.counter(asked)
  local cells = {}
  for _, bucket in ipairs(call('ZRANGEBYSCORE', p .. 'k:' .. asked.counter, int(asked.first), int(asked.last))) do
    local cell = amounts(p .. 'c:' .. asked.counter .. ':' .. bucket)
    cells[#cells + 1] = {cell[1], cell[2], cell[3]}
  end
  return cells
end

return pack(commands[ARGV[1]](unpack_(ARGV[2])))
