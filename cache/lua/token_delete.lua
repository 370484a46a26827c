-- KEYS[9] operation, KEYS[10] all tokens, KEYS[11] tokens of the account.
-- ARGV[7] head, [8] entry, [9] account, [10] id of the token.
local refusal = foreign()
if refusal then return refusal end
local done = answered(KEYS[9])
if done then return done end
stamp()
if not account(ARGV[9]) then return {'unowned'} end
if redis.call('HEXISTS', KEYS[11], ARGV[10]) == 0 then return {'tokenless'} end
local elsewhere = moved()
if elsewhere then return elsewhere end
chain(ARGV[7], ARGV[8])
redis.call('HDEL', KEYS[10], ARGV[10])
redis.call('HDEL', KEYS[11], ARGV[10])
return answer(KEYS[9], 'done', move(), '')
