-- Jobs: from the submit to the last word.

-- name: submit_jobs
-- Callers, versions, suites, admission, charges, ledger entries and job rows of several submits in one: all of it is
-- kept or nothing. A row a submit answers; what is refused says why in `refusal`. An equal submit (same key) takes no
-- row of `fresh` and so charges nothing, nor does a second submit of one event. A job that an identical one has answered is completed from the start, and its
-- entry in the ledger is of no run. A month that a race fills refuses the whole statement, and two submits of
-- one account break it: its caller then sends each alone.
-- Who asks is a token's account or an account itself; who is billed is the same or an organisation that the request
-- names. What domain.rights says comes along: $3 roles and $4 scopes that may run, $5 roles and $6 scopes that may publish.
-- $1 a JSON list of server.store.jobs.SubmitRow, $2 JSON of server.domain.queue.Outlook or NULL
WITH sent AS MATERIALIZED (
  SELECT * FROM JSON_TO_RECORDSET($1::JSON) AS s (
    job_id UUID, account_id UUID, token_hash TEXT, key TEXT, request_sha256 TEXT, force BOOLEAN,
    package_id UUID, package_name TEXT, package_version TEXT, snapshot_id TEXT,
    suite_id TEXT, suite_body TEXT, suite_trials INT, suite_source TEXT, awaits_cases BOOLEAN, models TEXT[], framework TEXT, plugins TEXT[], upload BOOLEAN, verify BOOLEAN,
    cause TEXT, use_cache BOOLEAN, outcome_settings TEXT, outcome_days INT, may_cost BOOLEAN, max_cost_usd NUMERIC,
    change JSONB, suite_name TEXT, against JSONB, account_name TEXT, report JSONB
  )
), request AS MATERIALIZED (
  SELECT s.job_id, s.request_sha256, s.force, CASE WHEN written.suite_id IS NULL THEN s.suite_body END AS suite_body, s.suite_trials, s.models, s.framework, s.plugins, s.upload, s.verify,
    s.cause, s.use_cache AND s.cause = 'submit' AS use_cache, s.max_cost_usd,
    cached.job_id AS cached_from, cached.conclusion, cached.results, s.change, s.suite_name, s.against, s.report,
    line.name AS change_line,
    a.id AS account_id, a.subscription_tier, a.run_limit, a.start_bonus, a.month, a.money_per_month_usd,
    asker.id AS asker_id, own.caller_id,
    p.id AS package_id, p.name, v.version, v.snapshot_id, v.suite_error, suite.id AS suite_id, suite.source, trials.total,
    CASE
      WHEN who.id IS NULL THEN 'nobody'
      WHEN a.id IS NULL OR a.id <> who.id AND (k.trust_id IS NOT NULL OR NOT who.is_admin AND member.role IS NULL)
        THEN 'account_not_found'
      WHEN a.id <> who.id AND (member.role = ANY ($3::TEXT[])) IS NOT TRUE THEN 'role_may_not_run'
      WHEN NOT k.scopes && $4::TEXT[] THEN 'token_may_not_run'
      -- A value, as EXISTS would let the planner read every repository into a table of its own.
      WHEN k.trust_id IS NOT NULL AND (
          SELECT r.forge = s.change ->> 'forge' AND r.repository_id = (s.change ->> 'repository_id')::BIGINT
          FROM trusted_repositories r WHERE r.id = k.trust_id
        ) IS NOT TRUE THEN 'other_repository'
      -- What is no change proposal is what later ones are compared with: a workflow speaks for its own branch alone.
      WHEN k.ref <> s.change ->> 'ref' AND s.change -> 'pull_request' IS NULL THEN 'other_ref'
      WHEN a.run_limit = 0 THEN 'free_tier'
      WHEN v.version IS NULL THEN 'package_not_found'
      WHEN (s.upload OR s.verify) AND p.owner_id <> a.id AND NOT who.is_admin THEN 'not_the_owner'
      WHEN (s.upload OR s.verify) AND (
          NOT k.scopes && $6::TEXT[] OR a.id <> who.id AND (member.role = ANY ($5::TEXT[])) IS NOT TRUE
        ) THEN 'may_not_publish'
      WHEN s.verify AND (s.suite_id IS NOT NULL OR NOT p.is_published) THEN 'cannot_verify'
      WHEN s.suite_id IS NULL AND v.suite_error IS NOT NULL THEN 'invalid_suite'
      WHEN suite.id IS NULL THEN 'no_suite'
      WHEN trials.total > a.trials_per_job THEN 'too_many_trials'
      -- Seen here so that a full month spoils nobody else's submit. The charge below decides on runs, and on money
      -- each call of a model does.
      WHEN cached.job_id IS NULL
        AND (
          SELECT u.test_runs_count >= a.run_limit OR (s.may_cost AND u.cost_usd >= a.money_per_month_usd)
          FROM user_test_usage u WHERE u.user_id = a.id AND u.month = a.month
        )
        AND (SELECT e.job_id FROM submissions e WHERE e.caller_id = own.caller_id AND e.key = own.key LIMIT 1) IS NULL
        THEN 'quota_exceeded'
    END AS refusal,
    own.key, CASE WHEN s.key <> own.key THEN s.key END AS second_key
  FROM sent s
  -- Each LIMIT keeps the planner from turning a look-up by key into a join of whole tables.
  LEFT JOIN LATERAL (
    SELECT k.user_id, k.scopes, k.trust_id, k.ref FROM access_tokens k
    WHERE k.token_hash = s.token_hash AND k.is_active AND (k.expires_at IS NULL OR k.expires_at > NOW())
    LIMIT 1
  ) k ON TRUE
  LEFT JOIN LATERAL (
    SELECT u.id, u.is_admin FROM users u WHERE u.is_active AND u.id = COALESCE(s.account_id, k.user_id) LIMIT 1
  ) who ON TRUE
  CROSS JOIN LATERAL (SELECT COALESCE(k.trust_id, who.id) AS id) asker
  LEFT JOIN LATERAL (
    SELECT u.id, u.subscription_tier, t.runs_per_month AS run_limit, t.start_bonus, t.trials_per_job,
      COALESCE(u.money_per_month_usd, t.money_per_month_usd) AS money_per_month_usd,
      DATE_TRUNC('month', NOW() AT TIME ZONE 'UTC')::DATE AS month
    FROM users u JOIN tiers t ON t.name = u.subscription_tier
    WHERE u.is_active AND u.id = CASE
        WHEN s.account_name IS NULL THEN who.id ELSE (SELECT n.id FROM users n WHERE n.username = s.account_name)
      END
    LIMIT 1
  ) a ON TRUE
  LEFT JOIN LATERAL (
    SELECT m.role FROM organization_members m WHERE a.id <> who.id AND m.org_id = a.id AND m.user_id = who.id LIMIT 1
  ) member ON TRUE
  -- A package that the account may see.
  LEFT JOIN LATERAL (
    SELECT p.id, p.name, p.owner_id, p.is_published FROM packages p
    WHERE p.id = COALESCE(
        s.package_id,
        (SELECT named.id FROM packages named WHERE named.name = s.package_name AND named.is_published),
        (
          SELECT sp.id FROM package_versions sv JOIN packages sp ON sp.id = sv.package_id
          WHERE sv.snapshot_id = s.snapshot_id AND sp.owner_id = a.id AND NOT sp.is_published
          ORDER BY sv.published_at DESC LIMIT 1
        )
      )
      AND ((p.visibility = 'public' AND p.is_published) OR p.owner_id = a.id)
    LIMIT 1
  ) p ON TRUE
  -- The version asked for, or the newest.
  LEFT JOIN LATERAL (
    SELECT pv.version, pv.snapshot_id, pv.suite_id, pv.suite_error
    FROM package_versions pv
    WHERE pv.package_id = p.id AND (s.package_version IS NULL OR pv.version = s.package_version)
      AND (s.snapshot_id IS NULL OR pv.snapshot_id = s.snapshot_id)
    ORDER BY pv.published_at DESC LIMIT 1
  ) v ON TRUE
  LEFT JOIN LATERAL (
    SELECT ps.suite_id FROM package_suites ps WHERE ps.package_id = p.id ORDER BY ps.id DESC LIMIT 1
  ) stored ON s.suite_id IS NULL AND v.suite_id IS NULL
  -- What a model wrote for these files before; without it the suite that was sent has no cases yet. By its primary key.
  LEFT JOIN LATERAL (
    SELECT g.suite_id, g.trials FROM generated_suites g WHERE g.snapshot_id = v.snapshot_id AND g.account_id = a.id
    LIMIT 1
  ) written ON s.awaits_cases
  CROSS JOIN LATERAL (
    SELECT COALESCE(written.suite_id, s.suite_id, v.suite_id, stored.suite_id) AS id,
      CASE WHEN s.suite_id IS NOT NULL THEN COALESCE(s.suite_source, 'request') WHEN v.suite_id IS NOT NULL THEN 'package' ELSE 'stored' END AS source
  ) suite
  CROSS JOIN LATERAL (
    SELECT COALESCE(written.trials, s.suite_trials, (SELECT su.trials FROM suites su WHERE su.id = suite.id))
      * CARDINALITY(s.models) AS total
  ) trials
  CROSS JOIN LATERAL (SELECT change_line(s.change, p.name, s.suite_name) AS name) line
  -- A change's event is its key. A caller's key that is known stays what it is.
  CROSS JOIN LATERAL (
    SELECT names.key, CASE WHEN names.key LIKE 'event:%' THEN a.id ELSE asker.id END AS caller_id
    FROM (SELECT CASE
      WHEN s.change IS NULL THEN COALESCE(
        s.key,
        'body:' || ENCODE(SHA256(CONVERT_TO(s.request_sha256 || v.snapshot_id || suite.id, 'UTF8')), 'hex')
      )
      WHEN EXISTS (SELECT FROM submissions e WHERE e.caller_id = asker.id AND e.key = s.key) THEN s.key
      ELSE event_key(line.name, s.change)
    END AS key) names
  ) own
  -- What an identical job came to, if each model still is what it was then. The key's index finds a row at most for
  -- each account that paid for one; without settings nothing is looked for.
  LEFT JOIN LATERAL (
    SELECT c.job_id, c.conclusion, c.results FROM cached_outcomes c
    WHERE s.use_cache AND s.cause = 'submit' AND NOT s.force
      AND c.key = outcome_key(s.outcome_settings, p.id, v.snapshot_id, suite.id)
      AND (c.account_id = a.id OR (c.is_shared AND is_public_test(p.id, v.snapshot_id, suite.source)))
      AND c.created_at > NOW() - MAKE_INTERVAL(days => s.outcome_days)
      AND NOT EXISTS (
        SELECT FROM UNNEST(c.deployments, c.versions) AS was (deployment, version)
        JOIN model_versions m ON m.deployment = was.deployment WHERE m.version <> was.version
      )
      AND EXISTS (SELECT FROM job_outcomes o WHERE o.job_id = c.job_id)
    ORDER BY c.created_at DESC LIMIT 1
  ) cached ON s.outcome_settings IS NOT NULL
), fresh AS (
  INSERT INTO submissions AS s (caller_id, key, request_sha256, job_id)
  SELECT r.caller_id, r.key, r.request_sha256, r.job_id FROM request r WHERE r.refusal IS NULL
  -- One order for all, so that two of these statements never wait for each other in a circle.
  ORDER BY r.caller_id, r.key
  ON CONFLICT (caller_id, key) DO UPDATE
    SET job_id = EXCLUDED.job_id, created_at = NOW()
    WHERE s.key LIKE 'body:%' AND (
      (SELECT r.force FROM request r WHERE r.job_id = EXCLUDED.job_id) OR s.created_at < NOW() - INTERVAL '10 seconds'
      -- A job that this snapshot does not see yet is not failed, so a race counts as equal.
      OR EXISTS (SELECT FROM test_jobs j WHERE j.id = s.job_id AND j.status = 'failed')
    )
  RETURNING job_id
), admitted AS MATERIALIZED (
  -- Who has an outcome already stands before nobody.
  SELECT r.*, COUNT(*) FILTER (WHERE r.cached_from IS NULL) OVER (
      ORDER BY r.start_bonus DESC, r.job_id ROWS UNBOUNDED PRECEDING
    ) - 1 AS before
  FROM request r JOIN fresh USING (job_id)
), second AS (
  -- The caller's own key, where an event is the first one.
  INSERT INTO submissions (caller_id, key, request_sha256, job_id)
  SELECT r.asker_id, r.second_key, r.request_sha256, r.job_id FROM admitted r WHERE r.second_key IS NOT NULL
  ORDER BY r.asker_id, r.second_key
  ON CONFLICT (caller_id, key) DO NOTHING
), head AS (
  -- What came before in this line is ended after the commit, or by a sweep.
  INSERT INTO new_heads (job_id, user_id, change_line)
  SELECT r.job_id, r.account_id, r.change_line FROM admitted r WHERE r.change ->> 'cause' IN ('head', 'own:head')
), charge AS (
  INSERT INTO user_test_usage AS u (user_id, month, test_runs_count)
  SELECT r.account_id, r.month, CASE WHEN r.cached_from IS NULL THEN 1 ELSE 0 END FROM admitted r ORDER BY r.account_id
  ON CONFLICT (user_id, month) DO UPDATE
    SET test_runs_count = u.test_runs_count + EXCLUDED.test_runs_count, updated_at = NOW()
    WHERE EXCLUDED.test_runs_count = 0 OR u.test_runs_count
      < COALESCE((SELECT r.run_limit FROM admitted r WHERE r.account_id = u.user_id LIMIT 1), 2147483647)
  RETURNING user_id, month, test_runs_count, cost_usd
), warned AS (
  -- A month's money is looked at whenever a call was paid for, by a trigger.
  INSERT INTO account_warnings (account_id, month, kind, level, used, most)
  SELECT r.account_id, r.month, 'runs', warning_level(charge.test_runs_count, r.run_limit), charge.test_runs_count,
    r.run_limit
  FROM admitted r JOIN charge ON charge.user_id = r.account_id
  WHERE r.cached_from IS NULL AND charge.test_runs_count * 2 >= r.run_limit
    AND warning_level(charge.test_runs_count, r.run_limit) > warning_level(charge.test_runs_count - 1, r.run_limit)
  ON CONFLICT DO NOTHING
), place AS MATERIALIZED (
  SELECT b.start_bonus, count_earlier(b.start_bonus) AS jobs
  FROM (SELECT DISTINCT r.start_bonus FROM admitted r) b
), body AS (
  INSERT INTO suites (id, body, trials)
  SELECT r.suite_id, r.suite_body, r.suite_trials FROM admitted r WHERE r.suite_body IS NOT NULL
  -- As if sent anew: the clean-up leaves it alone.
  ON CONFLICT (id) DO UPDATE SET created_at = NOW()
), job AS (
  INSERT INTO test_jobs (
    id, user_id, submitted_by, package_id, package_version, snapshot_id, suite_id, suite_source,
    models_requested, framework, plugins_requested, upload_results, verify_results, trials_total, start_key,
    submit_position, submit_wait_seconds, submit_runs_used, submit_run_limit, submit_tier, max_cost_usd,
    cause, use_cache, cached_from, status, conclusion, results, started_at, completed_at, tokens_used, cost_usd,
    suite_name, change, change_line, against, report, submit_money_level
  )
  SELECT r.job_id, r.account_id, r.asker_id, r.package_id, r.version, r.snapshot_id, r.suite_id, r.source,
    -- Agents' outcomes are never kept, so what answers for an identical job was no agent.
    r.models, CASE WHEN r.cached_from IS NULL THEN r.framework ELSE 'litellm' END, NULLIF(r.plugins, '{}'), r.upload, r.verify, r.total, NOW() - r.start_bonus,
    CASE WHEN r.cached_from IS NULL THEN COALESCE(place.jobs + r.before + 1, 0) ELSE 0 END,
    CASE WHEN r.cached_from IS NULL THEN COALESCE(CEIL(GREATEST(
      ($2::JSON -> 'others_seconds' ->> r.subscription_tier)::FLOAT8,
      ($2::JSON -> 'own_seconds' ->> r.account_id::TEXT)::FLOAT8
    ))::INT, 0) ELSE 0 END,
    charge.test_runs_count, r.run_limit, r.subscription_tier, r.max_cost_usd,
    r.cause, r.use_cache, r.cached_from, CASE WHEN r.cached_from IS NULL THEN 'queued' ELSE 'completed' END, r.conclusion,
    r.results, ended.at, ended.at, CASE WHEN r.cached_from IS NOT NULL THEN 0 END,
    CASE WHEN r.cached_from IS NOT NULL THEN 0 END, r.suite_name, r.change, r.change_line, r.against, r.report,
    warning_level(charge.cost_usd, r.money_per_month_usd)
  FROM admitted r
  CROSS JOIN LATERAL (SELECT CASE WHEN r.cached_from IS NOT NULL THEN NOW() END AS at) ended
  JOIN charge ON charge.user_id = r.account_id
  JOIN place USING (start_bonus)
  RETURNING id, user_id, submit_position, submit_wait_seconds, submit_runs_used, submit_money_level, cached_from
), entry AS (
  INSERT INTO usage_ledger (job_id, user_id, month, kind, runs, reason)
  SELECT job.id, charge.user_id, charge.month, CASE WHEN job.cached_from IS NULL THEN 'charge' ELSE 'cached' END,
    CASE WHEN job.cached_from IS NULL THEN 1 ELSE 0 END,
    CASE WHEN job.cached_from IS NULL THEN 'run accepted' ELSE 'answered by an identical run' END
  FROM job JOIN charge USING (user_id)
)
SELECT r.job_id AS sent_id, r.refusal, r.caller_id, r.key, r.name, r.version, r.suite_error, r.total AS trials,
  r.subscription_tier AS tier, r.run_limit, job.id AS job_id, job.submit_position, job.submit_wait_seconds,
  job.submit_runs_used, job.submit_money_level,
  CASE WHEN fresh.job_id IS NOT NULL AND job.id IS NULL THEN refuse('quota_exceeded') END AS refused
