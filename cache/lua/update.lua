-- KEYS[6] names of the account, KEYS[7] operation.
-- ARGV[4] id, [5] expected version, [6] name, [7] active 0|1, [8] rest.
local refusal = foreign()
if refusal then return refusal end
local done = answered(KEYS[7])
if done then return done end
stamp()
local id = ARGV[4]
local old = redis.call('HGET', RECORDS, id)
if not old then return {'missing'} end
local version, born, account, name = fields(old)
if version ~= ARGV[5] then return {'conflict'} end
if name ~= ARGV[6] then
  if redis.call('HEXISTS', KEYS[6], ARGV[6]) == 1 then return {'taken'} end
  redis.call('HDEL', KEYS[6], name)
  redis.call('HSET', KEYS[6], ARGV[6], id)
end
local v, record = keep(id, function(next) return join(next, born, account, ARGV[6], ARGV[7], ARGV[8]) end)
return answer(KEYS[7], 'done', v, record)
