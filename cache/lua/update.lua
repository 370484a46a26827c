-- KEYS[9] names of the account, KEYS[10] operation.
-- ARGV[7] head, [8] entry, [9] id, [10] expected version, [11] name, [12] active, of its own, [13] rest.
local refusal = foreign()
if refusal then return refusal end
local done = answered(KEYS[10])
if done then return done end
stamp()
local id, name = ARGV[9], ARGV[11]
local old = redis.call('HGET', RECORDS, id)
if not old then return {'missing'} end
local version, born, owner, before, active = fields(old)
if version ~= ARGV[10] then return {'conflict'} end
if name ~= before and redis.call('HEXISTS', KEYS[9], name) == 1 then return {'taken'} end
local elsewhere = moved()
if elsewhere then return elsewhere end
chain(ARGV[7], ARGV[8])
if name ~= before then
  redis.call('HDEL', KEYS[9], before)
  redis.call('HSET', KEYS[9], name, id)
end
local suspended = number(active) >= 2
local v, record = keep(id, function(next) return join(next, born, owner, name, switch(ARGV[12], suspended and '0' or '1'), ARGV[13]) end)
return answer(KEYS[10], 'done', v, record)
