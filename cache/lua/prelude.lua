-- Shared by all scripts. KEYS[1..8] are meta, records, log, tombs, proxies, used, accounts, audit. ARGV[1] is the store's
-- id, ARGV[2] the server's run_id ('' where the server has none), ARGV[3] the channel of hints.
-- Those that make a change of which the trail has an entry: ARGV[4] the version and ARGV[5] the head by which it was sealed,
-- ARGV[6] how many entries to keep.
local META, RECORDS, LOG, TOMBS, PROXIES = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local USED, ACCOUNTS, AUDIT = KEYS[6], KEYS[7], KEYS[8]
local MODULUS = 281474976710656 -- 2^48: sums of two stay exact in a double
local GAP = 1048576             -- see protocol.md, Versions
local KEPT = 10000              -- entries of the log, about
local TRIMMED = 10              -- entries of the trail, at most, by one that is added

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

-- put makes record (nil: deleted) the record of id under the next version. Nobody is told yet.
local function put(id, build)
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
  return text(v), record or ''
end

-- keep is put, and tells everybody.
local function keep(id, build)
  local v, record = put(id, build)
  redis.call('PUBLISH', ARGV[3], v)
  return v, record
end

-- move gives the store the next version, for what is not a record.
local function move()
  local before = number(redis.call('HGET', META, 'version'))
  entry(before, before + 1, '', '')
  redis.call('PUBLISH', ARGV[3], text(before + 1))
  return text(before + 1)
end

-- fields returns version, born, account, name, active, rest.
local function fields(record)
  return string.match(record, '^(%d+)\n(%d+)\n([^\n]*)\n([^\n]*)\n([0-3])\n(.*)$')
end

local function join(...) return table.concat({...}, '\n') end

-- account returns version, active, limit of an account, or nil.
local function account(id)
  local kept = redis.call('HGET', ACCOUNTS, id)
  if kept then return string.match(kept, '^(%d+)\n([01])\n(%d+)\n') end
  if id == 'default' then return '0', '1', '0' end
end

-- held returns the ids of an account's keys in the order of their birth.
local function held(names)
  local ids, births = redis.call('HVALS', names), {}
  for _, id in ipairs(ids) do
    local _, born = fields(redis.call('HGET', RECORDS, id))
    births[id] = number(born)
  end
  table.sort(ids, function(a, b) return births[a] < births[b] end)
  return ids
end

-- switch returns the digit of a record: of its own switch, and whether its account is active.
local function switch(active, account_active)
  local own = number(active) % 2
  if account_active == '1' then return text(own) end
  return text(own + 2)
end

-- moved returns the answer for entries that were sealed for another moment of the store, or nil. more: what else whoever
-- seals again has to know.
local function moved(more)
  local at = redis.call('HMGET', META, 'version', 'head')
  local version, head = at[1] or '0', at[2] or ''
  if version ~= ARGV[4] or head ~= ARGV[5] or more then return {'moved', version, head, more or ''} end
end

-- chain appends an entry to the trail, as the first write of its change, and trims the oldest. head is its number and hash.
-- Where the entry that would become the anchor is missing, which is for whoever checks the trail to see, nothing is trimmed.
local function chain(head, sealed)
  local n, hash = string.match(head, '^(%d+) (%x+)$')
  local trimmed = number(string.match(redis.call('HGET', META, 'anchor') or '', '^%d+'))
  local last = math.min(number(n) - number(ARGV[6]), trimmed + TRIMMED)
  local oldest
  if last > trimmed then oldest = redis.call('XRANGE', AUDIT, text(last) .. '-0', text(last) .. '-0')[1] end
  if oldest then
    redis.call('XADD', AUDIT, 'MINID', '=', text(last + 1) .. '-0', n .. '-0', 'h', hash, 't', sealed)
    redis.call('HSET', META, 'head', head, 'anchor', text(last) .. ' ' .. oldest[2][2])
  else
    redis.call('XADD', AUDIT, n .. '-0', 'h', hash, 't', sealed)
    redis.call('HSET', META, 'head', head)
  end
end

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
