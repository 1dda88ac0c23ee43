-- People are invited to an organization by their address, and become members when they accept.

CREATE TABLE invitations (
    tenant_id   uuid NOT NULL REFERENCES tenants (id),
    id          uuid NOT NULL,
    email       text NOT NULL CHECK (char_length(email) BETWEEN 3 AND 254),
    role        text NOT NULL CHECK (role IN ('owner', 'developer', 'viewer')),
    -- Only the SHA-256 of the link's token is stored.
    digest      bytea NOT NULL CHECK (octet_length(digest) = 32),
    invited_by  uuid REFERENCES users (id) ON DELETE SET NULL,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    ended_at    timestamptz,
    outcome     text CHECK (outcome IN ('accepted', 'declined', 'revoked')),
    PRIMARY KEY (tenant_id, id),
    CHECK ((ended_at IS NULL) = (outcome IS NULL))
);
CREATE UNIQUE INDEX invitations_digest_key ON invitations (digest);
-- An address has one open invitation to an organization at a time.
CREATE UNIQUE INDEX invitations_open_key ON invitations (tenant_id, lower(email)) WHERE ended_at IS NULL;
-- A person's invitations, whatever the organization.
CREATE INDEX invitations_of_person_idx ON invitations (lower(email)) WHERE ended_at IS NULL;