FROM request r LEFT JOIN fresh ON fresh.job_id = r.job_id LEFT JOIN job ON job.id = r.job_id;

-- name: read_submission
-- What an earlier submit under this key was answered.
-- $1 caller, $2 key
SELECT s.request_sha256, j.id AS job_id, j.submit_position, j.submit_wait_seconds, j.submit_runs_used,
  j.submit_run_limit AS run_limit, j.submit_tier AS tier, j.submit_money_level
FROM submissions s JOIN test_jobs j ON j.id = s.job_id
WHERE s.caller_id = $1 AND s.key = $2;

-- name: read_jobs
-- Jobs as their readers see them, with the counts of their finished trials while they run.
-- $1 job ids, $2 viewer or NULL for an administrator
SELECT j.id, j.fence, j.status, j.user_id, j.package_id, p.name AS package_name, j.package_version, j.models_requested,
  j.plugins_requested, j.framework, j.conclusion, j.results, j.error_code, j.error_message, j.trials_total,
  j.suite_source, j.attempt, j.created_at, j.started_at, j.completed_at, j.test_result_id, j.tokens_used,
  counts.passed, counts.failed, counts.errored, counts.finished, queue.position,
  (SELECT s.completed_at FROM test_jobs s WHERE s.id = j.cached_from) AS cached_at,
  j.change IS NOT NULL AND EXISTS (
    SELECT FROM reported_repositories r WHERE r.forge = j.change ->> 'forge' AND r.account_id = j.user_id
      AND r.repository_id = (j.change ->> 'repository_id')::BIGINT
  ) AS is_reported_here,
  -- By the index of lines, from the newest before it on.
  (SELECT e.conclusion FROM test_jobs e
    WHERE e.user_id = j.user_id AND e.change_line = j.change_line AND e.created_at < j.created_at
      AND e.conclusion IN ('passed', 'failed')
    ORDER BY e.created_at DESC LIMIT 1) AS previous,
  j.suite_name, j.change, j.superseded_by, j.unwanted
