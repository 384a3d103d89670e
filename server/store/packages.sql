-- Packages, their versions and files, and the suites that are stored for them.

-- name: store_snapshot
-- Keeps a package's files once, whoever sends them. Sending them again keeps the clean-up away, and fills the row of
-- files that were removed.
-- $1 snapshot_id, $2 archive, $3 archive_sha256, $4 file_count
INSERT INTO snapshots AS s (id, archive, archive_sha256, file_count) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET created_at = NOW(),
  archive = CASE WHEN s.archive = '' THEN EXCLUDED.archive ELSE s.archive END,
  archive_sha256 = CASE WHEN s.archive = '' THEN EXCLUDED.archive_sha256 ELSE s.archive_sha256 END;

-- name: store_suite
-- Keeps a parsed suite once. Sending it again keeps the clean-up away.
-- $1 suite_id, $2 body, $3 trials
INSERT INTO suites (id, body, trials) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET created_at = NOW();

-- name: publish_package
-- The published package of this name, made or updated. No row: the name belongs to another account.
-- $1 owner, $2 name, $3 description, $4 format, $5 subtype, $6 visibility
INSERT INTO packages AS p (owner_id, name, description, format, subtype, visibility, is_published)
VALUES ($1, $2, $3, $4, $5, $6, TRUE)
ON CONFLICT (name) WHERE is_published DO UPDATE
  SET description = EXCLUDED.description, format = EXCLUDED.format, subtype = EXCLUDED.subtype,
    visibility = EXCLUDED.visibility, updated_at = NOW()
  WHERE p.owner_id = EXCLUDED.owner_id
RETURNING id;

-- name: keep_snapshot_package
-- The account's private package that stands for its uploaded working folder.
-- $1 owner, $2 name, $3 description, $4 format, $5 subtype
INSERT INTO packages AS p (owner_id, name, description, format, subtype, visibility, is_published)
VALUES ($1, $2, $3, $4, $5, 'private', FALSE)
ON CONFLICT (owner_id, name) WHERE NOT is_published DO UPDATE
  SET description = EXCLUDED.description, format = EXCLUDED.format, subtype = EXCLUDED.subtype, updated_at = NOW()
RETURNING id;

-- name: add_version
-- One version; no row when it exists.
-- $1 package_id, $2 version, $3 snapshot_id, $4 manifest, $5 suite_id, $6 suite_path, $7 suite_error, $8 account
INSERT INTO package_versions (
  package_id, version, snapshot_id, manifest, suite_id, suite_path, suite_error, published_by
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (package_id, version) DO NOTHING
RETURNING id;

-- name: renew_upload
-- A folder that was sent again is the newest, and is kept as long as one that was sent for the first time.
-- $1 package_id, $2 version
UPDATE package_versions SET published_at = CLOCK_TIMESTAMP() WHERE package_id = $1 AND version = $2;

-- name: read_package
-- A package that the account may see, by id or published name (its own snapshots by id only).
-- $1 id or NULL, $2 name or NULL, $3 viewer or NULL for a visitor
SELECT p.id, p.owner_id, a.username AS owner, p.name, p.description, p.format, p.subtype, p.visibility,
  p.is_published, p.created_at, p.updated_at
FROM packages p JOIN users a ON a.id = p.owner_id
WHERE (p.id = $1 OR (p.name = $2 AND p.is_published))
  AND ((p.visibility = 'public' AND p.is_published) OR sees_account($3, p.owner_id));

-- name: list_versions
-- A package's versions, newest first.
-- $1 package_id
SELECT v.version, v.snapshot_id, s.archive_sha256, OCTET_LENGTH(s.archive) AS file_size, v.suite_id, v.suite_path,
  v.suite_error, v.published_at
FROM package_versions v JOIN snapshots s ON s.id = v.snapshot_id
WHERE v.package_id = $1 ORDER BY v.published_at DESC LIMIT 100;

-- name: read_archive
-- A snapshot's bytes, for a worker.
-- $1 snapshot_id
SELECT archive FROM snapshots WHERE id = $1;

-- name: read_version_archive
-- A version's bytes, for a reader who may see the package.
-- $1 id or NULL, $2 name or NULL, $3 version, $4 viewer or NULL
SELECT s.archive, s.archive_sha256
FROM packages p
JOIN package_versions v ON v.package_id = p.id AND v.version = $3
JOIN snapshots s ON s.id = v.snapshot_id
WHERE (p.id = $1 OR (p.name = $2 AND p.is_published))
  AND ((p.visibility = 'public' AND p.is_published) OR sees_account($4, p.owner_id));

-- name: store_package_suite
-- Makes a suite the one that is stored for a package.
-- $1 package_id, $2 suite_id, $3 account
INSERT INTO package_suites (package_id, suite_id, stored_by) VALUES ($1, $2, $3)
RETURNING created_at;

-- name: list_results
-- Results that were uploaded for a package, newest first.
-- $1 package_id, $2 how many, $3 from which
SELECT r.id, r.package_version, r.job_id, r.models, r.conclusion, r.summary, r.is_verified, r.created_at,
  a.username AS uploaded_by, (COUNT(*) OVER ())::INT AS total
FROM package_test_results r JOIN users a ON a.id = r.uploaded_by
WHERE r.package_id = $1 ORDER BY r.created_at DESC LIMIT $2 OFFSET $3;
