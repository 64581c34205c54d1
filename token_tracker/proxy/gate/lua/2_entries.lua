-- Entries: what a call counts in which buckets, rates and leases.

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
