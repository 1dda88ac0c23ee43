//! What pages say of usage is what the accepted rows say, whichever sums answer (SEMANTICS M5, M7): sums by route, or by key where keys are asked for.

use std::{collections::BTreeMap, time::Duration};

use calendar::{Period, TimeZone, Timestamp};
use gateway_control::{
    units::Micros,
    usage::{AnsweredBy, Mode, UsageRow},
};
use ids::{ApiKeyId, MeterId, RouteId};
use portal::{
    identity::Actor,
    usage::{
        query::{self, Filter, Overview, Query, Slot, Stack},
        watermark,
    },
};
use sqlx::PgPool;

use crate::{
    support::Portal,
    usage_sums::differences,
    world::{TestGateway, World, batch, gateway},
};

const USAGE: &str = "/control/v1/usage";
const DAYS: u64 = 4;
const ZONES: [&str; 6] = ["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe"];

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).unwrap();
        let seed = u64::from_le_bytes(seed);
        println!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// A tenant with three keys, three routes of two API products, and a meter of each kind.
struct Place {
    portal: Portal,
    world: World,
    gateway: TestGateway,
    keys: Vec<ApiKeyId>,
    /// Each with its meters; the first of them counts calls.
    routes: Vec<(RouteId, Vec<MeterId>)>,
    seq: u64,
}

impl Place {
    async fn new(pool: PgPool) -> Self {
        let portal = Portal::new(pool);
        let world = World::new(&portal, 1_000_000_000).await;
        let pool = &portal.app.pool;
        let mut keys = vec![world.key];
        for _ in 0..2 {
            let key = ApiKeyId::new();
            world.add_key(&portal, key).await;
            keys.push(key);
        }
        let mut meters = Vec::new();
        for aggregation in ["sum", "max", "latest"] {
            let meter = MeterId::new();
            sqlx::query("INSERT INTO meters (id, slug, name, unit, aggregation, created_at) VALUES ($1, $2, $2, 'unit', $2, now())")
                .bind(meter.uuid())
                .bind(aggregation)
                .execute(pool)
                .await
                .unwrap();
            meters.push(meter);
        }
        let other_product = portal.product("maps").await;
        let mut routes = vec![(world.route, vec![world.meter])];
        for (path, product, meters) in
            [("/weather/week", world.product, [world.meter, meters[0]]), ("/maps/tile", other_product, [meters[1], meters[2]])]
        {
            let route = RouteId::new();
            sqlx::query("INSERT INTO routes (id, product_id, service_id, method, path, meters) VALUES ($1, $2, $3, 'GET', $4, '[]')")
                .bind(route.uuid())
                .bind(product.uuid())
                .bind(world.service.uuid())
                .bind(path)
                .execute(pool)
                .await
                .unwrap();
            routes.push((route, meters.to_vec()));
        }
        let gateway = gateway(&portal, "one", None).await;
        Self { portal, world, gateway, keys, routes, seq: 0 }
    }

    /// Rows of a draw: one for each meter of the route, all of the same calls.
    fn drawn(&self, dice: &mut Dice) -> Vec<UsageRow> {
        let status = dice.one_of(&[200, 200, 200, 404, 429, 500, 503]);
        let ago = Duration::from_secs(60 * dice.below(DAYS * 1440));
        let route = usize::try_from(dice.below(3)).unwrap();
        let mut row = self.world.row(&self.portal, 1 + dice.below(9), status);
        row.key.api_key = dice.one_of(&self.keys);
        row.key.route = self.routes[route].0;
        row.key.mode = dice.one_of(&[Mode::Live, Mode::Live, Mode::Test]);
        row.key.answered_by = if status == 429 || dice.below(9) == 0 { AnsweredBy::Gateway } else { AnsweredBy::Upstream };
        row.key.minute = row.key.minute.minus(ago);
        row.last_at = row.key.minute.plus(Duration::from_millis(dice.below(3) * 20_000));
        let of_meter = |meter: &MeterId| {
            let mut row = row.clone();
            row.key.meter = *meter;
            (row.min, row.max, row.last) = (Micros::ONE, Micros(dice.below(7_000_000) as i128), Micros(dice.below(7_000_000) as i128));
            row.sum = Micros(row.count as i128 * 1_500_000);
            row
        };
        self.routes[route].1.iter().map(of_meter).collect()
    }

