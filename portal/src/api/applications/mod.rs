//! `/api/v1/applications`.

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{app::App, applications};

mod archive;
mod create;
mod get;
mod list;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list::list_applications, create::create_application))
        .routes(routes!(get::get_application, archive::archive_application))
}

fn shown(application: applications::Application) -> portal_api::Application {
    portal_api::Application {
        id: application.id,
        name: application.name,
        description: application.description,
        created_at: application.created_at,
        archived_at: application.archived_at,
    }
}
