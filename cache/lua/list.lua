-- KEYS[6] names of the account, KEYS[7] used. Returns of each key its id, its record and its last use ('': never).
local refusal = foreign()
if refusal then return refusal end
local answer = {'ok'}
for _, id in ipairs(redis.call('HVALS', KEYS[6])) do
  table.insert(answer, id)
  table.insert(answer, redis.call('HGET', RECORDS, id) or '')
  table.insert(answer, redis.call('HGET', KEYS[7], id) or '')
end
return answer
