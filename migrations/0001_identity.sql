-- People, their sessions, and what they did.

CREATE TABLE users (
    id             uuid PRIMARY KEY,
    email          text NOT NULL CHECK (char_length(email) BETWEEN 3 AND 254),
    name           text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    password_hash  text NOT NULL,
    -- An operator is of the platform team: it manages the catalog and sees every tenant.
    is_operator    boolean NOT NULL DEFAULT false,
    verified_at    timestamptz,
    created_at     timestamptz NOT NULL
);
CREATE UNIQUE INDEX users_email_key ON users (lower(email));

-- Links in mails: verification and password reset. Only the SHA-256 of the token is stored.
CREATE TABLE email_tokens (
    digest      bytea PRIMARY KEY,
    user_id     uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    purpose     text NOT NULL CHECK (purpose IN ('verify_email', 'reset_password')),
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz
);

CREATE TABLE sessions (
    digest        bytea PRIMARY KEY,
    user_id       uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- The tenant whose pages the user looks at.
    tenant_id     uuid,
    csrf_secret   bytea NOT NULL,
    flash         jsonb,
    created_at    timestamptz NOT NULL,
    last_seen_at  timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    user_agent    text,
    ip            text
);
CREATE INDEX sessions_user_id_idx ON sessions (user_id);
CREATE INDEX sessions_expires_at_idx ON sessions (expires_at);

-- Counters of fixed windows for sign-in, sign-up and mails, by account and by address.
CREATE TABLE throttles (
    key         text NOT NULL,
    window_at   timestamptz NOT NULL,
    hits        integer NOT NULL,
    PRIMARY KEY (key, window_at)
);

-- Tokens for the REST API. A token acts as its user, inside one tenant if it names one.
CREATE TABLE api_tokens (
    id            uuid PRIMARY KEY,
    user_id       uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    tenant_id     uuid,
    name          text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    digest        bytea NOT NULL UNIQUE,
    hint          text NOT NULL,
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz,
    revoked_at    timestamptz,
    last_used_at  timestamptz
);

CREATE TABLE audit_log (
    id          uuid PRIMARY KEY,
    tenant_id   uuid,
    actor_kind  text NOT NULL CHECK (actor_kind IN ('user', 'api_token', 'system')),
    actor_id    uuid,
    action      text NOT NULL,
    target      text NOT NULL,
    before      jsonb,
    after       jsonb,
    at          timestamptz NOT NULL,
    ip          text
);
CREATE INDEX audit_log_tenant_idx ON audit_log (tenant_id, at DESC);
