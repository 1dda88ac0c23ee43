//! All SQL of routes.

use calendar::Timestamp;
use gateway_control::{options::RouteOptions, policy::RouteMeter};
use ids::{ApiProductId, RouteId, ServiceId};
use sqlx::types::Json;
use uuid::Uuid;

use super::{Route, RouteSettings};
use crate::{db::Tx, error::Result};

struct RouteRow {
    id: Uuid,
    method: String,
    path: String,
    operation_id: Option<String>,
    summary: String,
    rate_group: Option<String>,
    meters: Json<Vec<RouteMeter>>,
    options: Json<RouteOptions>,
    by_hand: bool,
    retired_at: Option<Timestamp>,
}

impl From<RouteRow> for Route {
    fn from(row: RouteRow) -> Self {
        Self {
            id: RouteId::from_uuid(row.id),
            method: row.method,
            path: row.path,
            operation_id: row.operation_id,
            summary: row.summary,
            settings: RouteSettings { rate_group: row.rate_group, meters: row.meters.0 },
            options: row.options.0,
            by_hand: row.by_hand,
            retired_at: row.retired_at,
        }
    }
}

pub(in crate::catalog) async fn routes(tx: &mut Tx, product: ApiProductId) -> Result<Vec<Route>> {
    let rows = sqlx::query_as!(
        RouteRow,
        r#"SELECT id, method, path, operation_id, summary, rate_group, meters AS "meters: Json<Vec<RouteMeter>>",
                  options AS "options: Json<RouteOptions>", by_hand, retired_at
           FROM routes WHERE product_id = $1 AND retired_at IS NULL
           ORDER BY path COLLATE "C", array_position(ARRAY['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'], method), method"#,
        product.uuid(),
    );
    Ok(rows.fetch_all(&mut **tx).await?.into_iter().map(Route::from).collect())
}

/// One route in force. Whoever changes it next waits.
pub(in crate::catalog) async fn route(tx: &mut Tx, product: ApiProductId, id: RouteId) -> Result<Option<Route>> {
    let row = sqlx::query_as!(
        RouteRow,
        r#"SELECT id, method, path, operation_id, summary, rate_group, meters AS "meters: Json<Vec<RouteMeter>>",
                  options AS "options: Json<RouteOptions>", by_hand, retired_at
           FROM routes WHERE product_id = $1 AND id = $2 AND retired_at IS NULL FOR UPDATE"#,
        product.uuid(),
        id.uuid(),
    );
    Ok(row.fetch_optional(&mut **tx).await?.map(Route::from))
}

/// A route of any product that matches the same method and paths.
pub(super) struct Rival {
    pub id: RouteId,
    pub product: String,
    pub options: RouteOptions,
}

/// The routes in force of all products with this method, and a path of this shape ([`gateway_control::path::PathTemplate::shape`]).
pub(super) async fn rivals(tx: &mut Tx, method: &str, shape: &str) -> Result<Vec<Rival>> {
    let rows = sqlx::query!(
        r#"SELECT r.id, p.name, r.options AS "options: Json<RouteOptions>" FROM routes r JOIN api_products p ON p.id = r.product_id
           WHERE r.retired_at IS NULL AND r.method = $1
             AND regexp_replace(regexp_replace(r.path, '\{[^*/{}][^/{}]*\}', '{}', 'g'), '\{\*[^/{}]+\}$', '{*}') = $2"#,
        method,
        shape,
    );
    let rows = rows.fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(|row| Rival { id: RouteId::from_uuid(row.id), product: row.name, options: row.options.0 }).collect())
}

/// The name of a product one of whose routes begins with this segment, though it is not the product's slug.
pub(in crate::catalog) async fn begun_by(tx: &mut Tx, segment: &str) -> Result<Option<String>> {
    let name = sqlx::query_scalar!(
        "SELECT p.name FROM routes r JOIN api_products p ON p.id = r.product_id
         WHERE r.by_hand AND r.retired_at IS NULL AND p.slug <> $1 AND split_part(r.path, '/', 2) = $1 LIMIT 1",
        segment,
    );
    Ok(name.fetch_optional(&mut **tx).await?)
}

pub(super) async fn update_options(tx: &mut Tx, id: RouteId, options: &RouteOptions) -> Result<()> {
    sqlx::query!("UPDATE routes SET options = $2 WHERE id = $1", id.uuid(), serde_json::to_value(options)?).execute(&mut **tx).await?;
    Ok(())
}

