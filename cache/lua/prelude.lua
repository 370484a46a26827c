-- Shared by all scripts. KEYS[1..5] are meta, records, log, tombs, proxies. ARGV[1] is the store's id, ARGV[2] the
-- server's run_id ('' where the server has none), ARGV[3] the channel of hints.
local META, RECORDS, LOG, TOMBS, PROXIES = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local MODULUS = 281474976710656 -- 2^48: sums of two stay exact in a double
local GAP = 1048576             -- see protocol.md, Versions
local KEPT = 10000              -- entries of the log, about

local function number(s) return tonumber(s or '0') or 0 end
local function text(n) return string.format('%.0f', n) end
local function sum(record)
  if not record then return 0 end
  return tonumber(string.sub(redis.sha1hex(record), 1, 12), 16)
end
-- moment returns when a use was, in Unix milliseconds; 0: never.
local function moment(use) return number(string.match(use or '', '^%d+')) end
local function now()
  local t = redis.call('TIME')
  return number(t[1]) * 1000 + math.floor(number(t[2]) / 1000)
end

-- entry moves the version to v and appends to the log, with the digest that the set had before. id '' only moves.
local function entry(before, v, id, record)
  redis.call('HSET', META, 'version', text(v))
  redis.call('XADD', LOG, 'MAXLEN', '~', KEPT, text(v) .. '-0', 'p', text(before),
    'd', redis.call('HGET', META, 'digest') or '0', 'i', id, 't', record or '', 'm', text(now()))
end

-- foreign returns the refusal for a store that is not the one expected, or nil. Who does not know the store yet must not
-- write where there is none.
local function foreign()
  local have = redis.call('HGET', META, 'store') or ''
  if have == '' or have ~= ARGV[1] then
    return {'foreign', have, redis.call('HGET', META, 'version') or '0'}
  end
end

-- stamp notes which server this is.
local function stamp()
  local run = redis.call('HGET', META, 'run') or ''
  if ARGV[2] == '' or run == ARGV[2] then return end
  redis.call('HSET', META, 'run', ARGV[2])
  if run ~= '' then
    redis.call('HSET', META, 'run_at', text(now()))
    local v = number(redis.call('HGET', META, 'version'))
    entry(v, v + GAP, '', '')
  end
end

-- keep makes record (nil: deleted) the record of id under the next version.
local function keep(id, build)
  local before = number(redis.call('HGET', META, 'version'))
  local v = before + 1
  local record = build(text(v))
  local digest = number(redis.call('HGET', META, 'digest'))
  digest = (digest + sum(record) - sum(redis.call('HGET', RECORDS, id))) % MODULUS
  if record then
    redis.call('HSET', RECORDS, id, record)
  else
    redis.call('HDEL', RECORDS, id)
    redis.call('HSET', TOMBS, id, text(v))
  end
  entry(before, v, id, record)
  redis.call('HSET', META, 'digest', text(digest))
  redis.call('PUBLISH', ARGV[3], text(v))
  return text(v), record or ''
end

-- fields returns version, born, account, name, active, rest.
local function fields(record)
  return string.match(record, '^(%d+)\n(%d+)\n([^\n]*)\n([^\n]*)\n([01])\n(.*)$')
end

local function join(...) return table.concat({...}, '\n') end

-- answered returns the answer kept for an operation, or nil. Finding one is a write too.
local function answered(op)
  local kept = redis.call('GET', op)
  if not kept then return end
  redis.call('PEXPIRE', op, 600000)
  local status, value, record = string.match(kept, '^(%w+)\n(%w+)\n(.*)$')
  return {status, value, record}
end

local function answer(op, status, value, record)
  redis.call('SET', op, join(status, value, record), 'PX', 600000)
  return {status, value, record}
end
