//! All SQL of products, documents and services.

use calendar::Timestamp;
use gateway_control::options::ServiceOptions;
use ids::{ApiProductId, ServiceId, SpecId, UserId};
use sqlx::types::Json;
use uuid::Uuid;

use super::{
    api_product::{ApiProduct, ListedProduct, ReferenceText, SpecEdition},
    import::{Import, Upload},
    service::{Service, ServiceSettings},
};
use crate::{
    db::{Tx, on_constraint},
    error::{Error, Result},
};

struct ProductRow {
    id: Uuid,
    slug: String,
    name: String,
    summary: String,
    description: String,
    published_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<ProductRow> for ApiProduct {
    fn from(row: ProductRow) -> Self {
        let ProductRow { id, slug, name, summary, description, published_at, created_at, updated_at } = row;
        Self { id: ApiProductId::from_uuid(id), slug, name, summary, description, published_at, created_at, updated_at }
    }
}

pub(super) async fn products(tx: &mut Tx, published_only: bool) -> Result<Vec<ListedProduct>> {
    let rows = sqlx::query!(
        r#"SELECT p.id, p.slug, p.name, p.summary, p.description, p.published_at, p.created_at, p.updated_at,
                  (SELECT count(*) FROM routes r WHERE r.product_id = p.id AND r.retired_at IS NULL) AS "routes!",
                  (SELECT count(DISTINCT v.plan_id) FROM plan_version_products c JOIN plan_versions v ON v.id = c.plan_version_id
                   JOIN plans l ON l.id = v.plan_id
                   WHERE c.product_id = p.id AND v.published_at IS NOT NULL AND l.archived_at IS NULL) AS "plans!"
           FROM api_products p WHERE NOT $1 OR p.published_at IS NOT NULL ORDER BY lower(p.name), p.id"#,
        published_only,
    )
    .fetch_all(&mut **tx)
    .await?;
    let listed = rows.into_iter().map(|row| ListedProduct {
        product: ApiProduct {
            id: ApiProductId::from_uuid(row.id),
            slug: row.slug,
            name: row.name,
            summary: row.summary,
            description: row.description,
            published_at: row.published_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        },
        routes: row.routes,
        plans: row.plans,
    });
    Ok(listed.collect())
}

pub(super) async fn products_by_ids(tx: &mut Tx, ids: &[ApiProductId]) -> Result<Vec<ApiProduct>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query_as!(
        ProductRow,
        "SELECT id, slug, name, summary, description, published_at, created_at, updated_at FROM api_products
         WHERE id = ANY($1) ORDER BY lower(name), id",
        &ids,
    );
    Ok(rows.fetch_all(&mut **tx).await?.into_iter().map(ApiProduct::from).collect())
}

pub(super) async fn product_by_slug(tx: &mut Tx, slug: &str) -> Result<Option<ApiProduct>> {
    let row = sqlx::query_as!(
        ProductRow,
        "SELECT id, slug, name, summary, description, published_at, created_at, updated_at FROM api_products WHERE slug = $1",
        slug,
    );
    Ok(row.fetch_optional(&mut **tx).await?.map(ApiProduct::from))
}

/// Imports and changes of one product happen one after the other.
pub(super) async fn lock_product(tx: &mut Tx, slug: &str) -> Result<Option<ApiProduct>> {
    let row = sqlx::query_as!(
        ProductRow,
        "SELECT id, slug, name, summary, description, published_at, created_at, updated_at FROM api_products WHERE slug = $1 FOR UPDATE",
        slug,
    );
    Ok(row.fetch_optional(&mut **tx).await?.map(ApiProduct::from))
}

pub(super) async fn insert_product(tx: &mut Tx, product: &ApiProduct) -> Result<()> {
    sqlx::query!(
        "INSERT INTO api_products (id, slug, name, summary, description, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $6)",
        product.id.uuid(),
        product.slug,
        product.name,
        product.summary,
        product.description,
        product.created_at,
    )
    .execute(&mut **tx)
    .await
    .map_err(on_constraint("api_products_slug_key", || Error::invalid("slug", "Another API product has this slug; choose another one.")))?;
    Ok(())
}

