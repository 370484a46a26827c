-- KEYS[9] all tokens, KEYS[10] tokens of the account. ARGV[4] account. Returns of each token the version at which it was made,
-- and the token.
local refusal = foreign()
if refusal then return refusal end
if not account(ARGV[4]) then return {'unowned'} end
local answer = {'ok'}
local tokens = redis.call('HGETALL', KEYS[10])
for i = 1, #tokens, 2 do
  table.insert(answer, tokens[i + 1])
  table.insert(answer, redis.call('HGET', KEYS[9], tokens[i]) or '')
end
return answer
