-- Removes an account with its tokens and its keys. KEYS[9] names of the account, KEYS[10] operation, KEYS[11] all tokens,
-- KEYS[12] tokens of the account. ARGV[7] head, [8] entry, which names the keys, [9] account.
local refusal = foreign()
if refusal then return refusal end
local done = answered(KEYS[10])
if done then return done end
stamp()
if not account(ARGV[9]) then return {'unowned'} end
local elsewhere = moved()
if elsewhere then return elsewhere end
chain(ARGV[7], ARGV[8])
for _, id in ipairs(held(KEYS[9])) do
  local _, _, _, name = fields(redis.call('HGET', RECORDS, id))
  redis.call('HDEL', KEYS[9], name)
  redis.call('HDEL', USED, id)
  put(id, function() return nil end)
end
local tokens = redis.call('HGETALL', KEYS[12])
for i = 1, #tokens, 2 do
  redis.call('HDEL', KEYS[11], tokens[i])
  redis.call('HDEL', KEYS[12], tokens[i])
end
redis.call('HDEL', ACCOUNTS, ARGV[9])
return answer(KEYS[10], 'done', move(), '')
