-- Admission: all rules of a call or none.

-- Whether nothing is lost by forgetting a budget's counter; then it is forgotten.
local function forget_idle(members, counter)
  local buckets = call('ZRANGE', p .. 'k:' .. counter, 0, -1)
  for _, bucket in ipairs(buckets) do
    local cell = call('HMGET', p .. 'c:' .. counter .. ':' .. bucket, 's', 'h', 'u', 'v')
    for i = 1, 4 do
      if cell[i] and cell[i] ~= '0' then
        return false
      end
    end
  end
  for _, bucket in ipairs(buckets) do
    call('DEL', p .. 'c:' .. counter .. ':' .. bucket)
  end
  call('DEL', p .. 'k:' .. counter, p .. 'r:' .. counter)
  call('ZREM', members, counter)
  return true
end

-- Whether the rule of a member has room for it.
local function has_room(rule, counter, most, is_budget)
  local key = p .. 'm:' .. rule
  if call('ZSCORE', key, counter) or call('ZCARD', key) < most then
    return true
  end
  call('ZREMRANGEBYSCORE', key, '-inf', '(' .. int(now_s))
  if is_budget and call('ZCARD', key) >= most then
    for _, stalest in ipairs(call('ZRANGE', key, 0, 15)) do
      if forget_idle(key, stalest) then
        break
      end
    end
  end
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
    if budget.member_rule and not has_room(budget.member_rule, budget.counter, ask.members_most, true) then
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
  local is_recovering = generation[2] ~= 'ready' and ask.is_hard
  local states, rates = {}, {}
  local has_budgets, output, usd, tokens = weigh(ask, states)
  local has_rates = rate(ask, rates)
  if is_recovering or ask.is_waiting or not (has_budgets and has_rates) then
    local slices = {}
    for i, each in ipairs(ask.rates) do
      slices[i] = each.is_lease and {} or call('HGETALL', p .. 'w:' .. each.counter)
    end
    for i, budget in ipairs(ask.budgets) do
      states[i][5] = budget.hours > 0 and oldest(budget.counter, budget.first) or budget.bucket
    end
    return {is_recovering and 'recovering' or 'refused', states, rates, slices}
  end
  local entry = {state = LIVE, places = {}, counted = {{0, usd, 0}, {0, tokens, 0}}, leases = {}, slices = {}}
  for i, budget in ipairs(ask.budgets) do
    entry.places[i] = budget.place
    local is_new = add(budget.counter, budget.bucket, budget.leaves, 0, budget.measure == 0 and usd or tokens, 0)
    if is_new and budget.member_rule then
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
      local in_slice = call('HINCRBY', key, int(slice % COUNTED), int(each.amount))
      call('HINCRBY', key, 't', int(each.amount))
      idle_s = math.ceil((slice + COUNTED) * each.slice_us / 1000000)
      if in_slice == each.amount then
        call('EXPIRE', key, math.max(1, idle_s - now_s) + 60)
      end
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
