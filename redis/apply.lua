-- Applies one window (redis/script.h describes the arguments, redis/plan.h what they mean).
-- Nothing is written before everything was checked: an error in a script keeps its effects. So every key that a later
-- command could stumble over (wrong type, not a number) is read in the first half with a command of the same type.
-- Answers: OK | GAP epoch seq chain | FENCED .. | FORGOT .. | NOKEY | EXISTS key | ENTRY key name found | LIST key
--          | GONE inode | DEADREF field | BAD key why
local A, floor, fmt, sub = ARGV, math.floor, string.format, string.sub
-- While checking, a wrong type is told with its key.
local function call(cmd, key, ...)
  local r = redis.pcall(cmd, key, ...)
  if type(r) == 'table' and r.err then
    if string.find(r.err, 'WRONGTYPE', 1, true) then error('WRONGTYPE key ' .. key .. ' in Redis has the wrong type', 0) end
    return redis.call(cmd, key, ...)
  end
  return r
end
local P = A[1]
local CS, MAX = 67108864, 4000
local zero8, TRASHROOT = string.rep('\0', 8), '9223372032828243968'
local pos = call('HMGET', P .. 'zjfs', 'epoch', 'seq', 'chain')
if not pos[1] then return {'NOKEY'} end
pos = {pos[1], pos[2] or '0', pos[3] or ''}
if pos[1] ~= A[2] then
  return {tonumber(pos[1]) > tonumber(A[2]) and 'FENCED' or 'FORGOT', pos[1], pos[2], pos[3]}
end
if pos[2] ~= A[3] or pos[3] ~= A[4] then return {'GAP', pos[1], pos[2], pos[3]} end
local NEWSEQ, NEWCHAIN, NOW, HOUR, SID = A[5], A[6], A[7], A[8], A[9]
local space, inodes = tonumber(A[11]), tonumber(A[12])
local p = 13

local function num() p = p + 1; return tonumber(A[p - 1]) end
local function str() p = p + 1; return A[p - 1] end
local function int(v) -- an integer as Redis stores it, absent: 0; nil: not a number
  if not v then return 0 end
  if not string.find(v, '^%-?%d+$') or #v > 16 then return nil end
  return tonumber(v)
end
-- calls f on slices of t of at most MAX elements
local function pieces(t, f)
  for i = 1, #t, MAX do f(i, math.min(i + MAX - 1, #t)) end
end
local function fetch(cmd, key, t)
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

