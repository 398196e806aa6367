-- Applies one window (redis/script.h describes the arguments, redis/plan.h what they mean).
-- Nothing is written before everything was checked: an error in a script keeps its effects. So every key that a later
-- command could stumble over (wrong type, not a number) is read in the first half with a command of the same type. The last
-- check and the first write are one: MSETNX writes all or nothing.
-- Answers: OK | GAP epoch seq chain | FENCED .. | FORGOT .. | NOKEY | EXISTS key | ENTRY key name found | LIST key
--          | GONE inode | DEADREF field | BAD key why
local floor, fmt, sub = math.floor, string.format, string.sub
local HEAD, STRINGS, ONES, MANY, DIRS, REFS, INODES, LISTS, PARENTS, STATS, XATTRS, QUOTAS = unpack(cmsgpack.unpack(ARGV[1]))
-- While checking, a wrong type is told with its key.
local function call(cmd, key, ...)
  local r = redis.pcall(cmd, key, ...)
  if type(r) == 'table' and r.err then
    if string.find(r.err, 'WRONGTYPE', 1, true) then error('WRONGTYPE key ' .. key .. ' in Redis has the wrong type', 0) end
    return redis.call(cmd, key, ...)
  end
  return r
end
local P, EPOCH, PREVSEQ, PREVCHAIN, NEWSEQ, NEWCHAIN, NOW, HOUR, SID, space, inodes = unpack(HEAD)
local CS, MAX = 67108864, 4000
local zero8, TRASHROOT = string.rep('\0', 8), '9223372032828243968'
local pos = call('HMGET', P .. 'zjfs', 'epoch', 'seq', 'chain')
if not pos[1] then return {'NOKEY'} end
pos = {pos[1], pos[2] or '0', pos[3] or ''}
if pos[1] ~= EPOCH then
  return {tonumber(pos[1]) > tonumber(EPOCH) and 'FENCED' or 'FORGOT', pos[1], pos[2], pos[3]}
end
if pos[2] ~= PREVSEQ or pos[3] ~= PREVCHAIN then return {'GAP', pos[1], pos[2], pos[3]} end

-- Lua's numbers are exact up to 2^53, lengths of sparse files go up to 2^57, their sums further: what may be large is a
-- pair {multiple of 4096, rest}, both exact. (Space is always a multiple of 4096.)
local Wide = {}
local function pair(q, r)
  local c = r % 4096
  return setmetatable({q + (r - c), c}, Wide)
end
local function wide(v) if type(v) == 'table' then return v end; return pair(0, v) end
function Wide.__add(a, b) a, b = wide(a), wide(b); return pair(a[1] + b[1], a[2] + b[2]) end
function Wide.__sub(a, b) a, b = wide(a), wide(b); return pair(a[1] - b[1], a[2] - b[2]) end
function Wide.__mul(n, a) return pair(n * a[1], n * a[2]) end -- by a count
local function from8(s) -- 8 bytes, as in records
  local hi, lo = struct.unpack('>I4I4', s)
  if hi < 65536 then return hi * 4294967296 + lo end
  local r = lo % 4096
  return setmetatable({hi * 4294967296 + (lo - r), r}, Wide)
end
local function round4k(v) -- the space of a file of this length
  if type(v) == 'table' then return v[1] + (v[2] > 0 and 4096 or 0) end
  return math.max(4096, math.ceil(v / 4096) * 4096)
end
local function approx(v) if type(v) == 'table' then return v[1] + v[2] end; return v end
local function dec(v)
  if type(v) ~= 'table' then return fmt('%.0f', v) end
  local q, r, sign = v[1], v[2], ''
  if q < 0 then q, r, sign = -q, -r, '-' end
  if r < 0 then q, r = q - 4096, r + 4096 end
  local t = fmt('%010.0f', q)
  local top, low = sub(t, 1, -10), tonumber(sub(t, -9)) + r
  if low >= 1000000000 then top, low = fmt('%.0f', tonumber(top) + 1), low - 1000000000 end
  return sign .. string.gsub(top .. fmt('%09.0f', low), '^0+(%d)', '%1')
