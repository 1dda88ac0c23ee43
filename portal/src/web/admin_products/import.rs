//! Importing a document: upload or address, preview, confirmation.

use askama::Template;
use axum::{
    extract::{Multipart, Path, Query, multipart::Field},
    response::{Html, IntoResponse, Redirect, Response},
};
use ids::SpecId;
use serde::Deserialize;
use url::Url;

use crate::{
    app::App,
    catalog::{
        import::{self, Import, Preview},
        spec::{self, Document, Upstream, fetch},
    },
    error::{Error, Kind, Result},
    identity::Permission,
    web::{belongs_on_form, call::UserCall, failure::Failure, form::Posted, form_status, no_error, shell::Shell},
};

/// The most bytes of a text field beside the document.
const MAX_TEXT_BYTES: usize = 4_000;

/// The most routes that a preview lists of a kind.
const SHOWN_ROUTES: usize = 30;

#[derive(Template)]
#[template(path = "pages/admin/products/import.html")]
struct FormPage {
    shell: Shell,
    url: String,
    /// The product that gets a new edition; empty for a new product.
    slug: String,
    error: Error,
}

impl FormPage {
    /// Everything that is wrong with the document, a line each.
    fn problems(&self) -> Vec<&str> {
        self.error.fields.iter().filter(|field| field.field == "document").map(|field| field.message.as_str()).collect()
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Target {
    #[serde(default)]
    slug: String,
}

pub(super) async fn form(call: UserCall, Query(target): Query<Target>) -> Result<Response, Failure> {
    call.actor.require(Permission::Operate)?;
    form_page(call, String::new(), target.slug, no_error()).await
}

async fn form_page(mut call: UserCall, url: String, slug: String, error: Error) -> Result<Response, Failure> {
    let status = form_status(&error);
    let shell = call.shell("Import an API", "admin-products").await?;
    Ok((status, Html(FormPage { shell, url, slug, error }.render()?)).into_response())
}

/// The fields of the multipart form.
#[derive(Debug, Default)]
struct Sent {
    csrf: String,
    url: String,
    slug: String,
    document: Vec<u8>,
}

pub(super) async fn upload(call: UserCall, multipart: Multipart) -> Result<Response, Failure> {
    // Before the body is read, so that nobody else can make the portal read megabytes.
    call.actor.require(Permission::Operate)?;
    let sent = read_fields(multipart).await?;
    call.check_csrf(&sent.csrf)?;
    let app = call.app.clone();
    let (mut call, read) = call.aside(read(&app, &sent)).await?;
    match read {
        Ok(Read { source, source_url, document }) => {
            let id = import::keep_upload(&mut call.tx, &call.actor, &source, source_url.as_deref(), call.now).await?;
            let slug = if sent.slug.is_empty() { import::suggest_slug(&document) } else { sent.slug };
            let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("slug", &slug).finish();
            call.commit().await?;
            Ok(Redirect::to(&format!("/admin/products/import/{id}?{query}")).into_response())
        }
        Err(error) if belongs_on_form(&error) || error.kind == Kind::TooLarge => form_page(call, sent.url, sent.slug, error).await,
        Err(error) => Err(error.into()),
    }
}

/// A document that was sent or fetched, and found good.
struct Read {
    source: Vec<u8>,
    source_url: Option<String>,
    document: Document,
}

/// Reads the document, wherever it is, and checks it.
async fn read(app: &App, sent: &Sent) -> Result<Read> {
    let (source, url) = match (sent.document.is_empty(), sent.url.trim()) {
        (false, "") => (sent.document.clone(), None),
        (true, "") => return Err(Error::invalid("file", "Choose a file, or enter the address of a document.")),
        (true, address) => {
            let fetched = fetch::fetch(address, app.config.import_allow_private).await?;
            (fetched.bytes, Some(fetched.url))
        }
        (false, _) => return Err(Error::invalid("url", "Choose a file or enter an address, not both.")),
    };
    let source_url = url.as_ref().map(Url::to_string);
    let (source, document) = import::read(source, url).await?;
    Ok(Read { source, source_url, document })
}

async fn read_fields(mut multipart: Multipart) -> Result<Sent> {
    let mut sent = Sent::default();
    while let Some(field) = multipart.next_field().await.map_err(|error| unreadable(&error))? {
        match field.name().unwrap_or_default() {
            "csrf" => sent.csrf = text(field).await?,
            "url" => sent.url = text(field).await?,
            "slug" => sent.slug = text(field).await?,
            "file" => sent.document = bytes(field, spec::MAX_BYTES).await?,
            _ => {}
        }
    }
    Ok(sent)
}

async fn text(field: Field<'_>) -> Result<String> {
    Ok(String::from_utf8_lossy(&bytes(field, MAX_TEXT_BYTES).await?).into_owned())
}

async fn bytes(mut field: Field<'_>, max: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| unreadable(&error))? {
        if bytes.len() + chunk.len() > max {
            return Err(Error::new(Kind::TooLarge, "The file is larger than 10 MiB. Please go back and choose a smaller document."));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn unreadable(error: &axum::extract::multipart::MultipartError) -> Error {
    if error.status() == 413 {
        return Error::new(Kind::TooLarge, "The file is larger than 10 MiB. Please go back and choose a smaller document.");
    }
    let mut problem = Error::new(Kind::Invalid, "The form could not be read. Please go back and try again.");
    problem.internal = Some(anyhow::anyhow!("{error}"));
    problem
}

/// The fields of the confirmation.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Confirmation {
    #[serde(default)]
    slug: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    upstream_url: String,
    #[serde(default)]
    action: String,
}

#[derive(Template)]
#[template(path = "pages/admin/products/preview.html")]
struct PreviewPage {
    shell: Shell,
    upload: SpecId,
    document: Document,
    preview: Preview,
    form: Confirmation,
    error: Error,
}

impl PreviewPage {
    fn upstream_hint(&self) -> String {
        match (&self.preview.product, &self.document.upstream) {
            (None, Upstream::Usable(_)) => {
                "As the document says. The gateway sends the calls there; it may be an address inside your network.".to_owned()
            }
            (None, Upstream::Guess { why, .. }) => {
                format!("{why} The gateway sends the calls there; it may be an address inside your network.")
            }
            (Some(_), _) => "Where the gateway sends the calls of this product.".to_owned(),
        }
    }

    /// The kinds of changes, each with the first of its routes and how many more there are.
    fn changes(&self) -> Vec<(&'static str, &[String], usize)> {
        let changes = &self.preview.changes;
        [("Added", &changes.added), ("Changed", &changes.changed), ("Removed", &changes.removed)]
            .into_iter()
            .filter(|(_, routes)| !routes.is_empty())
            .map(|(name, routes)| (name, routes.get(..SHOWN_ROUTES).unwrap_or(routes), routes.len().saturating_sub(SHOWN_ROUTES)))
            .collect()
    }
}

pub(super) async fn preview(mut call: UserCall, Path(upload): Path<SpecId>, Query(target): Query<Target>) -> Result<Response, Failure> {
    let found = import::upload(&mut call.tx, &call.actor, upload, call.now).await?;
    let (_, document) = import::read(found.source, found.source_url.and_then(|url| url.parse().ok())).await?;
    let form = Confirmation { slug: target.slug, ..Confirmation::default() };
    preview_page(call, upload, document, form, no_error()).await
}

async fn preview_page(
    mut call: UserCall,
    upload: SpecId,
    document: Document,
    mut form: Confirmation,
    error: Error,
) -> Result<Response, Failure> {
    let preview = import::preview(&mut call.tx, &call.actor, &form.slug, &document).await?;
    if form.action.is_empty() {
        // The form is shown for the first time, or for another product.
        let current = preview.service.as_ref().map(|service| service.settings.upstream_url.clone());
        form.upstream_url = current.unwrap_or_else(|| document.upstream.suggestion().to_owned());
        form.name = preview.product.as_ref().map_or_else(|| spec::shorten(&document.title, 100), |product| product.name.clone());
    }
    let status = form_status(&error);
    let shell = call.shell("Import an API", "admin-products").await?;
    Ok((status, Html(PreviewPage { shell, upload, document, preview, form, error }.render()?)).into_response())
}

pub(super) async fn confirm(
    Path(upload): Path<SpecId>,
    Posted(mut call, form): Posted<UserCall, Confirmation>,
) -> Result<Response, Failure> {
    let found = import::upload(&mut call.tx, &call.actor, upload, call.now).await?;
    let (source, document) = import::read(found.source, found.source_url.as_ref().and_then(|url| url.parse().ok())).await?;
    if form.action != "import" {
        let form = Confirmation { slug: form.slug, ..Confirmation::default() };
        return preview_page(call, upload, document, form, no_error()).await;
    }
    let input = Import {
        slug: form.slug.trim().to_owned(),
        name: Some(form.name.trim().to_owned()),
        upstream_url: Some(form.upstream_url.clone()),
        source_url: found.source_url,
        source,
        document: document.clone(),
    };
    match import::import(&mut call.tx, &call.actor, input, call.now).await {
        Ok(imported) => {
            import::discard_uploads(&mut call.tx, &call.actor, call.now).await?;
            let text = if imported.created {
                format!("{} is imported as a draft. Look at it, then publish it.", imported.product.name)
            } else {
                let changes = &imported.changes;
                let counts = (changes.added.len(), changes.changed.len(), changes.removed.len());
                format!("Edition {} is in force: {} routes added, {} changed, {} removed.", imported.edition, counts.0, counts.1, counts.2)
            };
            let to = format!("/admin/products/{}", imported.product.slug);
            Ok(call.commit_and_go(&to, "success", text).await?.into_response())
        }
        Err(error) if belongs_on_form(&error) => {
            // A violated constraint has ended the transaction; the page needs one to read.
            let app = call.app.clone();
            call.tx = app.begin().await?;
            preview_page(call, upload, document, form, error).await
        }
        Err(error) => Err(error.into()),
    }
}
