-- Raises the version to at least ARGV[4].
local refusal = foreign()
if refusal then return refusal end
stamp()
local version = number(redis.call('HGET', META, 'version'))
if version < number(ARGV[4]) then
  entry(version, number(ARGV[4]), '', '')
  redis.call('PUBLISH', ARGV[3], ARGV[4])
end
return {'ok'}