    /// Sends a batch of so many draws, which is not in the sums then.
    async fn send(&mut self, dice: &mut Dice, draws: usize) {
        let mut rows = BTreeMap::new();
        for _ in 0..draws {
            for row in self.drawn(dice) {
                rows.insert(row.key.clone(), row);
            }
        }
        let sent = batch(self.gateway.journal, 0, self.seq, self.seq * 1_000_000, rows.into_values().collect());
        self.seq += 1;
        let (status, answer) = self.gateway.post_only(&self.portal, USAGE, &sent).await;
        assert_eq!(status, 200, "{answer}");
    }

    async fn overview(&self, query: &Query) -> Overview {
        let mut tx = self.portal.app.begin().await.unwrap();
        query::overview(&mut tx, &Actor::system(), query, Stack::Api, 50).await.unwrap()
    }

    fn question(&self, dice: &mut Dice) -> Query {
        let zone: TimeZone = dice.one_of(&ZONES).parse().unwrap();
        let quarters = DAYS * 96 + 8;
        let from = self.portal.now().minus(Duration::from_secs(900 * dice.below(quarters)));
        let to = from.plus(Duration::from_secs(900 * (1 + dice.below(quarters))));
        let mut query = Query::new(self.world.tenant, Period { from, to: to.floor_quarter_hour() }, zone);
        query.range.to = query.range.to.max(from.plus(Duration::from_secs(1)));
        query.slot = dice.one_of(&[Slot::QuarterHour, Slot::Hour, Slot::Day]);
        query.filter = Filter {
            product: dice.one_of(&[None, None, Some(self.world.product)]),
            plan: dice.one_of(&[None, Some(self.world.plan)]),
            subscription: dice.one_of(&[None, Some(self.world.subscription)]),
            status_class: dice.one_of(&[None, None, Some(2), Some(4)]),
            mode: dice.one_of(&[None, None, Some(Mode::Live)]),
            ..Filter::default()
        };
        query
    }
}

/// The calls of each slot and status, and the units of each meter with what is billed of them, from the rows.
async fn by_rows(pool: &PgPool, query: &Query) -> (Vec<(Timestamp, i16, i64)>, Vec<(String, String, String)>) {
    let unit = match query.slot {
        Slot::QuarterHour => "minute",
        Slot::Hour => "hour",
        Slot::Day => "day",
    };
    let zone = query.zone.name();
    // Slots of days are whole, and so are the UTC days that sums are kept of.
    let from = "CASE $2 WHEN 'day' THEN date_trunc('day', $3::timestamptz, $4) ELSE to_timestamp(floor(extract(epoch FROM $3::timestamptz) / 900) * 900) END";
    let to =
        "CASE WHEN $2 = 'day' AND $4 = 'UTC' THEN date_trunc('day', $5::timestamptz - interval '1 microsecond', 'UTC') + interval '1 day'
        ELSE to_timestamp(ceil(extract(epoch FROM $5::timestamptz) / 900) * 900) END";
    let rows = format!(
        "FROM usage_rows u JOIN meters m ON m.id = u.meter_id WHERE namespace_id = $1 AND minute >= {from} AND minute < {to}
         AND ($6 OR route_id IN (SELECT r.id FROM routes r JOIN api_products p ON p.id = r.product_id WHERE p.slug = 'weather'))
         AND ($7::smallint IS NULL OR status / 100 = $7) AND ($8 OR mode = 'live')"
    );
    let slot = "CASE $2 WHEN 'minute' THEN to_timestamp(floor(extract(epoch FROM minute) / 900) * 900) ELSE date_trunc($2, minute, $4) END";
    let calls = format!("SELECT {slot}, status, sum(count)::bigint {rows} AND m.slug IN ('calls', 'max') GROUP BY 1, 2 ORDER BY 1, 2");
    let billed =
        "FILTER (WHERE mode = 'live' AND answered_by = 'upstream' AND status BETWEEN 200 AND 499 AND status NOT IN (401, 403, 429))";
    let units = |filter: &str| {
        format!(
            "coalesce(CASE m.aggregation WHEN 'count' THEN sum(count) {filter} WHEN 'sum' THEN sum(sum) {filter} WHEN 'max' THEN max(max) {filter}
             ELSE (array_agg(last ORDER BY last_at DESC, last DESC) {filter})[1] END, 0)"
        )
    };
    let units =
        format!("SELECT m.name, trim_scale({})::text, trim_scale({})::text {rows} GROUP BY m.id ORDER BY 1", units(""), units(billed));
    let filter = &query.filter;
    let calls = sqlx::query_as(sqlx::AssertSqlSafe(calls))
        .bind(query.tenant.uuid())
        .bind(unit)
        .bind(query.range.from)
        .bind(zone)
        .bind(query.range.to)
        .bind(filter.product.is_none())
        .bind(filter.status_class)
        .bind(filter.mode.is_none());
    let units = sqlx::query_as(sqlx::AssertSqlSafe(units))
        .bind(query.tenant.uuid())
        .bind(unit)
        .bind(query.range.from)
        .bind(zone)
        .bind(query.range.to)
        .bind(filter.product.is_none())
        .bind(filter.status_class)
        .bind(filter.mode.is_none());
    (calls.fetch_all(pool).await.unwrap(), units.fetch_all(pool).await.unwrap())
}

