-- ARGV[4] row id, [5] row, [6] applied version, [7] most entries, [8] '1': return all rows.
local refusal = foreign()
if refusal then return refusal end
stamp()
redis.call('HSET', PROXIES, ARGV[4], ARGV[5])
local meta = redis.call('HMGET', META, 'version', 'digest', 'run_at')
local entries = {}
if number(meta[1]) > number(ARGV[6]) then
  entries = redis.call('XRANGE', LOG, ARGV[6] .. '-1', '+', 'COUNT', ARGV[7])
end
local rows = {}
if ARGV[8] == '1' then rows = redis.call('HGETALL', PROXIES) end
return {'ok', meta[1] or '0', meta[2] or '0', meta[3] or '0', text(now()), entries, rows}
