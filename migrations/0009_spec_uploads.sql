-- Documents that an operator has uploaded and not yet confirmed: the preview page shows what an import would change before it happens.
CREATE TABLE spec_uploads (
    id          uuid PRIMARY KEY,
    user_id     uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    source      bytea NOT NULL,
    source_url  text,
    expires_at  timestamptz NOT NULL
);
CREATE INDEX spec_uploads_user_id_idx ON spec_uploads (user_id);
CREATE INDEX spec_uploads_expires_at_idx ON spec_uploads (expires_at);
