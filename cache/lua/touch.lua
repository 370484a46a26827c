-- ARGV[4..] pairs of id and use. The latest wins; unknown ids are passed over.
local refusal = foreign()
if refusal then return refusal end
for i = 4, #ARGV, 2 do
  local have = redis.call('HGET', USED, ARGV[i])
  if moment(ARGV[i + 1]) > moment(have) and redis.call('HEXISTS', RECORDS, ARGV[i]) == 1 then
    redis.call('HSET', USED, ARGV[i], ARGV[i + 1])
  end
end
return {'ok'}
