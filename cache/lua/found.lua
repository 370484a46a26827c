-- Makes the store ARGV[1] if there is none, and checks peppers. ARGV[4] check of the pepper that signs, [5] version that the
-- caller remembers, [6..] checks known. Returns the store's id and version, or why not.
local have = redis.call('HGET', META, 'store')
if not have then
  redis.call('HSET', META, 'store', ARGV[1], 'version', '0', 'digest', '0', 'schema', '1')
  have = ARGV[1]
end
if redis.call('HGET', META, 'schema') ~= '1' then return {'schema'} end
local check = redis.call('HGET', META, 'pepper') or ''
local known = check == ''
for i = 6, #ARGV do known = known or ARGV[i] == check end
if not known then return {'pepper'} end
-- A store that was restored goes on at a higher version (see stamp): it must not have passed over the one remembered,
-- unless somebody who knew as much was there.
local remembered = number(ARGV[5])
local passed = number(redis.call('HGET', META, 'version')) < remembered
if not passed and number(redis.call('HGET', META, 'healed')) < remembered then
  local after = redis.call('XRANGE', LOG, ARGV[5] .. '-1', '+', 'COUNT', 1)[1]
  passed = after ~= nil and number(after[2][2]) < remembered
end
if passed then return {'behind', have, redis.call('HGET', META, 'version')} end
if check ~= ARGV[4] then redis.call('HSET', META, 'pepper', ARGV[4]) end
return {'ok', have, redis.call('HGET', META, 'version')}
