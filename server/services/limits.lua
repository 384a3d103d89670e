-- The account of calls to deployments, shared by all workers: the rules of evals/limits.py, in one step.
--
-- KEYS: for each deployment three: its state, its calls in flight (a sorted set by when they must be over at the
-- latest), and the starts of the last minute's calls that were not refused (a sorted set).
-- ARGV[1]: a message {now, rules, deployments, reports, ask}, `now` 0 for this server's clock, deployments counted
-- from 1. Returns a message: {granted, started, is_probe} or {seconds, why}; empty without an ask.

local message = cmsgpack.unpack(ARGV[1])
local rules = message.rules
local now = message.now
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local states = {}

local function flights_key(place) return KEYS[3 * place - 1] end
local function starts_key(place) return KEYS[3 * place] end

local function full() return {level = math.huge, at = 0} end

local function state_of(place)
  if not states[place] then
    local kept = redis.call('GET', KEYS[3 * place - 2])
    states[place] = kept and cmsgpack.unpack(kept) or {
      room = rules.first_room, blocked_until = 0, rate = 0, paced = full(), limited_at = -math.huge, held_until = 0,
      hold_seconds = rules.hold_seconds, requests = full(), tokens = full(), failures = 0, rests = 0,
      resting_until = 0, probed_until = 0,
    }
  end
  return states[place]
end

local function bucket_size(a_minute) return math.max(1, a_minute / 10) end
local function bucket_rate(a_minute) return math.max(a_minute - bucket_size(a_minute), a_minute / 2) / 60 end

local function bucket_wait(bucket, need, size, rate)
  bucket.level = math.min(size, bucket.level + math.max(0, now - bucket.at) * rate)
  bucket.at = math.max(now, bucket.at)
  local missing = math.min(need, size) - bucket.level
  if missing > 1e-9 then return missing / rate + 1e-6 end
  return 0
end

local function block(state, seconds)
  state.blocked_until = math.max(state.blocked_until, now + math.min(seconds, rules.longest_block_seconds))
end

local function answered(state, deployment)
  state.failures, state.rests, state.resting_until = 0, 0, 0
  if state.rate == 0 then
    state.room = math.min(state.room + rules.room_for_an_answer, deployment.max_in_flight)
  elseif now > state.held_until then
    state.room = math.min(state.room + 1 / state.room, deployment.max_in_flight)
  end
end

local function refused(state, place, report)
  redis.call('ZREM', starts_key(place), report.call_id)
  local window = report.pause_seconds > rules.long_pause_seconds and 60 or 1
  local since = string.format('(%.17g', report.started - window)
  local taken = redis.call('ZCOUNT', starts_key(place), since, '+inf')
  local learned = math.max(rules.least_rate, rules.safe_share * taken / window)
  if report.started < state.limited_at and state.rate > 0 then
    state.rate = math.min(state.rate, learned)
  else
    local is_same = state.rate > 0 and learned > 0.7 * state.rate
    state.hold_seconds = is_same and math.min(state.hold_seconds * 2, rules.longest_hold_seconds) or rules.hold_seconds
    state.rate = state.rate == 0 and learned or math.min(learned, 0.95 * state.rate)
    state.limited_at = now
  end
  state.held_until = now + state.hold_seconds
  block(state, report.pause_seconds)
  state.paced.level, state.paced.at = 1, state.blocked_until
end

local function failed(state, report)
  state.failures = state.failures + 1
  if state.failures == rules.failures_to_rest or report.is_probe then
    state.resting_until = now + math.min(rules.first_rest_seconds * 2 ^ state.rests, rules.longest_rest_seconds)
    state.rests = math.min(state.rests + 1, 10)
  end
end

local function finish(report)
  local place = report.place
  local state = state_of(place)
  redis.call('ZREM', flights_key(place), report.call_id)
  if report.used >= 0 then state.tokens.level = state.tokens.level + report.tokens - report.used end
  if report.is_probe then state.probed_until = 0 end
  if report.ending == 'answered' then
    answered(state, message.deployments[place])
  elseif report.ending == 'refused' then
    refused(state, place, report)
  elseif report.ending == 'failed' then
    failed(state, report)
  end
  if report.pause_seconds > 0 and report.ending ~= 'refused' then block(state, report.pause_seconds) end
