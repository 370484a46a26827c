-- Does what an import has decided about a page of keys: all of it, or, where something is not as it was decided by,
-- nothing. KEYS[9] operation, KEYS[10..] for each key the names of its account.
-- ARGV[7..] twelve values for each key: [1] keep, remove or bury, [2] id, [3] expected version ('': no record), [4] expected
-- tomb ('': none), [5] most keys of the account ('': the number does not rise), [6] name, [7] active, of its own, [8] rest;
-- of bury, the version of the deletion; [9] last use ('': never); [10] account; [11] head and [12] entry; of bury,
-- none.
local refusal = foreign()
if refusal then return refusal end
local done = answered(KEYS[9])
if done then return done end
local FIELDS = 12
local count = (#ARGV - 6) / FIELDS
local function arg(i, field) return ARGV[6 + (i - 1) * FIELDS + field] end

-- What the checks of a key must see of the keys before it.
local holders, sizes = {}, {}
local function holder(names, name)
  local known = holders[names .. '\n' .. name]
  if known == nil then known = redis.call('HGET', names, name) end
  return known
end
for i = 1, count do
  local kind, id, names = arg(i, 1), arg(i, 2), KEYS[9 + i]
  local version, _, name = '', '', ''
  local old = redis.call('HGET', RECORDS, id)
  if old then version, _, _, name = fields(old) end
  if version ~= arg(i, 3) or (redis.call('HGET', TOMBS, id) or '') ~= arg(i, 4) then return {'conflict'} end
  if old then holders[names .. '\n' .. name] = false end
  if kind == 'keep' then
    local have = holder(names, arg(i, 6))
    if have and have ~= id then return {'conflict'} end
    holders[names .. '\n' .. arg(i, 6)] = id
    if not old then
      if not account(arg(i, 10)) then return {'unowned'} end
      sizes[names] = (sizes[names] or redis.call('HLEN', names)) + 1
      if sizes[names] > number(arg(i, 5)) then return {'conflict'} end
    end
  end
end

stamp()
local elsewhere = moved()
if elsewhere then return elsewhere end
for i = 1, count do
  if arg(i, 1) ~= 'bury' then chain(arg(i, 11), arg(i, 12)) end
end
local version = redis.call('HGET', META, 'version')
for i = 1, count do
  local kind, id, names = arg(i, 1), arg(i, 2), KEYS[9 + i]
  if kind == 'bury' then
    redis.call('HSET', TOMBS, id, arg(i, 8))
  else
    local old = redis.call('HGET', RECORDS, id)
    local born
    if old then
      local _, b, _, name = fields(old)
      born = b
      redis.call('HDEL', names, name)
    end
    if kind == 'remove' then
      redis.call('HDEL', USED, id)
      version = keep(id, function() return nil end)
    else
      redis.call('HDEL', TOMBS, id)
      redis.call('HSET', names, arg(i, 6), id)
      local _, active = account(arg(i, 10))
      local digit = switch(arg(i, 7), active or '1')
      version = keep(id, function(v) return join(v, born or v, arg(i, 10), arg(i, 6), digit, arg(i, 8)) end)
      if moment(arg(i, 9)) > moment(redis.call('HGET', USED, id)) then redis.call('HSET', USED, id, arg(i, 9)) end
    end
  end
end
return answer(KEYS[9], 'done', version, '')