FROM test_jobs j
JOIN packages p ON p.id = j.package_id
LEFT JOIN LATERAL (
  SELECT COUNT(*)::INT AS finished, COUNT(*) FILTER (WHERE t.state = 'passed')::INT AS passed,
    COUNT(*) FILTER (WHERE t.state = 'failed')::INT AS failed,
    COUNT(*) FILTER (WHERE t.state = 'error')::INT AS errored
  FROM trials t WHERE t.job_id = j.id AND j.status = 'running'
) counts ON TRUE
-- Counted from the front by the index of start keys or, in a long queue, from its end; NULL where both are far.
LEFT JOIN LATERAL (
  SELECT (CASE WHEN earlier.jobs < 10000 THEN earlier.jobs + equal.jobs + 1 ELSE (
    SELECT CASE WHEN COUNT(*) <= 10000 THEN SUM(w.jobs) END
    FROM (SELECT a.jobs FROM waiting_accounts a LIMIT 10001) w
  ) - (
    SELECT CASE WHEN COUNT(*) < 10000 THEN COUNT(*) END FROM (
      SELECT FROM test_jobs o WHERE o.status = 'queued' AND o.start_key > j.start_key LIMIT 10000
    ) later
  ) - (
    SELECT COUNT(*) FROM test_jobs o WHERE o.status = 'queued' AND o.start_key = j.start_key AND o.id > j.id
  ) END)::INT AS position
  FROM (
    SELECT COUNT(*) AS jobs FROM (
      SELECT FROM test_jobs o WHERE o.status = 'queued' AND o.start_key < j.start_key LIMIT 10000
    ) bounded
  ) earlier, (
    SELECT COUNT(*) AS jobs FROM test_jobs o WHERE o.status = 'queued' AND o.start_key = j.start_key AND o.id < j.id
  ) equal
) queue ON j.status = 'queued'
WHERE j.id = ANY($1::UUID[]) AND may_see_job($2, j.user_id, j.change);