pub(super) async fn update_product(tx: &mut Tx, product: &ApiProduct) -> Result<()> {
    sqlx::query!(
        "UPDATE api_products SET name = $2, summary = $3, description = $4, updated_at = $5 WHERE id = $1",
        product.id.uuid(),
        product.name,
        product.summary,
        product.description,
        product.updated_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn set_published(tx: &mut Tx, id: ApiProductId, at: Option<Timestamp>) -> Result<()> {
    sqlx::query!("UPDATE api_products SET published_at = $2 WHERE id = $1", id.uuid(), at as Option<Timestamp>).execute(&mut **tx).await?;
    Ok(())
}

pub(super) async fn service_of(tx: &mut Tx, product: ApiProductId) -> Result<Option<Service>> {
    let row = sqlx::query!(
        r#"SELECT id, name, upstream_url, sandbox_url, connect_timeout_ms, first_byte_timeout_ms, options AS "options: Json<ServiceOptions>"
           FROM services WHERE product_id = $1"#,
        product.uuid(),
    );
    Ok(row.fetch_optional(&mut **tx).await?.map(|row| Service {
        id: ServiceId::from_uuid(row.id),
        name: row.name,
        settings: ServiceSettings {
            upstream_url: row.upstream_url,
            sandbox_url: row.sandbox_url,
            connect_timeout_ms: row.connect_timeout_ms,
            first_byte_timeout_ms: row.first_byte_timeout_ms,
            options: row.options.0,
        },
    }))
}

pub(super) async fn insert_service(tx: &mut Tx, product: ApiProductId, service: &Service) -> Result<()> {
    sqlx::query!(
        "INSERT INTO services (id, product_id, name, upstream_url, sandbox_url, connect_timeout_ms, first_byte_timeout_ms, options)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        service.id.uuid(),
        product.uuid(),
        service.name,
        service.settings.upstream_url,
        service.settings.sandbox_url,
        service.settings.connect_timeout_ms,
        service.settings.first_byte_timeout_ms,
        serde_json::to_value(&service.settings.options)?,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn update_service(tx: &mut Tx, product: ApiProductId, settings: &ServiceSettings) -> Result<()> {
    sqlx::query!(
        "UPDATE services SET upstream_url = $2, sandbox_url = $3, connect_timeout_ms = $4, first_byte_timeout_ms = $5, options = $6
         WHERE product_id = $1",
        product.uuid(),
        settings.upstream_url,
        settings.sandbox_url,
        settings.connect_timeout_ms,
        settings.first_byte_timeout_ms,
        serde_json::to_value(&settings.options)?,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Adds an edition, numbered after the last one. Whoever calls holds the product's lock.
pub(super) async fn insert_spec(
    tx: &mut Tx,
    id: SpecId,
    product: ApiProductId,
    input: &Import,
    imported_by: Option<UserId>,
    now: Timestamp,
) -> Result<i32> {
    let document = &input.document;
    let edition = sqlx::query_scalar!(
        "INSERT INTO specs (id, product_id, edition, openapi, title, source, source_url, digest, document, operations, imported_by, imported_at)
         VALUES ($1, $2, (SELECT coalesce(max(edition), 0) + 1 FROM specs WHERE product_id = $2), $3, $4, $5, $6, $7, $8, $9, $10, $11)
         RETURNING edition",
        id.uuid(),
        product.uuid(),
        document.openapi,
        document.title.replace('\0', ""),
        input.source,
        input.source_url,
        document.digest,
        document.reference,
        i32::try_from(document.operations.len()).unwrap_or(i32::MAX),
        imported_by.map(UserId::uuid),
        now,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(edition)
}

pub(super) async fn editions(tx: &mut Tx, product: ApiProductId) -> Result<Vec<SpecEdition>> {
    let rows = sqlx::query!(
        r#"SELECT s.id, s.edition, s.openapi, s.title, s.operations, octet_length(s.source) AS "source_bytes!", s.source_url, s.imported_at,
                  u.email AS "imported_by?"
           FROM specs s LEFT JOIN users u ON u.id = s.imported_by WHERE s.product_id = $1 ORDER BY s.edition DESC LIMIT 50"#,
        product.uuid(),
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| SpecEdition {
            id: SpecId::from_uuid(row.id),
            edition: row.edition,
            openapi: row.openapi,
            title: row.title,
            operations: row.operations,
            source_bytes: row.source_bytes,
            source_url: row.source_url,
            imported_by: row.imported_by,
            imported_at: row.imported_at,
        })
        .collect())
}

pub(super) async fn reference(tx: &mut Tx, product: ApiProductId) -> Result<Option<ReferenceText>> {
    let row = sqlx::query_as!(
        ReferenceText,
        "SELECT document, digest FROM specs WHERE product_id = $1 ORDER BY edition DESC LIMIT 1",
        product.uuid()
    );
    Ok(row.fetch_optional(&mut **tx).await?)
}

pub(super) async fn has_document(tx: &mut Tx, product: ApiProductId) -> Result<bool> {
    let has = sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM specs WHERE product_id = $1) AS "has!""#, product.uuid());
    Ok(has.fetch_one(&mut **tx).await?)
}

/// Removes what has expired, and what the operator uploaded before.
pub(super) async fn delete_uploads(tx: &mut Tx, user: UserId, now: Timestamp) -> Result<()> {
    sqlx::query!("DELETE FROM spec_uploads WHERE user_id = $1 OR expires_at <= $2", user.uuid(), now).execute(&mut **tx).await?;
    Ok(())
}

pub(super) async fn insert_upload(
    tx: &mut Tx,
    id: SpecId,
    user: UserId,
    source: &[u8],
    url: Option<&str>,
    expires_at: Timestamp,
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO spec_uploads (id, user_id, source, source_url, expires_at) VALUES ($1, $2, $3, $4, $5)",
        id.uuid(),
        user.uuid(),
        source,
        url,
        expires_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn upload(tx: &mut Tx, id: SpecId, user: UserId, now: Timestamp) -> Result<Option<Upload>> {
    let row = sqlx::query_as!(
        Upload,
        "SELECT source, source_url FROM spec_uploads WHERE id = $1 AND user_id = $2 AND expires_at > $3",
        id.uuid(),
        user.uuid(),
        now,
    );
    Ok(row.fetch_optional(&mut **tx).await?)
}
