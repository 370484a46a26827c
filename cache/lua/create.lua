-- KEYS[9] names of the account, KEYS[10] operation, KEYS[11] the caller's operation.
-- ARGV[7] head, [8] entry, [9] id, [10] account, [11] name, [12] '1': the name has to be the first free default, [13] rest,
-- [14] limit where the account has none, [15] digest of the caller's request ('': no operation of the caller), [16] lifetime
-- of the caller's operation in ms, [17] now in Unix ms by the caller's clock.
local refusal = foreign()
if refusal then return refusal end
local done = answered(KEYS[10])
if done then return done end
stamp()
local id, owner, name, rest = ARGV[9], ARGV[10], ARGV[11], ARGV[13]
if ARGV[15] ~= '' then
  local request, made, expires = string.match(redis.call('GET', KEYS[11]) or '', '^(%x+)\n(%w+)\n(%d+)$')
  if request and number(ARGV[17]) < number(expires) then
    if request ~= ARGV[15] then return {'reused'} end
    local record = redis.call('HGET', RECORDS, made)
    if not record then return {'missing'} end
    return answer(KEYS[10], 'replayed', made, record)
  end
end
local known, active, limit = account(owner)
if not known then return {'unowned'} end
if redis.call('HEXISTS', RECORDS, id) == 1 or redis.call('HEXISTS', TOMBS, id) == 1 then return {'exists'} end
if limit == '0' then limit = ARGV[14] end
if redis.call('HLEN', KEYS[9]) >= number(limit) then return {'limit', limit} end
local free
if ARGV[12] == '1' then
  local n = 1
  while redis.call('HEXISTS', KEYS[9], 'API key ' .. n) == 1 do n = n + 1 end
  if name ~= 'API key ' .. n then free = 'API key ' .. n end
elseif redis.call('HEXISTS', KEYS[9], name) == 1 then
  return {'taken'}
end
local elsewhere = moved(free)
if elsewhere then return elsewhere end
chain(ARGV[7], ARGV[8])
redis.call('HSET', KEYS[9], name, id)
if ARGV[15] ~= '' then redis.call('SET', KEYS[11], join(ARGV[15], id, text(number(ARGV[17]) + number(ARGV[16]))), 'PX', ARGV[16]) end
local version, record = keep(id, function(v) return join(v, v, owner, name, switch('1', active), rest) end)
return answer(KEYS[10], 'done', version, record)
