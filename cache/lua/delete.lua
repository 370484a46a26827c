-- KEYS[9] names of the account, KEYS[10] operation. ARGV[7] head, [8] entry, [9] id, [10] expected version.
local refusal = foreign()
if refusal then return refusal end
local done = answered(KEYS[10])
if done then return done end
stamp()
local id = ARGV[9]
local old = redis.call('HGET', RECORDS, id)
if not old then return {'missing'} end
local version, _, _, name = fields(old)
if version ~= ARGV[10] then return {'conflict'} end
local elsewhere = moved()
if elsewhere then return elsewhere end
chain(ARGV[7], ARGV[8])
redis.call('HDEL', KEYS[9], name)
redis.call('HDEL', USED, id)
local v = keep(id, function() return nil end)
return answer(KEYS[10], 'done', v, '')