#[sqlx::test(migrations = "../migrations")]
async fn pages_say_what_the_rows_say_whichever_sums_answer(pool: PgPool) {
    let mut dice = Dice::new();
    let mut place = Place::new(pool).await;
    for _ in 0..4 {
        place.send(&mut dice, 120).await;
        place.portal.roll_up().await;
    }
    let pool = &place.portal.app.pool;
    let mut with_calls = 0;
    for number in 0..120 {
        let asked = place.question(&mut dice);
        let found = place.overview(&asked).await;
        let (calls, units) = by_rows(pool, &asked).await;
        let what = format!("question {number}: {asked:?}");
        let mut by_slot = BTreeMap::new();
        let mut by_status = BTreeMap::new();
        for (slot, status, calls) in calls {
            *by_slot.entry(slot).or_insert(0) += calls;
            *by_status.entry(status.to_string()).or_insert(0) += calls;
        }
        let in_slots = found.series.starts.iter().enumerate().map(|(slot, start)| (*start, found.series.total(slot)));
        assert_eq!(in_slots.filter(|(_, calls)| *calls > 0).collect::<BTreeMap<_, _>>(), by_slot, "{what}");
        let statuses = found.totals.by_status.iter().map(|share| (share.key.clone(), share.calls));
        assert_eq!(statuses.collect::<BTreeMap<_, _>>(), by_status, "{what}");
        let meters = found.totals.by_meter.iter().map(|meter| (meter.name.clone(), meter.units.to_string(), meter.billable.to_string()));
        assert_eq!(meters.collect::<Vec<_>>(), units, "{what}");
        with_calls += usize::from(found.totals.calls > 0);
        // All usage is of one application, so that naming it changes nothing but which sums are read.
        let by_key = Query { filter: Filter { application: Some(place.world.application), ..asked.filter.clone() }, ..asked };
        let by_key = place.overview(&by_key).await;
        assert_eq!(found.series, by_key.series, "{what}");
        assert_eq!(found.totals, by_key.totals, "{what}");
        assert_eq!(found.routes, by_key.routes, "{what}");
    }
    assert!(with_calls > 60, "only {with_calls} questions had calls to compare");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_a_portal_of_the_release_before_has_summed_is_added_by_route_once(pool: PgPool) {
    let mut dice = Dice::new();
    let mut place = Place::new(pool).await;
    for _ in 0..3 {
        place.send(&mut dice, 40).await;
    }
    place.portal.roll_up().await;
    let pool = place.portal.app.pool.clone();
    // The release before has added the second segment, and knows nothing of sums by route.
    let before =
        "WITH mark AS (UPDATE usage_segments SET rolled_up_by_route_at = NULL WHERE seq = 1 RETURNING 1) SELECT count(*) FROM mark";
    assert_eq!(sqlx::query_scalar::<_, i64>(before).fetch_one(&pool).await.unwrap(), 1);
    take_off(&pool).await;
    assert!(differences(&pool).await > 0, "the second segment is in the sums by key alone");
    let mut tx = place.portal.app.begin().await.unwrap();
    let lag = watermark::lag(&mut tx).await.unwrap();
    assert_eq!(lag.segments, 1);
    assert!(!watermark::is_past(&mut tx, place.portal.now()).await.unwrap(), "no period is closed before");
    tx.commit().await.unwrap();
    assert_eq!(compare(&place.portal).await, 0, "what waits for the sums by route is no difference");
    for _ in 0..2 {
        place.send(&mut dice, 40).await;
    }
    place.portal.roll_up().await;
    assert_eq!(differences(&pool).await, 0);
    assert_eq!(compare(&place.portal).await, 0);
}

/// Takes the second segment off the sums by route.
async fn take_off(pool: &PgPool) {
    for sql in [
        "UPDATE usage_route_hour h SET count_00 = count_00 - r.c0, count_15 = count_15 - r.c1, count_30 = count_30 - r.c2, count_45 = count_45 - r.c3, sum = h.sum - r.sum
         FROM (SELECT date_bin('1 hour', minute, 'epoch') AS bucket, route_id, meter_id, status, mode, billable, sum(sum) AS sum,
                   coalesce(sum(count) FILTER (WHERE extract(minute FROM minute) < 15), 0) AS c0,
                   coalesce(sum(count) FILTER (WHERE extract(minute FROM minute) BETWEEN 15 AND 29), 0) AS c1,
                   coalesce(sum(count) FILTER (WHERE extract(minute FROM minute) BETWEEN 30 AND 44), 0) AS c2,
                   coalesce(sum(count) FILTER (WHERE extract(minute FROM minute) >= 45), 0) AS c3
               FROM usage_rows WHERE seq = 1 GROUP BY 1, 2, 3, 4, 5, 6) r
         WHERE (h.bucket, h.route_id, h.meter_id, h.status, h.mode, h.billable) = (r.bucket, r.route_id, r.meter_id, r.status, r.mode, r.billable)",
        "DELETE FROM usage_route_hour WHERE count_00 + count_15 + count_30 + count_45 = 0",
        "UPDATE usage_route_day d SET count = d.count - r.count, sum = d.sum - r.sum
         FROM (SELECT date_bin('1 day', minute, 'epoch') AS bucket, route_id, meter_id, status, mode, billable, sum(sum) AS sum, sum(count) AS count
               FROM usage_rows WHERE seq = 1 GROUP BY 1, 2, 3, 4, 5, 6) r
         WHERE (d.bucket, d.route_id, d.meter_id, d.status, d.mode, d.billable) = (r.bucket, r.route_id, r.meter_id, r.status, r.mode, r.billable)",
        "DELETE FROM usage_route_day WHERE count = 0",
    ] {
        sqlx::query(sql).execute(pool).await.unwrap();
    }
}

/// How many differences of sums one pass of the comparison finds. What was taken off leaves largest values behind, which [`differences`] compares.
async fn compare(portal: &Portal) -> usize {
    portal.clock.advance(Duration::from_secs(10));
    portal::reconciliation::compare(&portal.app, &Actor::system(), portal.now()).await.unwrap();
    let mut tx = portal.app.begin().await.unwrap();
    let found = portal::reconciliation::differences(&mut tx, &Actor::system(), false, 200, 0).await.unwrap();
    found.iter().filter(|it| it.kind.as_str().starts_with("rollup") && it.kind != portal::reconciliation::Kind::RollupLevels).count()
}

#[sqlx::test(migrations = "../migrations")]
async fn the_migration_copies_the_sums_that_are_there_and_leaves_what_waits_to_the_next_round(pool: PgPool) {
    let mut dice = Dice::new();
    let mut place = Place::new(pool).await;
    for _ in 0..3 {
        place.send(&mut dice, 60).await;
        place.portal.roll_up().await;
    }
    place.send(&mut dice, 60).await;
    let pool = place.portal.app.pool.clone();
    // As it was before.
    for sql in ["DROP TABLE usage_route_hour", "DROP TABLE usage_route_day", "ALTER TABLE usage_segments DROP COLUMN rolled_up_by_route_at"]
    {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    // Rows of closed months may be gone; what was summed is not summed again from them.
    sqlx::query("CREATE TABLE kept AS SELECT * FROM usage_rows WHERE seq < 3").execute(&pool).await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    sqlx::query("SET LOCAL session_replication_role = replica").execute(&mut *tx).await.unwrap();
    sqlx::query("DELETE FROM usage_rows WHERE seq < 3").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    sqlx::raw_sql(include_str!("../../../migrations/0017_sums_by_route.sql")).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    place.portal.roll_up().await;
    sqlx::query("INSERT INTO usage_rows SELECT * FROM kept").execute(&pool).await.unwrap();
    assert_eq!(differences(&pool).await, 0);
    let waiting: i64 =
        sqlx::query_scalar("SELECT count(*) FROM usage_segments WHERE rolled_up_by_route_at IS NULL").fetch_one(&pool).await.unwrap();
    assert_eq!(waiting, 0);
}
