-- How often something may be done: for each bucket the moment from which on it is full again, in one step for many asks.
--
-- KEYS: buckets, and marks that set an asker free. ARGV[1]: a message {now, asks}, `now` in seconds, 0 for this server's
-- clock. An ask is {takes, is_queued, free_by, marks, mark_seconds}: `takes` are pairs of a key's number and a rate a
-- minute, `free_by` a key's number or 0, `marks` a key's number or 0. Returns a message: for each ask {seconds, place},
-- `place` the one of its buckets that is empty, 0 for none. A refused ask takes from no bucket; a queued one takes from
-- all of them and is told when its turn is.

local message = cmsgpack.unpack(ARGV[1])
local now = message.now
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local WINDOW = 60 -- a minute's worth may come at once

local function due_at(key)
  local kept = tonumber(redis.call('GET', key) or '')
  return math.max(kept or now, now)
end

local function wait(due, rate) return due + WINDOW / rate - now - WINDOW end

local function take(key, due, rate)
  local later = due + WINDOW / rate
  redis.call('SET', key, string.format('%.17g', later), 'EX', math.ceil(later - now) + 1)
end

local function answer(ask)
  if ask.marks > 0 then redis.call('SET', KEYS[ask.marks], '1', 'EX', ask.mark_seconds) end
  if ask.free_by > 0 and redis.call('EXISTS', KEYS[ask.free_by]) == 1 then return {0, 0} end
  local longest, place = 0, 0
  local dues = {}
  for index, pair in ipairs(ask.takes) do
    dues[index] = due_at(KEYS[pair[1]])
    local seconds = wait(dues[index], pair[2])
    -- A sum of many fractions is a little more or less than what it stands for.
    if seconds > 0.000001 and seconds > longest then longest, place = seconds, index end
  end
  if place == 0 or ask.is_queued then
    for index, pair in ipairs(ask.takes) do take(KEYS[pair[1]], dues[index], pair[2]) end
  end
  return {longest, place}
end

local answers = {}
for index, ask in ipairs(message.asks) do answers[index] = answer(ask) end
return cmsgpack.pack(answers)
