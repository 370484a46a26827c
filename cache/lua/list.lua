-- KEYS[9] names of the account. ARGV[4] account. Returns the version, the head of the trail and the text of the account; of
-- each key its id, its record and its last use ('': never).
local refusal = foreign()
if refusal then return refusal end
local at = redis.call('HMGET', META, 'version', 'head')
local answer = {'ok', at[1] or '0', at[2] or '', redis.call('HGET', ACCOUNTS, ARGV[4]) or ''}
for _, id in ipairs(redis.call('HVALS', KEYS[9])) do
  table.insert(answer, id)
  table.insert(answer, redis.call('HGET', RECORDS, id) or '')
  table.insert(answer, redis.call('HGET', USED, id) or '')
end
return answer