-- name: read_request
-- What a job was asked to do, for whoever may run it again. By primary keys, and the index of a package's newest suite.
-- $1 job_id, $2 viewer
SELECT j.id, j.user_id AS account_id, (SELECT a.username FROM users a WHERE a.id = j.user_id) AS account_name, j.package_id,
  j.package_version, j.snapshot_id, j.models_requested, j.plugins_requested, j.framework, j.upload_results,
  j.verify_results, j.max_cost_usd, j.use_cache, j.suite_name, j.against, j.suite_source, s.id AS suite_id, s.body AS suite_body, s.trials AS suite_trials,
  COALESCE(j.suite_source IN ('package', 'stored') AND j.suite_id = COALESCE(v.suite_id, stored.suite_id), FALSE) AS suite_is_current
FROM test_jobs j
JOIN suites s ON s.id = j.suite_id
LEFT JOIN package_versions v ON v.package_id = j.package_id AND v.version = j.package_version
LEFT JOIN LATERAL (
  SELECT ps.suite_id FROM package_suites ps WHERE ps.package_id = j.package_id ORDER BY ps.id DESC LIMIT 1
) stored ON v.suite_id IS NULL
WHERE j.id = $1 AND may_see_job($2, j.user_id, j.change) AND $2 IS NOT NULL;