pub(super) async fn insert_by_hand(tx: &mut Tx, product: ApiProductId, service: ServiceId, route: &Route) -> Result<()> {
    sqlx::query!(
        "INSERT INTO routes (id, product_id, service_id, method, path, summary, rate_group, meters, options, by_hand)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, true)",
        route.id.uuid(),
        product.uuid(),
        service.uuid(),
        route.method,
        route.path,
        route.summary,
        route.settings.rate_group,
        serde_json::to_value(&route.settings.meters)?,
        serde_json::to_value(&route.options)?,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn update_by_hand(tx: &mut Tx, route: &Route) -> Result<()> {
    sqlx::query!(
        "UPDATE routes SET method = $2, path = $3, summary = $4, options = $5 WHERE id = $1",
        route.id.uuid(),
        route.method,
        route.path,
        route.summary,
        serde_json::to_value(&route.options)?,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// All routes that the product ever had, those in force last.
pub(in crate::catalog) async fn routes_with_retired(tx: &mut Tx, product: ApiProductId) -> Result<Vec<Route>> {
    let rows = sqlx::query_as!(
        RouteRow,
        r#"SELECT id, method, path, operation_id, summary, rate_group, meters AS "meters: Json<Vec<RouteMeter>>",
                  options AS "options: Json<RouteOptions>", by_hand, retired_at
           FROM routes WHERE product_id = $1 ORDER BY retired_at NULLS LAST, id"#,
        product.uuid(),
    );
    Ok(rows.fetch_all(&mut **tx).await?.into_iter().map(Route::from).collect())
}

/// The columns of many routes, as Postgres unnests them.
#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    methods: Vec<String>,
    paths: Vec<String>,
    operation_ids: Vec<Option<String>>,
    summaries: Vec<String>,
    options: Vec<serde_json::Value>,
}

impl Columns {
    fn of(routes: &[Route]) -> Result<Self> {
        let mut columns = Self::default();
        for route in routes {
            columns.ids.push(route.id.uuid());
            columns.methods.push(route.method.clone());
            columns.paths.push(route.path.clone());
            columns.operation_ids.push(route.operation_id.as_ref().map(|id| id.replace('\0', "")));
            columns.summaries.push(route.summary.clone());
            columns.options.push(serde_json::to_value(&route.options)?);
        }
        Ok(columns)
    }
}

/// One statement however many there are: a large document has a thousand.
pub(in crate::catalog) async fn insert_routes(
    tx: &mut Tx,
    product: ApiProductId,
    service: ServiceId,
    routes: &[Route],
    settings: &RouteSettings,
) -> Result<()> {
    let columns = Columns::of(routes)?;
    sqlx::query!(
        "INSERT INTO routes (id, product_id, service_id, method, path, operation_id, summary, rate_group, meters)
         SELECT new.id, $1, $2, new.method, new.path, new.operation_id, new.summary, $3, $4
         FROM unnest($5::uuid[], $6::text[], $7::text[], $8::text[], $9::text[]) AS new (id, method, path, operation_id, summary)",
        product.uuid(),
        service.uuid(),
        settings.rate_group,
        serde_json::to_value(&settings.meters)?,
        &columns.ids,
        &columns.methods,
        &columns.paths,
        &columns.operation_ids as &[Option<String>],
        &columns.summaries,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(in crate::catalog) async fn update_routes(tx: &mut Tx, product: ApiProductId, routes: &[Route]) -> Result<()> {
    let columns = Columns::of(routes)?;
    sqlx::query!(
        "UPDATE routes SET path = new.path, operation_id = new.operation_id, summary = new.summary, options = new.options, by_hand = false,
                retired_at = NULL
         FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::jsonb[]) AS new (id, path, operation_id, summary, options)
         WHERE routes.id = new.id AND routes.product_id = $1",
        product.uuid(),
        &columns.ids,
        &columns.paths,
        &columns.operation_ids as &[Option<String>],
        &columns.summaries,
        &columns.options,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(in crate::catalog) async fn retire_routes(tx: &mut Tx, product: ApiProductId, routes: &[RouteId], now: Timestamp) -> Result<()> {
    let ids: Vec<Uuid> = routes.iter().map(|id| id.uuid()).collect();
    sqlx::query!("UPDATE routes SET retired_at = $3 WHERE product_id = $1 AND id = ANY($2)", product.uuid(), &ids, now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(in crate::catalog) async fn update_route_settings(
    tx: &mut Tx,
    product: ApiProductId,
    route: Option<RouteId>,
    settings: &RouteSettings,
) -> Result<u64> {
    let done = sqlx::query!(
        "UPDATE routes SET rate_group = $3, meters = $4 WHERE product_id = $1 AND retired_at IS NULL AND ($2::uuid IS NULL OR id = $2)",
        product.uuid(),
        route.map(RouteId::uuid),
        settings.rate_group,
        serde_json::to_value(&settings.meters)?,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}
