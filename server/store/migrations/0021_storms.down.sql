ALTER TABLE change_heads DROP COLUMN shown_at, DROP COLUMN base_sha;
ALTER TABLE deliveries DROP COLUMN holder;