-- name: list_jobs
-- An account's jobs, newest first, from a place in the list on.
-- $1 account, $2 status or NULL, $3 package name or NULL, $4 and $5 created_at and id of the last one seen, or NULL,
-- $6 how many
SELECT j.id, j.status, j.package_id, p.name AS package_name, j.package_version, j.models_requested, j.conclusion,
  j.results, j.error_code, j.error_message, j.created_at, j.started_at, j.completed_at,
  j.cached_from IS NOT NULL AS is_cached
FROM test_jobs j JOIN packages p ON p.id = j.package_id
WHERE j.user_id = $1 AND ($2::TEXT IS NULL OR j.status = $2) AND ($3::TEXT IS NULL OR p.name = $3)
  AND ($4::TIMESTAMPTZ IS NULL OR (j.created_at, j.id) < ($4, $5::UUID))
ORDER BY j.created_at DESC, j.id DESC LIMIT $6;

-- name: read_outcome
-- A finished job's outcome, as it was stored; `cached_at` says when another job ran it, if one did.
-- $1 job_id, $2 viewer or NULL for an administrator
SELECT j.status, j.error_message, o.outcome, source.completed_at AS cached_at
FROM test_jobs j LEFT JOIN test_jobs source ON source.id = j.cached_from
LEFT JOIN job_outcomes o ON o.job_id = COALESCE(source.id, j.id)
WHERE j.id = $1 AND may_see_job($2, j.user_id, j.change);

-- name: claim_job
-- queued -> running, for the next job in the order of starting; the schema says how.
-- $1 owner, $2 lease seconds, $3 job seconds
SELECT job_id AS id, job_fence AS fence, job_attempt AS attempt, seconds_left FROM claim_next_job($1, $2, $3);

-- name: read_claimed_job
-- What running a job needs to know.
-- $1 job_id
SELECT j.package_version, j.snapshot_id, j.models_requested, j.plugins_requested, j.framework, j.trials_total, j.user_id, j.use_cache,
  is_public_test(j.package_id, j.snapshot_id, j.suite_source) AS is_public,
  EXTRACT(EPOCH FROM CLOCK_TIMESTAMP() - j.started_at)::FLOAT8 AS seconds_run,
  COALESCE(j.cost_usd, 0) AS cost_usd,
  -- The caps of the tier that it was submitted under: a lapsed subscription lets waiting jobs finish.
  LEAST(j.max_cost_usd, COALESCE(a.money_per_job_usd, t.money_per_job_usd)) AS money_cap_usd, t.answer_tokens,
  p.name AS package_name, p.format, p.subtype, s.body AS suite_body, j.suite_source, j.suite_name, j.change, j.against
FROM test_jobs j
JOIN users a ON a.id = j.user_id
JOIN tiers t ON t.name = j.submit_tier
JOIN packages p ON p.id = j.package_id
JOIN suites s ON s.id = j.suite_id
WHERE j.id = $1;

-- name: extend_lease
-- Keeps the lease, if it is still ours. No row: stop, another worker has the job or nobody needs it.
-- $1 job_id, $2 fence, $3 lease seconds
UPDATE test_jobs SET lease_until = CLOCK_TIMESTAMP() + MAKE_INTERVAL(secs => $3)
WHERE id = $1 AND fence = $2 AND status = 'running'
RETURNING id;

-- name: release_job
-- running -> queued by its holder, who stops: the attempt is given back, finished trials stay.
-- $1 job_id, $2 fence
UPDATE test_jobs SET status = 'queued', attempt = attempt - 1, lease_owner = NULL, lease_until = NULL,
  fence = NEXTVAL('lease_fence')
WHERE id = $1 AND fence = $2 AND status = 'running'
RETURNING id;

