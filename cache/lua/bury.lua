-- Removes rows of processes that lapsed long ago, if they are as they were seen. ARGV[4..] pairs of row id and row.
local refusal = foreign()
if refusal then return refusal end
for i = 4, #ARGV, 2 do
  if redis.call('HGET', PROXIES, ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', PROXIES, ARGV[i]) end
end
return {'ok'}
