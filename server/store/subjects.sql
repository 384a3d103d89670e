-- Subjects: what a submit would run, without submitting it.

-- name: read_subject
-- Version, files and suite, as submit_jobs finds them. No row: there is no such thing that the account may see.
-- By primary keys, packages_published_name, package_versions_snapshot and package_versions_latest.
-- $1 account, $2 package_id or NULL, $3 published name or NULL, $4 version or NULL, $5 snapshot_id or NULL
SELECT p.id AS package_id, p.name, p.format, p.subtype, v.version, v.snapshot_id, v.suite_error, sn.archive,
  CASE WHEN v.suite_id IS NOT NULL THEN 'package' ELSE 'stored' END AS suite_source, s.body AS suite_body
FROM packages p
JOIN LATERAL (
  SELECT pv.version, pv.snapshot_id, pv.suite_id, pv.suite_error
  FROM package_versions pv
  WHERE pv.package_id = p.id AND ($4::TEXT IS NULL OR pv.version = $4) AND ($5::TEXT IS NULL OR pv.snapshot_id = $5)
  ORDER BY pv.published_at DESC LIMIT 1
) v ON TRUE
LEFT JOIN LATERAL (
  SELECT ps.suite_id FROM package_suites ps WHERE ps.package_id = p.id ORDER BY ps.id DESC LIMIT 1
) stored ON v.suite_id IS NULL
LEFT JOIN suites s ON s.id = COALESCE(v.suite_id, stored.suite_id)
JOIN snapshots sn ON sn.id = v.snapshot_id
WHERE p.id = COALESCE(
    $2::UUID,
    (SELECT named.id FROM packages named WHERE named.name = $3 AND named.is_published),
    (
      SELECT sp.id FROM package_versions sv JOIN packages sp ON sp.id = sv.package_id
      WHERE sv.snapshot_id = $5 AND sp.owner_id = $1 AND NOT sp.is_published
      ORDER BY sv.published_at DESC LIMIT 1
    )
  )
  AND ((p.visibility = 'public' AND p.is_published) OR p.owner_id = $1::UUID);