-- name: finish_job
-- running -> completed or failed, by the lease's holder alone: outcome, usage, refund and uploaded result with it.
-- $1 job_id, $2 fence, $3 status, $4 conclusion, $5 summary, $6 error_code, $7 error_message, $8 tokens, $9 cost,
-- $10 outcome, $11 refund reason or NULL, $12 id for an uploaded result,
-- $13 JSON of domain.jobs.KeptOutcome if the outcome may answer for identical jobs, or NULL,
-- $14 a JSON list of evals.baselines.RowHistory: what later comparisons may count, $15 the framework that ran, or NULL
WITH done AS (
  UPDATE test_jobs SET status = $3::VARCHAR, conclusion = $4, results = $5, error_code = $6, error_message = $7,
    tokens_used = $8, cost_usd = GREATEST(cost_usd, $9), completed_at = CLOCK_TIMESTAMP(), lease_until = NULL,
    framework = COALESCE($15, framework),
    test_result_id = CASE WHEN upload_results AND $3::VARCHAR = 'completed' THEN $12::UUID END
  WHERE id = $1 AND fence = $2 AND status = 'running'
  RETURNING id, user_id, package_id, package_version, models_requested, verify_results, test_result_id,
    snapshot_id, suite_id, suite_source, suite_name, change
), past AS (
  INSERT INTO history_jobs (job_id, user_id, package_name, suite_name, repository, branch, version)
  SELECT d.id, d.user_id, p.name, d.suite_name, (d.change ->> 'forge') || ':' || (d.change ->> 'repository_id'),
    CASE WHEN d.change -> 'pull_request' IS NULL THEN d.change ->> 'ref' END,
    CASE WHEN p.is_published THEN d.package_version END
  FROM done d JOIN packages p ON p.id = d.package_id
  WHERE $3::VARCHAR = 'completed' AND JSONB_ARRAY_LENGTH($14::JSONB) > 0
  RETURNING job_id, user_id, package_name, repository || ' ' || branch AS branch_key, version
), past_rows AS (
  INSERT INTO history_rows (
    job_id, case_index, model, title, case_digest, passed, failed, user_id, package_name, branch_key, version
  )
  SELECT past.job_id, r.case_index, r.model, r.title, r.case_digest, r.passed, r.failed, past.user_id,
    past.package_name, past.branch_key, past.version
  FROM past, JSON_TO_RECORDSET($14::JSON)
    AS r (case_index INT, model TEXT, title TEXT, case_digest TEXT, passed INT, failed INT)
), compared AS (
  -- What nobody goes on with any more.
  DELETE FROM job_baselines b USING done WHERE b.job_id = done.id
), kept AS (
  INSERT INTO cached_outcomes AS c (
    key, account_id, is_shared, job_id, conclusion, results, deployments, versions, created_at
  )
  SELECT outcome_key(k.settings, d.package_id, d.snapshot_id, d.suite_id), d.user_id,
    is_public_test(d.package_id, d.snapshot_id, d.suite_source), d.id, $4, k.results, k.deployments, k.versions,
    k.asked_at
  FROM done d, JSONB_TO_RECORD($13::JSONB)
    AS k (settings TEXT, results TEXT, deployments TEXT[], versions TEXT[], asked_at TIMESTAMPTZ)
  WHERE $13::JSONB IS NOT NULL AND $3::VARCHAR = 'completed'
  ON CONFLICT (key, account_id) DO UPDATE SET is_shared = EXCLUDED.is_shared, job_id = EXCLUDED.job_id,
    conclusion = EXCLUDED.conclusion, results = EXCLUDED.results, deployments = EXCLUDED.deployments,
    versions = EXCLUDED.versions, created_at = EXCLUDED.created_at
), outcome AS (
  INSERT INTO job_outcomes (job_id, outcome) SELECT id, $10 FROM done WHERE $10::TEXT IS NOT NULL
), uploaded AS (
  INSERT INTO package_test_results (
    id, package_id, package_version, job_id, uploaded_by, models, conclusion, summary, is_verified
  )
  SELECT test_result_id, package_id, package_version, id, user_id, models_requested, $4, $5, verify_results
  FROM done WHERE test_result_id IS NOT NULL
), refund AS (
  INSERT INTO usage_ledger (job_id, user_id, month, kind, runs, reason)
  SELECT l.job_id, l.user_id, l.month, 'refund', -1, $11
  FROM done JOIN usage_ledger l ON l.job_id = done.id AND l.kind = 'charge'
  WHERE $11::TEXT IS NOT NULL
  RETURNING job_id
), spent AS (
  -- The cost is added up by a trigger.
  UPDATE user_test_usage u SET tokens_used = u.tokens_used + $8, updated_at = NOW(),
    test_runs_count = u.test_runs_count - (SELECT COUNT(*) FROM refund)::INT
  FROM done JOIN usage_ledger l ON l.job_id = done.id AND l.kind IN ('charge', 'cached')
  WHERE u.user_id = l.user_id AND u.month = l.month
)
SELECT id, test_result_id FROM done;

-- name: cancel_job
-- queued -> failed at once, with the run given back; a running job is marked, and its worker ends it.
-- $1 job_id, $2 viewer or NULL for an administrator, $3 error_code, $4 error_message
WITH ended AS (
  UPDATE test_jobs SET status = 'failed', error_code = $3, error_message = $4, cancel_requested_at = NOW(),
    completed_at = CLOCK_TIMESTAMP(), fence = NEXTVAL('lease_fence')
  WHERE id = $1 AND may_see_job($2, user_id, change) AND status = 'queued'
  RETURNING id
), asked AS (
  UPDATE test_jobs SET cancel_requested_at = COALESCE(cancel_requested_at, NOW())
  WHERE id = $1 AND may_see_job($2, user_id, change) AND status = 'running'
  RETURNING id
), refund AS (
  INSERT INTO usage_ledger (job_id, user_id, month, kind, runs, reason)
  SELECT l.job_id, l.user_id, l.month, 'refund', -1, $3
  FROM ended JOIN usage_ledger l ON l.job_id = ended.id AND l.kind = 'charge'
  RETURNING user_id, month
), spent AS (
  UPDATE user_test_usage u SET test_runs_count = u.test_runs_count - 1, updated_at = NOW()
  FROM refund r WHERE u.user_id = r.user_id AND u.month = r.month
)
SELECT id FROM ended UNION ALL SELECT id FROM asked;