end
local function int(v) -- an integer as Redis stores it, absent: 0; nil: not a number, or a count that cannot be
  if not v then return 0 end
  if not string.find(v, '^%-?%d+$') or #v > 15 then return nil end
  return tonumber(v)
end
local function int64(v) -- the same of lengths and space
  if not v or #v < 16 then return int(v) end
  if not string.find(v, '^%-?%d+$') or #v > 20 then return nil end
  local sign, top, low = string.match(v, '^(%-?)(%d+)(%d%d%d%d%d%d%d%d%d)$')
  local n, t = tonumber(sub(v, #sign + 1)), tonumber(top)
  if n > 9.2e18 then return nil end
  local r = (t % 4096 * 2560 + tonumber(low)) % 4096 -- 10^9 is 2560 above a multiple of 4096
  local q = floor((n - r) / 4096 + 0.5) * 4096
  if sign == '-' then q, r = -q, -r end
  return pair(q, r)
end
local function given(v) if type(v) == 'string' then return int64(v) end; return v end -- what is large comes as text
-- calls f on slices of t of at most MAX elements
local function pieces(t, f)
  for i = 1, #t, MAX do f(i, math.min(i + MAX - 1, #t)) end
end
local function fetch(cmd, key, t)
  if #t == 0 then return t end
  if #t <= MAX then
    if key then return call(cmd, key, unpack(t)) end
    return call(cmd, unpack(t))
  end
  local out = {}
  pieces(t, function(a, b)
    local r
    if key then r = call(cmd, key, unpack(t, a, b)) else r = call(cmd, unpack(t, a, b)) end
    for i = 1, b - a + 1 do out[a + i - 1] = r[i] end
  end)
  return out
end
local function put(cmd, key, t) -- t holds pairs or single members
  pieces(t, function(a, b)
    if key then call(cmd, key, unpack(t, a, b)) else call(cmd, unpack(t, a, b)) end
  end)
end

local function first_there(t, step)
  for i = 1, #t, step do
    if call('EXISTS', t[i]) == 1 then return t[i] end
  end
end

-- ---- first half: read and check -------------------------------------------------------------------------------
local absent = {}
-- fresh strings (inode records and symlink targets): the first piece is checked when it is written
for i = 2, #STRINGS do
  for k = 1, #STRINGS[i], 2 do absent[#absent + 1] = STRINGS[i][k] end
end
-- fresh lists of several records
for i = 1, #MANY do absent[#absent + 1] = MANY[i][1] end
-- entries, by directory
for i = 1, #DIRS do
  local key, fresh, sets, dels, want = unpack(DIRS[i])
  if fresh == 1 then
    absent[#absent + 1] = key
  else
    local names, n = {}, 0
    for k = 1, #sets, 2 do n = n + 1; names[n] = sets[k] end
    for k = 1, #dels do names[n + k] = dels[k] end
    local have = fetch('HMGET', key, names)
    for k = 1, #names do
      local is, should = have[k] or '', want == 0 and '' or want[k]
      if is ~= should and should ~= '*' then return {'ENTRY', key, names[k], is} end
    end
  end
end
-- references: what the window adds and drops; what the script finds in lists that go is added below
local ref, reforder, packset = {}, {}, {}
local function ref_add(f, n)
  if not ref[f] then ref[f] = 0; reforder[#reforder + 1] = f end
  ref[f] = ref[f] + n
end
for i = 1, #REFS, 3 do
  local f, n = REFS[i], REFS[i + 2]
  if n > 0 then packset[#packset + 1] = f; packset[#packset + 1] = fmt('%.0f', n) end -- a new slice of so many records
  ref_add(f, REFS[i + 1])
end
local gone, goneset, bad = {}, {}, nil
local function list_drop(key)
  if goneset[key] then return end
  goneset[key] = true
  local l = call('LRANGE', key, 0, -1)
  if #l == 0 then return end
  gone[#gone + 1] = key
  for k = 1, #l do
    if #l[k] ~= 24 then bad = {'BAD', key, 'a slice record is not 24 bytes long'}; return end
    local _, id, size = struct.unpack('>I4I8I4', l[k])
    if id ~= 0 then ref_add(fmt('k%.0f_%.0f', id, size), -1) end
  end
end
-- inodes that exist
local ino, keys = {}, {}
for i = 1, #INODES do
  local id, kind, blob, named, delta, ctime, cut, trash = unpack(INODES[i])
  ino[i] = {id = id, kind = kind, blob = blob, named = named == 1, delta = delta, ctime = ctime, cut = cut, trash = trash}
  keys[i] = P .. 'i' .. id
end
local blobs, delfiles, moving = fetch('MGET', nil, keys), {}, false
for i = 1, #ino do
  local n, old = ino[i], blobs[i]
  if old and #old < 71 then return {'BAD', keys[i], 'inode record too short'} end
  if not old and call('TYPE', keys[i]).ok ~= 'none' then return {'BAD', keys[i], 'wrong type'} end
  if not old and n.kind == 'U' and not n.named then return {'GONE', n.id} end
  n.old = old or nil
  if old then
    n.type = floor(string.byte(old, 2) / 16)
    n.len = from8(sub(old, 52, 59))
    n.nlink = struct.unpack('>I4', sub(old, 48, 51))
    n.space = n.type == 1 and round4k(n.len) or 4096
    local chunks = n.len == 0 and 0 or math.ceil(round4k(n.len) / CS)
    if n.type == 1 and n.kind == 'R' then
      if chunks > 1000 then
        delfiles[#delfiles + 1] = NOW
        delfiles[#delfiles + 1] = n.id .. ':' .. dec(n.len)
      else
        for k = 0, chunks - 1 do list_drop(fmt('%sc%s_%d', P, n.id, k)) end
      end
    elseif n.cut >= 0 then
      for k = n.cut, math.min(chunks - 1, n.cut + 100000) do list_drop(fmt('%sc%s_%d', P, n.id, k)) end
    end
  end
  if #n.trash > 0 and old then moving = true end
end
-- lists of inodes that exist: F: nothing is kept; A: append to what was expected; R: replace it
for i = 1, #LISTS do
  local key, kind, old = unpack(LISTS[i], 1, 3)
  if kind == 'F' then
    list_drop(key)
  elseif table.concat(call('LRANGE', key, 0, -1)) ~= old then
    return {'LIST', key}
  end
end
if bad then return bad end
-- other names of hard-linked inodes
local parents = {}
for i = 1, #PARENTS, 3 do
  local e = {key = P .. 'p' .. PARENTS[i], field = PARENTS[i + 1], delta = PARENTS[i + 2]}
  if not int(call('HGET', e.key, e.field)) then return {'BAD', e.key, 'not a number'} end
  parents[#parents + 1] = e
end
-- directory statistics: new ones, changes, deletions
local stat, L, S, N = {}, P .. 'dirDataLength', P .. 'dirUsedSpace', P .. 'dirUsedInodes'
local sl, ss, sn = {}, {}, {}
local function stat_set(d, l, s, n)
  sl[#sl + 1] = d; sl[#sl + 1] = dec(l)
  ss[#ss + 1] = d; ss[#ss + 1] = dec(s)
  sn[#sn + 1] = d; sn[#sn + 1] = fmt('%.0f', n)
end
call('HLEN', L); call('HLEN', S); call('HLEN', N)
local SNEW, SADD, SDROP, SLINKED = unpack(STATS)
for i = 1, #SNEW, 4 do stat_set(SNEW[i], given(SNEW[i + 1]), given(SNEW[i + 2]), SNEW[i + 3]) end
local sids, nostat, statof = {}, {}, {}
for i = 1, #SADD, 4 do
  local e = {SADD[i], given(SADD[i + 1]), given(SADD[i + 2]), SADD[i + 3]}
  stat[#stat + 1] = e; sids[#sids + 1] = e[1]; statof[e[1]] = e
end
for i = 1, #SDROP do statof[SDROP[i]] = {'', 0, 0, 0} end
-- hard-linked files that changed their length: every name they had so far counts
for i = 1, #SLINKED, 3 do
  local id, l, s = SLINKED[i], wide(given(SLINKED[i + 1])), wide(given(SLINKED[i + 2]))
  local f = call('HGETALL', P .. 'p' .. id)
  for j = 1, #f, 2 do
    local times = int(f[j + 1])
    if not times then return {'BAD', P .. 'p' .. id, 'not a number'} end
    if times > 0 then
      local e = statof[f[j]]
      if not e then
        e = {f[j], 0, 0, 0}
        stat[#stat + 1] = e; sids[#sids + 1] = e[1]; statof[e[1]] = e
      end
      e[2] = e[2] + times * l; e[3] = e[3] + times * s
    end
  end
end
do
  local l, s, n = fetch('HMGET', L, sids), fetch('HMGET', S, sids), fetch('HMGET', N, sids)
  for i = 1, #sids do
    if s[i] then -- an absent field would be taken for the whole truth
      local a, b, c = int64(l[i]), int64(s[i]), int(n[i])
      if not (a and b and c) then return {'BAD', S, 'not a number'} end
      stat_set(sids[i], a + stat[i][2], b + stat[i][3], c + stat[i][4])
    else
      call('HLEN', P .. 'd' .. sids[i]); call('STRLEN', P .. 'i' .. sids[i])
      nostat[#nostat + 1] = sids[i]
    end
  end
end
-- extended attributes, by inode
for i = 1, #XATTRS do
  local key, fresh = unpack(XATTRS[i], 1, 2)
  if fresh == 1 then absent[#absent + 1] = key else call('HLEN', key) end
end
-- usage of directories' quotas, where Redis has them
local quotas, QL, QS, QN = {}, P .. 'dirQuota', P .. 'dirQuotaUsedSpace', P .. 'dirQuotaUsedInodes'
call('HLEN', QL); call('HLEN', QS); call('HLEN', QN)
for i = 1, #QUOTAS, 4 do
  local id, whole, s, n = QUOTAS[i], QUOTAS[i + 1] == 1, given(QUOTAS[i + 2]), QUOTAS[i + 3]
  local hs, hn = int64(call('HGET', QS, id)), call('HGET', QN, id)
  if hn then
    hn = int(hn)
    if not (hs and hn) then return {'BAD', QS, 'not a number'} end
    if whole then hs, hn = 0, 0 end
    quotas[#quotas + 1] = {id, dec(hs + s), dec(hn + n)}
  end
end
-- what users and groups use: of every inode that comes, goes or changes, where they are counted
local owned, ownorder = {}, {}
local counted = call('EXISTS', P .. 'userQuotaUsedInodes', P .. 'groupQuotaUsedInodes') > 0
local function own_add(rec, space, n)
  if not counted then return end
  for _, o in ipairs({{'user', 4}, {'group', 8}}) do
    local id = fmt('%.0f', (struct.unpack('>I4', rec, o[2])))
    local k = o[1] .. id
    if not owned[k] then owned[k] = {o[1], id, 0, 0}; ownorder[#ownorder + 1] = owned[k] end
    owned[k][3] = owned[k][3] + space; owned[k][4] = owned[k][4] + n
  end
end
for i = 1, counted and #STRINGS or 0 do
  for k = 1, #STRINGS[i], 2 do
    local key, rec = STRINGS[i][k], STRINGS[i][k + 1]
    if sub(key, #P + 1, #P + 1) == 'i' then
      own_add(rec, floor(string.byte(rec, 2) / 16) == 1 and round4k(from8(sub(rec, 52, 59))) or 4096, 1)
    end
  end
end
-- what must not be there
for _, keys in ipairs({ONES[1], absent}) do
  local n = 0
  pieces(keys, function(a, b) n = n + call('EXISTS', unpack(keys, a, b)) end)
  if n > 0 then return {'EXISTS', first_there(keys, 1)} end
end
-- the trash
local tkey, traw, tdec, tnew, tadd = nil, nil, nil, nil, {}
local tl, ts, tn = pair(0, 0), 0, 0
if moving then
  local v, n = call('HGET', P .. 'd' .. TRASHROOT, HOUR), nil
  if v then
    if #v ~= 9 then return {'BAD', P .. 'd' .. TRASHROOT, 'entry is not 9 bytes long'} end
    traw = sub(v, 2, 9)
    local _, lo = struct.unpack('>I4I4', traw)
    n = lo - 268435456
  else
    local c = int(call('GET', P .. 'nextTrash'))
    if not c then return {'BAD', P .. 'nextTrash', 'not a number'} end
    n = c + 1; tnew = n
    traw = struct.pack('>I4I4', 2147483647, 268435456 + n)
  end
  tdec = '92233720' .. fmt('%011.0f', 32828243968 + n)
  tkey = P .. 'd' .. tdec
  call('HLEN', tkey)
end
-- new images of inodes that exist
local grown = {} -- files in the trash that are still being written: hour directory -> length, space
local newblobs, dels, sustain, unsustain, tparents = {}, {}, {}, {}, {}
for i = 1, #ino do
  local n, old = ino[i], ino[i].old
  if n.kind == 'R' then
    dels[#dels + 1] = keys[i]; dels[#dels + 1] = P .. 'x' .. n.id
    dels[#dels + 1] = P .. 'p' .. n.id; dels[#dels + 1] = P .. 's' .. n.id
    unsustain[#unsustain + 1] = n.id
    if old then space = space - n.space; inodes = inodes - 1; own_add(old, -n.space, -1) end
  elseif old or n.kind == 'U' then
    local b = n.blob
    if b == '' and old then b = sub(old, 1, 35) .. n.ctime .. sub(old, 48) end
    if b == '' then return {'GONE', n.id} end
    local nl = struct.unpack('>I4', sub(b, 48, 51))
    if n.delta ~= 'a' and old then nl = math.max(0, n.nlink + tonumber(n.delta)) end
    if old and sub(old, 64, 67) == '\127\255\255\255' and not n.named and n.kind == 'U' then
      b = sub(b, 1, 63) .. sub(old, 64, 71) .. sub(b, 72)
    end
    local parent = sub(b, 64, 71)
    local len, typ = from8(sub(b, 52, 59)), floor(string.byte(b, 2) / 16)
    local sp = typ == 1 and round4k(len) or 4096
    if old and sub(parent, 1, 4) == '\127\255\255\255' and len ~= n.len then
      local _, lo = struct.unpack('>I4I4', parent)
      local hour = '92233720' .. fmt('%011.0f', 32828243968 + lo - 268435456)
      local g = grown[hour] or {pair(0, 0), 0}
      grown[hour] = {g[1] + len - n.len, g[2] + sp - n.space}
    end
    for k = 1, old and #n.trash / 2 or 0 do
      local entry, value = n.trash[2 * k - 1], n.trash[2 * k]
      if not tnew and nl > 1 and typ ~= 2 and call('HEXISTS', tkey, entry) == 1 then
        nl = nl - 1
      else
        tadd[#tadd + 1] = entry; tadd[#tadd + 1] = value
        if parent ~= zero8 then
          parent = traw
        else
          local pk = P .. 'p' .. n.id
          if not int(call('HGET', pk, tdec)) then return {'BAD', pk, 'not a number'} end
          tparents[#tparents + 1] = pk
        end
        tl = tl + (typ == 1 and len or 0); ts = ts + sp; tn = tn + 1
      end
    end
    if n.kind == 'S' then
      sustain[#sustain + 1] = n.id
      dels[#dels + 1] = P .. 'x' .. n.id
      if parent == zero8 then dels[#dels + 1] = P .. 'p' .. n.id end
    end
    b = sub(b, 1, 47) .. struct.pack('>I4', nl) .. sub(b, 52, 63) .. parent .. sub(b, 72)
    newblobs[#newblobs + 1] = keys[i]; newblobs[#newblobs + 1] = b
    space = space + sp - (old and n.space or 0)
    if old then own_add(old, -n.space, -1) end
    own_add(b, sp, 1)
    if not old then inodes = inodes + 1 end
  end
end
if tdec and grown[tdec] then
  tl = tl + grown[tdec][1]; ts = ts + grown[tdec][2]; grown[tdec] = nil
end
-- what was summed up for these directories before is part of the value that is set last
if tdec and statof[tdec] then
  tl = tl + statof[tdec][2]; ts = ts + statof[tdec][3]; tn = tn + statof[tdec][4]
end
for hour, g in pairs(grown) do
  if statof[hour] then g = {g[1] + statof[hour][2], g[2] + statof[hour][3]} end
  local a, b = call('HGET', L, hour), call('HGET', S, hour)
  if b then
    a, b = int64(a), int64(b)
    if not (a and b) then return {'BAD', S, 'not a number'} end
    sl[#sl + 1] = hour; sl[#sl + 1] = dec(a + g[1])
    ss[#ss + 1] = hour; ss[#ss + 1] = dec(b + g[2])
  end
end
if moving and tnew then
  space = space + 4096; inodes = inodes + 1
  own_add(string.rep('\0', 11), 4096, 1) -- an hour is root's
  stat_set(tdec, tl, ts, tn)
elseif moving then
  local a, b, c = call('HGET', L, tdec), call('HGET', S, tdec), call('HGET', N, tdec)
  if b then
    a, b, c = int64(a), int64(b), int(c)
    if not (a and b and c) then return {'BAD', S, 'not a number'} end
    stat_set(tdec, a + tl, b + ts, c + tn)
  end
end
-- owners: absolute new values
for i = 1, #ownorder do
  local o = ownorder[i]
  local k = P .. o[1] .. 'Quota'
  local a, b = int64(call('HGET', k .. 'UsedSpace', o[2])), int(call('HGET', k .. 'UsedInodes', o[2]))
  if not (a and b) then return {'BAD', k .. 'UsedSpace', 'not a number'} end
  call('HLEN', k)
  o[3] = dec(a + o[3]); o[4] = dec(b + o[4])
end
-- references: absolute new values
local REF, DEAD, PACKS = P .. 'sliceRef', P .. 'zjfs.dead', P .. 'zjfs.packs'
local packdel = {}
call('HLEN', PACKS)
local refset, refdel, deadset, deaddel = {}, {}, {}, {}
do
  local v, d = fetch('HMGET', REF, reforder), fetch('HMGET', DEAD, reforder)
  for i = 1, #reforder do
    local f = reforder[i]
    local c, n = int(v[i]), ref[f]
    if not c then return {'BAD', REF, 'field ' .. f .. ' is not a number'} end
    if d[i] and n > 0 then -- its objects are still there until they were claimed for deletion
      if sub(d[i], 1, 1) == 'x' then return {'DEADREF', f} end
      c = -1
    end
    local new = c + n
    if n ~= 0 then
      if new < 0 then
        deadset[#deadset + 1] = f; deadset[#deadset + 1] = NEWSEQ
        packdel[#packdel + 1] = f
        if v[i] then refdel[#refdel + 1] = f end
      else
        if d[i] then deaddel[#deaddel + 1] = f end
        if new > 0 then refset[#refset + 1] = f; refset[#refset + 1] = fmt('%.0f', new)
        elseif v[i] then refdel[#refdel + 1] = f end
      end
    end
  end
end
do
  local used = int64(call('GET', P .. 'usedSpace'))
  if not used then return {'BAD', P .. 'usedSpace', 'not a number'} end
  if math.abs(approx(used) + space) > 9.2e18 then return {'BAD', P .. 'usedSpace', 'too large'} end
end
if not int(call('GET', P .. 'totalInodes')) then return {'BAD', P .. 'totalInodes', 'not a number'} end
if #sustain + #unsustain > 0 then call('SCARD', P .. 'session' .. SID) end
local earlier = {} -- sessions of ours that Redis forgot the end of may hold what goes
for _, s in ipairs(#unsustain > 0 and call('ZRANGE', P .. 'allSessions', 0, -1) or {}) do
  if s ~= SID and call('SCARD', P .. 'session' .. s) > 0 then earlier[#earlier + 1] = P .. 'session' .. s end
end
if #delfiles > 0 then call('ZCARD', P .. 'delfiles') end

-- ---- second half: write; nothing here can fail ------------------------------------------------------------------
call = redis.call
if STRINGS[1] and call('MSETNX', unpack(STRINGS[1])) == 0 then return {'EXISTS', first_there(STRINGS[1], 2)} end
for i = 2, #STRINGS do call('MSET', unpack(STRINGS[i])) end
put('DEL', nil, gone)
put('DEL', nil, dels)
put('MSET', nil, newblobs)
for i = 1, #DIRS do
  put('HSET', DIRS[i][1], DIRS[i][3])
  put('HDEL', DIRS[i][1], DIRS[i][4])
end
do
  local k, v = ONES[1], ONES[2]
  for i = 1, #k do call('RPUSH', k[i], v[i]) end
end
for i = 1, #MANY do call('RPUSH', unpack(MANY[i])) end
for i = 1, #LISTS do
  local l = LISTS[i]
  if l[2] == 'R' then call('DEL', l[1]) end
  if #l > 3 then call('RPUSH', l[1], unpack(l, 4)) end
end
for i = 1, #parents do call('HINCRBY', parents[i].key, parents[i].field, parents[i].delta) end
for i = 1, #XATTRS do
  put('HSET', XATTRS[i][1], XATTRS[i][3])
  put('HDEL', XATTRS[i][1], XATTRS[i][4])
end
if moving then
  if tnew then
    local t = struct.pack('>I8I4', tonumber(NOW), 0)
    call('SET', P .. 'nextTrash', fmt('%.0f', tnew))
    call('SET', P .. 'i' .. tdec, '\0\33\109' .. zero8 .. t .. t .. t .. struct.pack('>I4I8I4I4I4', 2, 4096, 0, 2147483647, 268435456) .. '\0')
    call('HSET', P .. 'd' .. TRASHROOT, HOUR, '\2' .. traw)
  end
  put('HSET', tkey, tadd)
  for i = 1, #tparents do call('HINCRBY', tparents[i], tdec, 1) end
end
put('SADD', P .. 'session' .. SID, sustain)
put('SREM', P .. 'session' .. SID, unsustain)
for i = 1, #earlier do put('SREM', earlier[i], unsustain) end
put('ZADD', P .. 'delfiles', delfiles)
-- a directory without statistics (the root of a fresh volume) gets them by counting, as stock does; what is too large to
-- be counted here is left to stock
for i = 1, #nostat do
  local key = P .. 'd' .. nostat[i]
  if call('EXISTS', P .. 'i' .. nostat[i]) == 1 and call('HLEN', key) <= 10000 then
    local e, l, s, files = call('HVALS', key), pair(0, 0), 0, {}
    for j = 1, #e do
      if #e[j] == 9 and e[j]:byte(1) == 1 then
        files[#files + 1] = P .. 'i' .. fmt('%.0f', (struct.unpack('>I8', e[j], 2)))
      else
        s = s + 4096
      end
    end
    local recs = fetch('MGET', nil, files)
    for j = 1, #files do
      local len = recs[j] and #recs[j] >= 59 and from8(sub(recs[j], 52, 59)) or 0
      l = l + len; s = s + round4k(len)
    end
    stat_set(nostat[i], l, s, #e)
  end
end
for i = 1, #quotas do call('HSET', QS, quotas[i][1], quotas[i][2]); call('HSET', QN, quotas[i][1], quotas[i][3]) end
for i = 1, #ownorder do
  local o = ownorder[i]
  local k = P .. o[1] .. 'Quota'
  call('HSETNX', k, o[2], string.rep('\255', 16)); call('HSET', k .. 'UsedSpace', o[2], o[3]); call('HSET', k .. 'UsedInodes', o[2], o[4])
end
for _, key in ipairs({L, S, N, QL, QS, QN}) do put('HDEL', key, SDROP) end
put('HSET', L, sl); put('HSET', S, ss); put('HSET', N, sn)
put('HSET', REF, refset); put('HDEL', REF, refdel)
put('HSET', DEAD, deadset); put('HDEL', DEAD, deaddel)
put('HSET', PACKS, packset); put('HDEL', PACKS, packdel)
if space ~= 0 then call('INCRBY', P .. 'usedSpace', fmt('%.0f', space)) end
if inodes ~= 0 then call('INCRBY', P .. 'totalInodes', fmt('%.0f', inodes)) end
call('HSET', P .. 'zjfs', 'seq', NEWSEQ, 'chain', NEWCHAIN)
return {'OK', NEWSEQ}
