-- Organizations that sign up, hold keys and pay. A tenant owns one namespace, whose id carries the tenant's UUID.

CREATE TABLE tenants (
    id             uuid PRIMARY KEY,
    name           text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    -- The namespace's name: a DNS label, so that it can be mapped to a Kubernetes namespace.
    namespace      text NOT NULL UNIQUE CHECK (namespace ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    billing_email  text NOT NULL,
    time_zone      text NOT NULL DEFAULT 'UTC',
    -- Set where usage was generated for demonstration; pages say so.
    is_demo        boolean NOT NULL DEFAULT false,
    created_at     timestamptz NOT NULL
);

CREATE TABLE memberships (
    tenant_id   uuid NOT NULL REFERENCES tenants (id),
    user_id     uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role        text NOT NULL CHECK (role IN ('owner', 'developer', 'viewer')),
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX memberships_user_id_idx ON memberships (user_id);

CREATE TABLE applications (
    tenant_id    uuid NOT NULL REFERENCES tenants (id),
    id           uuid NOT NULL,
    name         text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    description  text NOT NULL DEFAULT '' CHECK (char_length(description) <= 500),
    created_at   timestamptz NOT NULL,
    archived_at  timestamptz,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX applications_name_key ON applications (tenant_id, lower(name)) WHERE archived_at IS NULL;

-- Keys are never stored: `digest` is the SHA-256 of the text that was shown once, `hint` its last four characters.
CREATE TABLE api_keys (
    tenant_id       uuid NOT NULL,
    id              uuid NOT NULL,
    application_id  uuid NOT NULL,
    name            text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    mode            text NOT NULL CHECK (mode IN ('live', 'test')),
    -- `try_it` keys are minted by the API reference for a signed-in developer and live for 15 minutes.
    purpose         text NOT NULL DEFAULT 'application' CHECK (purpose IN ('application', 'try_it')),
    digest          bytea NOT NULL CHECK (octet_length(digest) = 32),
    hint            text NOT NULL,
    created_by      uuid REFERENCES users (id) ON DELETE SET NULL,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz,
    revoked_at      timestamptz,
    -- The key that this one replaces, if it came of a rotation.
    replaces        uuid,
    last_used_at    timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, application_id) REFERENCES applications (tenant_id, id)
);
CREATE UNIQUE INDEX api_keys_digest_key ON api_keys (digest);
CREATE INDEX api_keys_application_idx ON api_keys (tenant_id, application_id, created_at DESC);
CREATE INDEX api_keys_expires_at_idx ON api_keys (expires_at) WHERE expires_at IS NOT NULL AND revoked_at IS NULL;