-- name: supersede_jobs
-- What waits or runs for an older head than its line's newest is over: queued -> failed, and a running one is marked,
-- and its worker ends it. The run is given back unless a trial had a verdict. Only a job whose cause is `head` is newer; of
-- the service's own jobs (with a `report`) only another of its own, as a token may name any commit.
-- New heads by their primary key; whoever sees to one now is passed by, and has the line. A line's jobs by
-- test_jobs_lines, locked in one order, so that two of these never wait for each other in a circle.
-- $1 new heads at most, $2 error_message
WITH heads AS (
  DELETE FROM new_heads WHERE job_id IN (SELECT h.job_id FROM new_heads h LIMIT $1 FOR UPDATE SKIP LOCKED)
  RETURNING user_id, change_line
), lines AS (
  SELECT DISTINCT user_id, change_line FROM heads
), older AS MATERIALIZED (
  SELECT j.id, newest.id AS newest_id,
    EXISTS (SELECT FROM trials t WHERE t.job_id = j.id AND t.state IN ('passed', 'failed')) AS has_verdict
  FROM lines
  CROSS JOIN (VALUES (TRUE), (FALSE)) AS service (is_own)
  CROSS JOIN LATERAL (
    SELECT n.id, n.created_at, n.change ->> 'head_sha' AS head_sha FROM test_jobs n
    WHERE n.user_id = lines.user_id AND n.change_line = lines.change_line
      AND n.change ->> 'cause' IN ('head', 'own:head') AND (n.report IS NOT NULL OR NOT service.is_own)
    ORDER BY n.created_at DESC, n.id DESC LIMIT 1
  ) newest
  JOIN test_jobs j ON j.user_id = lines.user_id AND j.change_line = lines.change_line
  WHERE j.status IN ('queued', 'running') AND j.superseded_by IS NULL AND (j.report IS NOT NULL) = service.is_own
    AND (j.created_at, j.id) < (newest.created_at, newest.id) AND j.change ->> 'head_sha' <> newest.head_sha
  ORDER BY j.id
  FOR NO KEY UPDATE OF j
), ended AS (
  UPDATE test_jobs j SET superseded_by = older.newest_id, cancel_requested_at = COALESCE(j.cancel_requested_at, NOW()),
    status = CASE j.status WHEN 'queued' THEN 'failed' ELSE j.status END,
    error_code = CASE j.status WHEN 'queued' THEN 'superseded' END,
    error_message = CASE j.status WHEN 'queued' THEN $2 END,
    completed_at = CASE j.status WHEN 'queued' THEN CLOCK_TIMESTAMP() END,
    fence = CASE j.status WHEN 'queued' THEN NEXTVAL('lease_fence') ELSE j.fence END
  FROM older WHERE j.id = older.id AND j.status IN ('queued', 'running')
  RETURNING j.id, j.status, older.has_verdict
), refund AS (
  INSERT INTO usage_ledger (job_id, user_id, month, kind, runs, reason)
  SELECT l.job_id, l.user_id, l.month, 'refund', -1, 'superseded'
  FROM ended JOIN usage_ledger l ON l.job_id = ended.id AND l.kind = 'charge'
  WHERE ended.status = 'failed' AND NOT ended.has_verdict
  RETURNING user_id, month
), spent AS (
  UPDATE user_test_usage u SET test_runs_count = u.test_runs_count - r.runs, updated_at = NOW()
  FROM (SELECT user_id, month, COUNT(*)::INT AS runs FROM refund GROUP BY user_id, month) r
  WHERE u.user_id = r.user_id AND u.month = r.month
)
SELECT id FROM ended;

