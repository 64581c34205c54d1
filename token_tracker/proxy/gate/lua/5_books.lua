-- What the recorder tells: bases, and how far each journal is booked; and the server's generations.

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
  list(counter, bucket, leaves_s)
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

-- An admin gave up what a gateway held: as if its journal were booked, once it says nothing here either.
local function release(incarnation, silence_s)
  local known = call('HMGET', p .. 'e:' .. incarnation, '#pos', '#at', '#left')
  local is_silent = known[2] and tonumber(call('TIME')[1]) - tonumber(known[2]) >= silence_s
  if known[1] ~= END and (known[3] or is_silent) then
    booked(incarnation, END)
  end
end

function commands.books(books)
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
  for _, each in ipairs(books.left) do
    if not each[2] then
      release(each[1], books.silence_s)
    else
      leave(each, books.silence_s)
    end
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
