-- Which folder's package has the default suite, where a repository has several packages of one name.

-- name: read_suite_folders
-- A repository's, by the primary key.
-- $1 account, $2 forge, $3 repository_id
SELECT package, folder FROM suite_folders WHERE account_id = $1 AND forge = $2 AND repository_id = $3;

-- name: keep_suite_folders
-- Those that are not known yet, or, with $6, all of them as they are now.
-- $1 account, $2 forge, $3 repository_id, $4 packages, $5 the folder of each, $6 whether known ones are replaced
INSERT INTO suite_folders AS s (account_id, forge, repository_id, package, folder)
SELECT $1, $2, $3, n.package, n.folder FROM UNNEST($4::TEXT[], $5::TEXT[]) AS n (package, folder)
ORDER BY n.package
ON CONFLICT (account_id, forge, repository_id, package) DO UPDATE SET folder = EXCLUDED.folder
WHERE $6::BOOLEAN AND s.folder <> EXCLUDED.folder;
