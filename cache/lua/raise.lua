-- Raises the version to at least ARGV[4], and notes that what was lost up to there has been asserted again.
local refusal = foreign()
if refusal then return refusal end
stamp()
if number(redis.call('HGET', META, 'healed')) < number(ARGV[4]) then redis.call('HSET', META, 'healed', ARGV[4]) end
local version = number(redis.call('HGET', META, 'version'))
if version < number(ARGV[4]) then
  entry(version, number(ARGV[4]), '', '')
  redis.call('PUBLISH', ARGV[3], ARGV[4])
end
return {'ok'}
