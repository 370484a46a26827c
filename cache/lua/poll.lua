-- ARGV[4] row id, [5] row, which begins with the applied version, [6] applied version, [7] most entries, [8] '1': return
-- all rows.
local refusal = foreign()
if refusal then return refusal end
stamp()
local meta = redis.call('HMGET', META, 'version', 'digest', 'run_at')
local row = ARGV[5]
if number(ARGV[6]) > number(meta[1]) then
  row = '0' .. string.sub(row, #ARGV[6] + 1) -- of another line of history: it has applied nothing of this one
end
redis.call('HSET', PROXIES, ARGV[4], row)
local entries = {}
if number(meta[1]) > number(ARGV[6]) then
  entries = redis.call('XRANGE', LOG, ARGV[6] .. '-1', '+', 'COUNT', ARGV[7])
end
local rows = {}
if ARGV[8] == '1' then rows = redis.call('HGETALL', PROXIES) end
return {'ok', meta[1] or '0', meta[2] or '0', meta[3] or '0', text(now()), entries, rows}
