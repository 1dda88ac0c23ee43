-- From facts to policy entries: an outbox of changed ids, the published entries, and the gateways that watch them.

CREATE TABLE gateways (
    id             uuid PRIMARY KEY,
    name           text NOT NULL UNIQUE CHECK (char_length(name) BETWEEN 1 AND 100),
    -- SHA-256 of its credential; the previous one stays valid until `previous_until` so that it can be rotated without an outage.
    digest          bytea NOT NULL UNIQUE,
    -- The last four characters of the credential, by which a person recognizes it.
    hint            text NOT NULL,
    previous_digest bytea UNIQUE,
    previous_until  timestamptz,
    -- The namespaces that it serves; null for all.
    namespaces      uuid[],
    created_at      timestamptz NOT NULL,
    revoked_at      timestamptz
);

-- A journal is bound to the gateway that first spoke for it. Each process has one journal; replicas share a gateway's credential.
CREATE TABLE gateway_journals (
    journal_id    uuid PRIMARY KEY,
    gateway_id    uuid NOT NULL REFERENCES gateways (id),
    bound_at      timestamptz NOT NULL,
    last_seen_at  timestamptz,
    -- [gateway_control::status::GatewayStatus], the last one.
    status        jsonb
);
CREATE INDEX gateway_journals_gateway_idx ON gateway_journals (gateway_id);

CREATE TABLE policy_outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text NOT NULL,
    entity_id  uuid NOT NULL
);

-- The publisher finds rows by the ids in the outbox, which carry no tenant.
CREATE INDEX subscriptions_id_idx ON subscriptions (id);
CREATE INDEX api_keys_id_idx ON api_keys (id);

-- The newest state of every entry. A removed entry keeps a row without a body, so that a gateway which was away learns of it.
CREATE TABLE policy_entries (
    kind          text NOT NULL,
    entity_id     uuid NOT NULL,
    generation    bigint NOT NULL,
    -- Null where the entry concerns every gateway.
    namespace_id  uuid,
    body          jsonb,
    PRIMARY KEY (kind, entity_id)
);
CREATE UNIQUE INDEX policy_entries_generation_key ON policy_entries (generation);

-- One row. `epoch` is minted anew when a database is restored, which voids every generation that gateways hold.
CREATE TABLE policy_state (
    singleton   boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch       uuid NOT NULL,
    generation  bigint NOT NULL
);
INSERT INTO policy_state (epoch, generation) VALUES (gen_random_uuid(), 0);

CREATE FUNCTION policy_changed() RETURNS trigger LANGUAGE plpgsql AS $$
-- Arguments: the entry's kind, and the column that holds the entity's id. Deletes and both sides of an update are recorded.
DECLARE
    column_name text := TG_ARGV[1];
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO policy_outbox (kind, entity_id) VALUES (TG_ARGV[0], (to_jsonb(OLD) ->> column_name)::uuid);
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND to_jsonb(NEW) ->> column_name IS DISTINCT FROM to_jsonb(OLD) ->> column_name) THEN
        INSERT INTO policy_outbox (kind, entity_id) VALUES (TG_ARGV[0], (to_jsonb(NEW) ->> column_name)::uuid);
    END IF;
    RETURN NULL;
END $$;

-- A product's slug and whether it is published are part of its routes, and a plan's slug is part of its versions.
CREATE FUNCTION policy_product_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO policy_outbox (kind, entity_id)
        SELECT 'service', id FROM services WHERE product_id = NEW.id
        UNION ALL SELECT 'route', id FROM routes WHERE product_id = NEW.id;
    RETURN NULL;
END $$;

CREATE FUNCTION policy_plan_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO policy_outbox (kind, entity_id) SELECT 'plan_version', id FROM plan_versions WHERE plan_id = NEW.id;
    RETURN NULL;
END $$;

-- The keys of an archived application stop working.
CREATE FUNCTION policy_application_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO policy_outbox (kind, entity_id)
        SELECT 'api_key', id FROM api_keys WHERE tenant_id = NEW.tenant_id AND application_id = NEW.id;
    RETURN NULL;
END $$;

CREATE TRIGGER api_products_policy AFTER UPDATE OF slug, published_at ON api_products
    FOR EACH ROW EXECUTE FUNCTION policy_product_changed();
CREATE TRIGGER plans_policy AFTER UPDATE OF slug ON plans
    FOR EACH ROW EXECUTE FUNCTION policy_plan_changed();
CREATE TRIGGER applications_policy AFTER UPDATE OF archived_at ON applications
    FOR EACH ROW EXECUTE FUNCTION policy_application_changed();
CREATE TRIGGER services_policy AFTER INSERT OR UPDATE OR DELETE ON services
    FOR EACH ROW EXECUTE FUNCTION policy_changed('service', 'id');
CREATE TRIGGER routes_policy AFTER INSERT OR UPDATE OR DELETE ON routes
    FOR EACH ROW EXECUTE FUNCTION policy_changed('route', 'id');
CREATE TRIGGER plan_versions_policy AFTER INSERT OR UPDATE OR DELETE ON plan_versions
    FOR EACH ROW EXECUTE FUNCTION policy_changed('plan_version', 'id');
CREATE TRIGGER plan_version_products_policy AFTER INSERT OR UPDATE OR DELETE ON plan_version_products
    FOR EACH ROW EXECUTE FUNCTION policy_changed('plan_version', 'plan_version_id');
CREATE TRIGGER subscriptions_policy AFTER INSERT OR DELETE OR UPDATE OF application_id, plan_version_id, state, anchor_date, time_zone ON subscriptions
    FOR EACH ROW EXECUTE FUNCTION policy_changed('subscription', 'id');
-- `last_used_at` is written often and is no policy.
CREATE TRIGGER api_keys_policy AFTER INSERT OR DELETE OR UPDATE OF mode, digest, expires_at, revoked_at ON api_keys
    FOR EACH ROW EXECUTE FUNCTION policy_changed('api_key', 'id');