-- ---- first half: read and check -------------------------------------------------------------------------------
local absent = {}
-- fresh strings: inode records and symlink targets
local nset = num(); local set0 = p; p = p + 2 * nset
for i = set0, p - 1, 2 do absent[#absent + 1] = A[i] end
-- fresh lists of one record; fresh lists of several
local none = num(); local one0 = p; p = p + 2 * none
for i = one0, p - 1, 2 do absent[#absent + 1] = A[i] end
local many = {}
for i = 1, num() do
  local key, k = str(), num()
  many[i] = {key, p, p + k - 1}; p = p + k
  absent[#absent + 1] = key
end
-- entries, by directory
local dirs = {}
for i = 1, num() do
  local d = {key = str(), fresh = str() == '1'}
  d.nset = num(); d.set0 = p; p = p + 2 * d.nset
  d.ndel = num(); d.del0 = p; p = p + d.ndel
  dirs[i] = d
  if d.fresh then
    absent[#absent + 1] = d.key
  else
    local names, e0 = {}, p
    for k = d.set0, d.set0 + 2 * d.nset - 1, 2 do names[#names + 1] = A[k] end
    for k = d.del0, d.del0 + d.ndel - 1 do names[#names + 1] = A[k] end
    p = p + #names
    local have = fetch('HMGET', d.key, names)
    for k = 1, #names do
      local want = A[e0 + k - 1]
      if want ~= '*' and want ~= (have[k] or '') then return {'ENTRY', d.key, names[k], have[k] or ''} end
    end
  end
end
-- references: what the window adds and drops; what the script finds in lists that go is added below
local ref, reforder = {}, {}
local function ref_add(f, n)
  if not ref[f] then ref[f] = 0; reforder[#reforder + 1] = f end
  ref[f] = ref[f] + n
end
for i = 1, num() do
  local f, d = str(), num()
  p = p + 1 -- fresh or not: the count of a fresh one is the plan's affair
  ref_add(f, d)
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
for i = 1, num() do
  local n = {id = str(), kind = str(), blob = str(), named = str() == '1', delta = str(), ctime = str(), cut = num(), trash = {}}
  for k = 1, num() do n.trash[k] = {str(), str()} end
  ino[i] = n
  keys[i] = P .. 'i' .. n.id
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
    n.len = struct.unpack('>I8', sub(old, 52, 59))
    n.nlink = struct.unpack('>I4', sub(old, 48, 51))
    n.space = n.type == 1 and math.max(4096, math.ceil(n.len / 4096) * 4096) or 4096
    local chunks = math.ceil(n.len / CS)
    if n.type == 1 and n.kind == 'R' then
      if chunks > 1000 then
        delfiles[#delfiles + 1] = NOW
        delfiles[#delfiles + 1] = fmt('%s:%.0f', n.id, n.len)
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
local lists = {}
for i = 1, num() do
  local l = {key = str(), kind = str(), old = str(), n = num()}
  l.p0 = p; p = p + l.n
  lists[i] = l
  if l.kind == 'F' then
    list_drop(l.key)
  else
    local cur = table.concat(call('LRANGE', l.key, 0, -1))
    if cur ~= l.old then return {'LIST', l.key} end
  end
end
if bad then return bad end
-- other names of hard-linked inodes
local parents = {}
for i = 1, num() do
  local e = {key = P .. 'p' .. str(), field = str(), delta = str()}
  if not int(call('HGET', e.key, e.field)) then return {'BAD', e.key, 'not a number'} end
  parents[i] = e
end
-- directory statistics: new ones, changes, deletions
local stat, statdel, L, S, N = {}, {}, P .. 'dirDataLength', P .. 'dirUsedSpace', P .. 'dirUsedInodes'
local sl, ss, sn = {}, {}, {}
local function stat_set(d, l, s, n)
  sl[#sl + 1] = d; sl[#sl + 1] = fmt('%.0f', l)
  ss[#ss + 1] = d; ss[#ss + 1] = fmt('%.0f', s)
  sn[#sn + 1] = d; sn[#sn + 1] = fmt('%.0f', n)
end
call('HLEN', L); call('HLEN', S); call('HLEN', N)
for i = 1, num() do stat_set(str(), num(), num(), num()) end
local sids, nostat, statof = {}, {}, {}
for i = 1, num() do
  local e = {str(), num(), num(), num()}
  stat[i] = e; sids[i] = e[1]; statof[e[1]] = e
end
for i = 1, num() do statdel[i] = str(); statof[statdel[i]] = {'', 0, 0, 0} end
-- hard-linked files that changed their length: every name they had so far counts
for i = 1, num() do
  local id, l, s = str(), num(), num(); num()
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
      local a, b, c = int(l[i]), int(s[i]), int(n[i])
      if not (a and b and c) then return {'BAD', S, 'not a number'} end
      stat_set(sids[i], a + stat[i][2], b + stat[i][3], c + stat[i][4])
    else
      call('HLEN', P .. 'd' .. sids[i]); call('STRLEN', P .. 'i' .. sids[i])
      nostat[#nostat + 1] = sids[i]
    end
  end
end
-- extended attributes, by inode
local xattrs = {}
for i = 1, num() do
  local x = {key = str(), fresh = str() == '1'}
  x.nset = num(); x.set0 = p; p = p + 2 * x.nset
  x.ndel = num(); x.del0 = p; p = p + x.ndel
  xattrs[i] = x
  if x.fresh then absent[#absent + 1] = x.key else call('HLEN', x.key) end
end
-- what must not be there
do
  local found
  pieces(absent, function(a, b)
    if call('EXISTS', unpack(absent, a, b)) > 0 then
      for i = a, b do if not found and call('EXISTS', absent[i]) == 1 then found = absent[i] end end
    end
  end)
  if found then return {'EXISTS', found} end
end
-- the trash
local tkey, traw, tdec, tnew, tadd = nil, nil, nil, nil, {}
local tl, ts, tn = 0, 0, 0
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
    if old then space = space - n.space; inodes = inodes - 1 end
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
    local len, typ = struct.unpack('>I8', sub(b, 52, 59)), floor(string.byte(b, 2) / 16)
    local sp = typ == 1 and math.max(4096, math.ceil(len / 4096) * 4096) or 4096
    if old and sub(parent, 1, 4) == '\127\255\255\255' and len ~= n.len then
      local _, lo = struct.unpack('>I4I4', parent)
      local dec = '92233720' .. fmt('%011.0f', 32828243968 + lo - 268435456)
      local g = grown[dec] or {0, 0}
      grown[dec] = {g[1] + len - n.len, g[2] + sp - n.space}
    end
    for k = 1, old and #n.trash or 0 do
      local entry, value = n.trash[k][1], n.trash[k][2]
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
for dec, g in pairs(grown) do
  if statof[dec] then g = {g[1] + statof[dec][2], g[2] + statof[dec][3]} end
  local a, b = call('HGET', L, dec), call('HGET', S, dec)
  if b then
    a, b = int(a), int(b)
    if not (a and b) then return {'BAD', S, 'not a number'} end
    sl[#sl + 1] = dec; sl[#sl + 1] = fmt('%.0f', a + g[1])
    ss[#ss + 1] = dec; ss[#ss + 1] = fmt('%.0f', b + g[2])
  end
end
if moving and tnew then
  space = space + 4096; inodes = inodes + 1
  stat_set(tdec, tl, ts, tn)
elseif moving then
  local a, b, c = call('HGET', L, tdec), call('HGET', S, tdec), call('HGET', N, tdec)
  if b then
    a, b, c = int(a), int(b), int(c)
    if not (a and b and c) then return {'BAD', S, 'not a number'} end
    stat_set(tdec, a + tl, b + ts, c + tn)
  end
end
-- references: absolute new values
local REF, DEAD = P .. 'sliceRef', P .. 'zjfs.dead'
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
        if v[i] then refdel[#refdel + 1] = f end
      else
        if d[i] then deaddel[#deaddel + 1] = f end
        if new > 0 then refset[#refset + 1] = f; refset[#refset + 1] = fmt('%.0f', new)
        elseif v[i] then refdel[#refdel + 1] = f end
      end
    end
  end
end
if not int(call('GET', P .. 'usedSpace')) then return {'BAD', P .. 'usedSpace', 'not a number'} end
if not int(call('GET', P .. 'totalInodes')) then return {'BAD', P .. 'totalInodes', 'not a number'} end
if #sustain + #unsustain > 0 then call('SCARD', P .. 'session' .. SID) end
if #delfiles > 0 then call('ZCARD', P .. 'delfiles') end

-- ---- second half: write; nothing here can fail ------------------------------------------------------------------
call = redis.call
put('DEL', nil, gone)
put('DEL', nil, dels)
for i = set0, set0 + 2 * nset - 1, MAX do call('MSET', unpack(A, i, math.min(i + MAX - 1, set0 + 2 * nset - 1))) end
put('MSET', nil, newblobs)
for i = 1, #dirs do
  local d = dirs[i]
  for k = d.set0, d.set0 + 2 * d.nset - 1, MAX do
    call('HSET', d.key, unpack(A, k, math.min(k + MAX - 1, d.set0 + 2 * d.nset - 1)))
  end
  for k = d.del0, d.del0 + d.ndel - 1, MAX do call('HDEL', d.key, unpack(A, k, math.min(k + MAX - 1, d.del0 + d.ndel - 1))) end
end
for i = one0, one0 + 2 * none - 1, 2 do call('RPUSH', A[i], A[i + 1]) end
for i = 1, #many do
  for k = many[i][2], many[i][3], MAX do call('RPUSH', many[i][1], unpack(A, k, math.min(k + MAX - 1, many[i][3]))) end
end
for i = 1, #lists do
  local l = lists[i]
  if l.kind == 'R' then call('DEL', l.key) end
  if l.n > 0 then call('RPUSH', l.key, unpack(A, l.p0, l.p0 + l.n - 1)) end
end
for i = 1, #parents do call('HINCRBY', parents[i].key, parents[i].field, parents[i].delta) end
for i = 1, #xattrs do
  local x = xattrs[i]
  for k = x.set0, x.set0 + 2 * x.nset - 1, 2 do call('HSET', x.key, A[k], A[k + 1]) end
  for k = x.del0, x.del0 + x.ndel - 1 do call('HDEL', x.key, A[k]) end
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
put('ZADD', P .. 'delfiles', delfiles)
-- a directory without statistics (the root of a fresh volume) gets them by counting, as stock does; what is too large to
-- be counted here is left to stock
for i = 1, #nostat do
  local key = P .. 'd' .. nostat[i]
  if call('EXISTS', P .. 'i' .. nostat[i]) == 1 and call('HLEN', key) <= 10000 then
    local e, l, s, files = call('HVALS', key), 0, 0, {}
    for j = 1, #e do
      if #e[j] == 9 and e[j]:byte(1) == 1 then
        files[#files + 1] = P .. 'i' .. fmt('%.0f', (struct.unpack('>I8', e[j], 2)))
      else
        s = s + 4096
      end
    end
    local recs = fetch('MGET', nil, files)
    for j = 1, #files do
      local len = recs[j] and #recs[j] >= 59 and struct.unpack('>I8', recs[j], 52) or 0
      l = l + len; s = s + math.max(4096, math.ceil(len / 4096) * 4096)
    end
    stat_set(nostat[i], l, s, #e)
  end
end
put('HDEL', L, statdel); put('HDEL', S, statdel); put('HDEL', N, statdel)
put('HSET', L, sl); put('HSET', S, ss); put('HSET', N, sn)
put('HSET', REF, refset); put('HDEL', REF, refdel)
put('HSET', DEAD, deadset); put('HDEL', DEAD, deaddel)
if space ~= 0 then call('INCRBY', P .. 'usedSpace', fmt('%.0f', space)) end
if inodes ~= 0 then call('INCRBY', P .. 'totalInodes', fmt('%.0f', inodes)) end
call('HSET', P .. 'zjfs', 'seq', NEWSEQ, 'chain', NEWCHAIN)
return {'OK', NEWSEQ}