end

local function pace_wait(state, deployment, tokens)
  local wait = 0
  if state.rate > 0 then
    if now > state.held_until then
      local grown = state.rate * rules.growth ^ math.min(now - state.held_until, 60)
      state.rate = math.min(grown, rules.most_rate)
      state.held_until = now
    end
    wait = math.max(wait, bucket_wait(state.paced, 1, math.max(1, state.rate / 10), state.rate))
  end
  if deployment.rpm > 0 then
    wait = math.max(wait, bucket_wait(state.requests, 1, bucket_size(deployment.rpm), bucket_rate(deployment.rpm)))
  end
  if deployment.tpm > 0 then
    wait = math.max(wait, bucket_wait(state.tokens, tokens, bucket_size(deployment.tpm), bucket_rate(deployment.tpm)))
  end
  return wait
end

-- The share of a deployment that is free; or nil, seconds and why there is none.
local function free(place, tokens)
  local state, deployment = state_of(place), message.deployments[place]
  if state.failures >= rules.failures_to_rest then
    if now < state.resting_until then return nil, state.resting_until - now, 'rest' end
    if now < state.probed_until then
      return nil, math.min(rules.probe_look_seconds, state.probed_until - now), 'rest'
    end
  end
  if now < state.blocked_until then return nil, state.blocked_until - now, 'rate' end
  -- A worker that was killed gives nothing back.
  redis.call('ZREMRANGEBYSCORE', flights_key(place), '-inf', now)
  local in_flight = redis.call('ZCARD', flights_key(place))
  local room = math.min(math.floor(state.room), deployment.max_in_flight)
  if in_flight >= room then return nil, rules.room_look_seconds, 'room' end
  local seconds = pace_wait(state, deployment, tokens)
  if seconds > 0 then return nil, seconds, 'rate' end
  local share = 1 - in_flight / room
  if deployment.rpm > 0 then share = math.min(share, state.requests.level / bucket_size(deployment.rpm)) end
  if deployment.tpm > 0 then share = math.min(share, state.tokens.level / bucket_size(deployment.tpm)) end
  return share
end

local function begin(place, ask)
  local state = state_of(place)
  redis.call('ZADD', flights_key(place), string.format('%.17g', now + ask.seconds + rules.lost_after_seconds), ask.call_id)
  redis.call('ZADD', starts_key(place), string.format('%.17g', now), ask.call_id)
  redis.call('ZREMRANGEBYSCORE', starts_key(place), '-inf', string.format('(%.17g', now - 60))
  state.paced.level = state.paced.level - 1
  state.requests.level = state.requests.level - 1
  state.tokens.level = state.tokens.level - ask.tokens
  if state.failures < rules.failures_to_rest then return false end
  state.probed_until = now + ask.seconds
  return true
end

local function take(ask)
  local best, best_share, soonest, why = nil, 0, math.huge, ''
  for _, place in ipairs(ask.places) do
    local share, seconds, reason = free(place, ask.tokens)
    if share == nil then
      if seconds < soonest then soonest, why = seconds, reason end
    elseif best == nil or share > best_share then
      best, best_share = place, share
    end
  end
  if best == nil then return {seconds = soonest, why = why} end
  return {granted = best, started = now, is_probe = begin(best, ask)}
end

for _, report in ipairs(message.reports) do finish(report) end
local answer = message.ask and take(message.ask) or {}
for place, state in pairs(states) do
  redis.call('SET', KEYS[3 * place - 2], cmsgpack.pack(state), 'EX', rules.forgotten_after_seconds)
  redis.call('EXPIRE', flights_key(place), rules.forgotten_after_seconds)
  redis.call('EXPIRE', starts_key(place), 120)
end
return cmsgpack.pack(answer)
