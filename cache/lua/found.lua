-- Makes the store ARGV[1] if there is none, and checks peppers. ARGV[4] check of the pepper that signs, [5..] checks known.
-- Returns the store's id and version, or why not.
local have = redis.call('HGET', META, 'store')
if not have then
  redis.call('HSET', META, 'store', ARGV[1], 'version', '0', 'digest', '0', 'schema', '1')
  have = ARGV[1]
end
if redis.call('HGET', META, 'schema') ~= '1' then return {'schema'} end
local check = redis.call('HGET', META, 'pepper') or ''
local known = check == ''
for i = 5, #ARGV do known = known or ARGV[i] == check end
if not known then return {'pepper'} end
if check ~= ARGV[4] then redis.call('HSET', META, 'pepper', ARGV[4]) end
return {'ok', have, redis.call('HGET', META, 'version')}
