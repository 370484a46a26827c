-- KEYS[6] names of the account, KEYS[7] operation, KEYS[8] used. ARGV[4] id, [5] expected version.
local refusal = foreign()
if refusal then return refusal end
local done = answered(KEYS[7])
if done then return done end
stamp()
local id = ARGV[4]
local old = redis.call('HGET', RECORDS, id)
if not old then return {'missing'} end
local version, _, _, name = fields(old)
if version ~= ARGV[5] then return {'conflict'} end
redis.call('HDEL', KEYS[6], name)
redis.call('HDEL', KEYS[8], id)
local v = keep(id, function() return nil end)
return answer(KEYS[7], 'done', v, '')