-- name: let_go_jobs
-- What waits or runs for a change is over as for an older head, though no newer one came: queued -> failed, and a running
-- one is marked, and its worker ends it. The run is given back unless a trial had a verdict.
-- By the account's heads and leases; locked in one order, as supersede_jobs does.
-- $1 account, $2 forge, $3 repository_id, $4 pull request of which all goes that is for another branch than $5, or NULL:
-- then all goes of the ref $6 at its head $7; $8 why, a sentence, $9 error_message of those that are over
WITH gone AS MATERIALIZED (
  SELECT j.id, EXISTS (SELECT FROM trials t WHERE t.job_id = j.id AND t.state IN ('passed', 'failed')) AS has_verdict
  FROM test_jobs j
  WHERE j.user_id = $1 AND j.status IN ('queued', 'running') AND j.superseded_by IS NULL AND j.unwanted IS NULL
    AND j.change ->> 'forge' = $2 AND (j.change ->> 'repository_id')::BIGINT = $3
    AND CASE WHEN $4::INT IS NULL
      THEN j.change -> 'pull_request' IS NULL AND j.change ->> 'ref' = $6::TEXT AND j.change ->> 'head_sha' = $7::TEXT
      ELSE (j.change ->> 'pull_request')::INT = $4 AND j.change ->> 'base_ref' <> $5::TEXT END
  ORDER BY j.id LIMIT 1000
  FOR NO KEY UPDATE OF j
), ended AS (
  UPDATE test_jobs j SET unwanted = $8, cancel_requested_at = COALESCE(j.cancel_requested_at, NOW()),
    status = CASE j.status WHEN 'queued' THEN 'failed' ELSE j.status END,
    error_code = CASE j.status WHEN 'queued' THEN 'superseded' END,
    error_message = CASE j.status WHEN 'queued' THEN $9 END,
    completed_at = CASE j.status WHEN 'queued' THEN CLOCK_TIMESTAMP() END,
    fence = CASE j.status WHEN 'queued' THEN NEXTVAL('lease_fence') ELSE j.fence END
  FROM gone WHERE j.id = gone.id AND j.status IN ('queued', 'running')
  RETURNING j.id, j.status, gone.has_verdict
), refund AS (
  INSERT INTO usage_ledger (job_id, user_id, month, kind, runs, reason)
  SELECT l.job_id, l.user_id, l.month, 'refund', -1, 'superseded'
  FROM ended JOIN usage_ledger l ON l.job_id = ended.id AND l.kind = 'charge'
  WHERE ended.status = 'failed' AND NOT ended.has_verdict
  RETURNING user_id, month
), spent AS (
  UPDATE user_test_usage u SET test_runs_count = u.test_runs_count - r.runs, updated_at = NOW()
  FROM (SELECT user_id, month, COUNT(*)::INT AS runs FROM refund GROUP BY user_id, month) r
  WHERE u.user_id = r.user_id AND u.month = r.month
)
SELECT id FROM ended;

-- name: is_superseded
-- Whether it was the change itself that asked for the job's end: a newer head, or that it went.
-- $1 job_id
SELECT superseded_by IS NOT NULL OR unwanted IS NOT NULL FROM test_jobs WHERE id = $1;

-- name: read_unwanted
-- Why nobody waits for the job any more though no newer head came; NULL: somebody does, or a newer head came.
-- $1 job_id
SELECT unwanted FROM test_jobs WHERE id = $1 AND superseded_by IS NULL;

-- name: list_cancelled
-- Which of these running jobs somebody wants to end.
-- $1 job ids
SELECT id FROM test_jobs WHERE id = ANY($1::UUID[]) AND status = 'running' AND cancel_requested_at IS NOT NULL;

-- name: requeue_expired
-- running -> queued for leases that ran out, while attempts and time are left. The fence moves on, so that the
-- old holder can write nothing more.
-- $1 most attempts, $2 how many at a time
UPDATE test_jobs SET status = 'queued', lease_owner = NULL, lease_until = NULL, fence = NEXTVAL('lease_fence')
WHERE id IN (
  SELECT id FROM test_jobs
  WHERE status = 'running' AND lease_until < CLOCK_TIMESTAMP() AND attempt < $1 AND deadline_at > CLOCK_TIMESTAMP()
    AND cancel_requested_at IS NULL
  ORDER BY lease_until LIMIT $2
  FOR UPDATE SKIP LOCKED
)
RETURNING id;

-- name: fail_expired
-- running -> failed for leases that ran out with no attempt or time left, or when nobody wants them any more;
-- the run is refunded. One that a newer head superseded, or whose change went, says so, and is refunded if no trial had a
-- verdict.
-- $1 most attempts, $2 how many at a time, $3 error_code, $4 error_message, $5 error_message of superseded ones
WITH done AS (
  UPDATE test_jobs SET status = 'failed', completed_at = CLOCK_TIMESTAMP(), lease_owner = NULL, lease_until = NULL,
    fence = NEXTVAL('lease_fence'),
    error_code = CASE WHEN superseded_by IS NULL AND unwanted IS NULL THEN $3 ELSE 'superseded' END,
    error_message = CASE WHEN superseded_by IS NOT NULL THEN $5 ELSE COALESCE(unwanted, $4) END
  WHERE id IN (
    SELECT id FROM test_jobs
    WHERE status = 'running' AND lease_until < CLOCK_TIMESTAMP()
      AND (attempt >= $1 OR deadline_at <= CLOCK_TIMESTAMP() OR cancel_requested_at IS NOT NULL)
    ORDER BY lease_until LIMIT $2
    FOR UPDATE SKIP LOCKED
  )
  RETURNING id, error_code
), refund AS (
  INSERT INTO usage_ledger (job_id, user_id, month, kind, runs, reason)
  SELECT l.job_id, l.user_id, l.month, 'refund', -1, done.error_code
  FROM done JOIN usage_ledger l ON l.job_id = done.id AND l.kind = 'charge'
  WHERE done.error_code <> 'superseded'
    OR NOT EXISTS (SELECT FROM trials t WHERE t.job_id = done.id AND t.state IN ('passed', 'failed'))
  RETURNING user_id, month
), spent AS (
  UPDATE user_test_usage u SET test_runs_count = u.test_runs_count - r.runs, updated_at = NOW()
  FROM (SELECT user_id, month, COUNT(*)::INT AS runs FROM refund GROUP BY user_id, month) r
  WHERE u.user_id = r.user_id AND u.month = r.month
)
SELECT id FROM done;

-- name: count_waiting
-- How many jobs wait, counted up to a bound: what a sweep has wake-ups for.
-- $1 bound
SELECT COUNT(*)::INT FROM (
  SELECT FROM test_jobs WHERE status = 'queued' AND next_run_at <= NOW() LIMIT $1
) bounded;
