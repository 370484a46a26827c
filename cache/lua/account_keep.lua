-- Makes or changes an account. KEYS[9] names of the account, KEYS[10] operation.
-- ARGV[7] head, [8] entry, [9] account, [10] '1': it must not be there, [11] active, [12] limit, [13] rest,
-- [14] the time now, as records have it.
-- An account that becomes active or inactive has all its keys rewritten.
local refusal = foreign()
if refusal then return refusal end
local done = answered(KEYS[10])
if done then return done end
stamp()
local known, active = account(ARGV[9])
if known and ARGV[10] == '1' then return {'account_exists'} end
local elsewhere = moved() -- so an account to be changed is as it was read
if elsewhere then return elsewhere end
chain(ARGV[7], ARGV[8])
if known and active ~= ARGV[11] then
  for _, id in ipairs(held(KEYS[9])) do
    local _, born, owner, name, own, rest = fields(redis.call('HGET', RECORDS, id))
    rest = string.gsub(rest, '"updated":"[^"]*"', '"updated":"' .. ARGV[14] .. '"', 1)
    put(id, function(v) return join(v, born, owner, name, switch(own, ARGV[11]), rest) end)
  end
end
local v = move()
redis.call('HSET', ACCOUNTS, ARGV[9], join(v, ARGV[11], ARGV[12], ARGV[13]))
return answer(KEYS[10], 'done', v, '')
