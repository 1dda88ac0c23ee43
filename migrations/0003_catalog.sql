-- What is listed and sold: API products with their documents, backends, routes, meters and plans.

CREATE TABLE api_products (
    id            uuid PRIMARY KEY,
    -- Also the first segment of the path under which the gateway serves the product.
    slug          text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    name          text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    summary       text NOT NULL DEFAULT '' CHECK (char_length(summary) <= 300),
    description   text NOT NULL DEFAULT '',
    -- A draft is seen by operators only.
    published_at  timestamptz,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL
);

-- Imported editions of OpenAPI documents. `source` is what was uploaded, byte for byte; `document` is what the reference shows, as JSON text.
CREATE TABLE specs (
    id           uuid PRIMARY KEY,
    product_id   uuid NOT NULL REFERENCES api_products (id),
    edition      integer NOT NULL,
    openapi      text NOT NULL,
    title        text NOT NULL,
    source       bytea NOT NULL,
    source_url   text,
    digest       bytea NOT NULL,
    document     text NOT NULL,
    operations   integer NOT NULL,
    imported_by  uuid REFERENCES users (id) ON DELETE SET NULL,
    imported_at  timestamptz NOT NULL,
    UNIQUE (product_id, edition)
);

CREATE TABLE services (
    id                     uuid PRIMARY KEY,
    product_id             uuid NOT NULL UNIQUE REFERENCES api_products (id),
    name                   text NOT NULL,
    upstream_url           text NOT NULL,
    sandbox_url            text,
    connect_timeout_ms     integer NOT NULL DEFAULT 5000 CHECK (connect_timeout_ms BETWEEN 1 AND 600000),
    first_byte_timeout_ms  integer NOT NULL DEFAULT 60000 CHECK (first_byte_timeout_ms BETWEEN 1 AND 3600000)
);

CREATE TABLE meters (
    id           uuid PRIMARY KEY,
    slug         text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$'),
    name         text NOT NULL,
    -- What one unit is called, in the singular: "request", "token".
    unit         text NOT NULL,
    aggregation  text NOT NULL CHECK (aggregation IN ('count', 'sum', 'max', 'unique_count', 'latest')),
    created_at   timestamptz NOT NULL
);

CREATE TABLE routes (
    id            uuid PRIMARY KEY,
    product_id    uuid NOT NULL REFERENCES api_products (id),
    service_id    uuid NOT NULL REFERENCES services (id),
    method        text NOT NULL,
    -- As the gateway matches it, product's slug included: `/weather/v1/forecast/{city}`.
    path          text NOT NULL,
    operation_id  text,
    summary       text NOT NULL DEFAULT '',
    rate_group    text,
    -- [gateway_control::policy::RouteMeter]: how a call moves the meters.
    meters        jsonb NOT NULL,
    -- A later import that lacks the operation retires the route: usage keeps naming it.
    retired_at    timestamptz
);
CREATE UNIQUE INDEX routes_match_key ON routes (product_id, method, path) WHERE retired_at IS NULL;

CREATE TABLE plans (
    id          uuid PRIMARY KEY,
    slug        text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    name        text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    summary     text NOT NULL DEFAULT '' CHECK (char_length(summary) <= 300),
    -- The order in which plans are shown, and in which a change is an upgrade.
    position    integer NOT NULL,
    created_at  timestamptz NOT NULL,
    archived_at timestamptz
);

-- An immutable edition of a plan once published.
CREATE TABLE plan_versions (
    id            uuid PRIMARY KEY,
    plan_id       uuid NOT NULL REFERENCES plans (id),
    version       integer NOT NULL,
    currency      text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    cadence       text NOT NULL CHECK (cadence IN ('day', 'week', 'month', 'quarter', 'year')),
    -- [quota::RateLimit] and [quota::QuotaLimit], and [gateway_control::policy::BillableRule].
    rate_limits   jsonb NOT NULL,
    quotas        jsonb NOT NULL,
    billable      jsonb NOT NULL,
    published_at  timestamptz,
    created_at    timestamptz NOT NULL,
    UNIQUE (plan_id, version)
);

CREATE TABLE plan_version_products (
    plan_version_id  uuid NOT NULL REFERENCES plan_versions (id),
    product_id       uuid NOT NULL REFERENCES api_products (id),
    PRIMARY KEY (plan_version_id, product_id)
);

-- A meter's price, or a fixed fee where `meter_id` is null. `price` is [rating::Price]; `terms` holds allowance, discount, minimum and maximum.
CREATE TABLE rate_cards (
    id               uuid PRIMARY KEY,
    plan_version_id  uuid NOT NULL REFERENCES plan_versions (id),
    position         integer NOT NULL,
    name             text NOT NULL,
    meter_id         uuid REFERENCES meters (id),
    price            jsonb NOT NULL,
    terms            jsonb NOT NULL DEFAULT '{}',
    UNIQUE (plan_version_id, position)
);
