//! All SQL of routes.

use calendar::Timestamp;
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
    meters: Json<Vec<gateway_control::policy::RouteMeter>>,
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
            retired_at: row.retired_at,
        }
    }
}

pub(in crate::catalog) async fn routes(tx: &mut Tx, product: ApiProductId) -> Result<Vec<Route>> {
    let rows = sqlx::query_as!(
        RouteRow,
        r#"SELECT id, method, path, operation_id, summary, rate_group, meters AS "meters: Json<Vec<gateway_control::policy::RouteMeter>>", retired_at
           FROM routes WHERE product_id = $1 AND retired_at IS NULL
           ORDER BY path COLLATE "C", array_position(ARRAY['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'], method), method"#,
        product.uuid(),
    );
    Ok(rows.fetch_all(&mut **tx).await?.into_iter().map(Route::from).collect())
}

/// All routes that the product ever had, those in force last.
pub(in crate::catalog) async fn routes_with_retired(tx: &mut Tx, product: ApiProductId) -> Result<Vec<Route>> {
    let rows = sqlx::query_as!(
        RouteRow,
        r#"SELECT id, method, path, operation_id, summary, rate_group, meters AS "meters: Json<Vec<gateway_control::policy::RouteMeter>>", retired_at
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
}

impl Columns {
    fn of(routes: &[Route]) -> Self {
        let mut columns = Self::default();
        for route in routes {
            columns.ids.push(route.id.uuid());
            columns.methods.push(route.method.clone());
            columns.paths.push(route.path.clone());
            columns.operation_ids.push(route.operation_id.as_ref().map(|id| id.replace('\0', "")));
            columns.summaries.push(route.summary.clone());
        }
        columns
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
    let columns = Columns::of(routes);
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
    let columns = Columns::of(routes);
    sqlx::query!(
        "UPDATE routes SET path = new.path, operation_id = new.operation_id, summary = new.summary, retired_at = NULL
         FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[]) AS new (id, path, operation_id, summary)
         WHERE routes.id = new.id AND routes.product_id = $1",
        product.uuid(),
        &columns.ids,
        &columns.paths,
        &columns.operation_ids as &[Option<String>],
        &columns.summaries,
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
