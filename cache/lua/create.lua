-- KEYS[6] names of the account, KEYS[7] operation, KEYS[8] the caller's operation.
-- ARGV[4] id, [5] account, [6] name ('': the first free default), [7] rest, [8] limit, [9] digest of the caller's request
-- ('': no operation of the caller), [10] lifetime of the caller's operation in ms, [11] now in Unix ms
-- by the caller's clock.
local refusal = foreign()
if refusal then return refusal end
local done = answered(KEYS[7])
if done then return done end
stamp()
local id, account, name, rest = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
if ARGV[9] ~= '' then
  local request, made, expires = string.match(redis.call('GET', KEYS[8]) or '', '^(%x+)\n(%w+)\n(%d+)$')
  if request and number(ARGV[11]) < number(expires) then
    if request ~= ARGV[9] then return {'reused'} end
    local record = redis.call('HGET', RECORDS, made)
    if not record then return {'missing'} end
    return answer(KEYS[7], 'replayed', made, record)
  end
end
if redis.call('HEXISTS', RECORDS, id) == 1 or redis.call('HEXISTS', TOMBS, id) == 1 then return {'exists'} end
if redis.call('HLEN', KEYS[6]) >= number(ARGV[8]) then return {'limit'} end
if name == '' then
  local n = 1
  while redis.call('HEXISTS', KEYS[6], 'API key ' .. n) == 1 do n = n + 1 end
  name = 'API key ' .. n
elseif redis.call('HEXISTS', KEYS[6], name) == 1 then
  return {'taken'}
end
redis.call('HSET', KEYS[6], name, id)
if ARGV[9] ~= '' then redis.call('SET', KEYS[8], join(ARGV[9], id, text(number(ARGV[11]) + number(ARGV[10]))), 'PX', ARGV[10]) end
local version, record = keep(id, function(v) return join(v, v, account, name, '1', rest) end)
return answer(KEYS[7], 'done', version, record)
