-- What gateways are told of services and routes beside address and path: [gateway_control::options::ServiceOptions] and [RouteOptions].
ALTER TABLE services ADD COLUMN options jsonb NOT NULL DEFAULT '{}';
ALTER TABLE routes ADD COLUMN options jsonb NOT NULL DEFAULT '{}';

-- Added by hand: no document names it, so no import retires it.
ALTER TABLE routes ADD COLUMN by_hand boolean NOT NULL DEFAULT false;

-- Routes by hand may differ from each other, and from the document's, in hosts and conditions only; the operation that adds them compares.
DROP INDEX routes_match_key;
CREATE UNIQUE INDEX routes_match_key ON routes (product_id, method, path) WHERE retired_at IS NULL AND NOT by_hand;
