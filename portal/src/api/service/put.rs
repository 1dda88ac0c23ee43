use axum::Json;
use portal_api::{Service, ServiceSettings};

use super::{read, shown};
use crate::{
    api::{
        call::ApiCall,
        extract::{self, Path},
        problem::Problem,
    },
    catalog::api_product,
};

/// Set where a product's calls go
///
/// For operators. What is left out takes its default.
#[utoipa::path(
    put, path = "/products/{slug}/service", operation_id = "service.put", tag = "operator",
    params(("slug" = String, Path)), request_body = ServiceSettings, responses((status = OK, body = Service)))]
pub(super) async fn put_service(
    mut call: ApiCall,
    Path(slug): Path<String>,
    extract::Json(body): extract::Json<ServiceSettings>,
) -> Result<Json<Service>, Problem> {
    let service = api_product::update_service(&mut call.tx, &call.actor, &slug, read(body), call.now).await?;
    call.commit().await?;
    Ok(Json(shown(service)))
}
