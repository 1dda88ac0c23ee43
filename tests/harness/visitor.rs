//! A person at the portal, by HTTP: cookies, redirects, and forms with their tokens.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Client, Method, RequestBuilder, Url, header, multipart};

use crate::{
    page::{Form, Page, Value},
    wait,
};

/// A browser of one person: it keeps the person's cookies.
#[derive(Debug, Clone)]
pub struct Visitor {
    http: Client,
    base: Url,
}

/// A client for anything on this machine.
pub fn client() -> anyhow::Result<Client> {
    Ok(Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?)
}

impl Visitor {
    /// Somebody new at the portal.
    pub fn new(portal: &str) -> anyhow::Result<Self> {
        let http = Client::builder().no_proxy().cookie_store(true).timeout(Duration::from_secs(60)).build()?;
        Ok(Self { http, base: portal.parse()? })
    }

    /// Somebody who signs in.
    pub async fn signed_in(portal: &str, email: &str, password: &str) -> anyhow::Result<Self> {
        let visitor = Self::new(portal)?;
        let form = visitor.open("/sign-in").await?.form("Sign in")?.set("email", email)?.set("password", password)?;
        let page = visitor.send(form).await?;
        if page.url.path() == "/sign-in" {
            bail!("{email} could not sign in: {page}");
        }
        Ok(visitor)
    }

    /// A request with the person's cookies, for what is no page.
    pub fn request(&self, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
        Ok(self.http.request(method, self.base.join(path)?))
    }

    /// Loads whatever stands at a path.
    pub async fn fetch(&self, path: &str) -> anyhow::Result<Page> {
        read(self.request(Method::GET, path)?).await
    }

    /// Loads a page that must be there.
    pub async fn open(&self, path: &str) -> anyhow::Result<Page> {
        let page = self.fetch(path).await?;
        if !page.status.is_success() {
            bail!("{path} cannot be opened: {page}");
        }
        Ok(page)
    }

    /// Sends a form, whatever comes of it.
    pub async fn try_send(&self, form: Form) -> anyhow::Result<Page> {
        let origin = form.action.origin().ascii_serialization();
        let is_multipart = form.is_multipart();
        let mut pairs = Vec::new();
        let mut parts = multipart::Form::new();
        for field in form.fields {
            match field.value {
                Some(Value::Text(text)) if is_multipart => parts = parts.text(field.name, text),
                Some(Value::Text(text)) => pairs.push((field.name, text)),
                Some(Value::File { name, bytes }) => parts = parts.part(field.name, multipart::Part::bytes(bytes).file_name(name)),
                // A browser sends a file that was not chosen as an empty part.
                None if is_multipart => parts = parts.part(field.name, multipart::Part::bytes(Vec::new()).file_name("")),
                None => {}
            }
        }
        if form.is_get {
            return read(self.http.get(form.action).query(&pairs)).await;
        }
        let request = self.http.post(form.action).header(header::ORIGIN, origin);
        read(if is_multipart { request.multipart(parts) } else { request.form(&pairs) }).await
    }

    /// Sends a form that must be taken.
    pub async fn send(&self, form: Form) -> anyhow::Result<Page> {
        let action = form.action.clone();
        let page = self.try_send(form).await?;
        if !page.status.is_success() {
            bail!("the form for {action} was refused: {page}");
        }
        Ok(page)
    }

    /// Signs up, reads the mail in the development mailbox, and verifies the address by its link, which signs in.
    pub async fn sign_up(portal: &str, name: &str, email: &str, password: &str) -> anyhow::Result<Self> {
        let visitor = Self::new(portal)?;
        let form = visitor.open("/sign-up").await?.form("Sign up")?;
        let page = visitor.send(form.set("name", name)?.set("email", email)?.set("password", password)?).await?;
        if !page.text().contains("Check your mail") {
            bail!("signing up should send a mail: {page}");
        }
        let (link, _) = wait::until("the mail with the link", Duration::from_secs(5), async || visitor.link_for(email).await).await?;
        let page = visitor.send(visitor.open(&link).await?.form("Verify address")?.set("password", password)?).await?;
        if ["/verify", "/sign-in"].contains(&page.url.path()) {
            bail!("verifying should sign {email} in: {page}");
        }
        Ok(visitor)
    }

    /// The link in the newest mail to an address.
    async fn link_for(&self, email: &str) -> anyhow::Result<Option<String>> {
        let mailbox = self.open("/dev/mailbox").await?;
        let (rows, mails) = (mailbox.texts("tbody tr"), mailbox.attributes("tbody tr a", "href"));
        let Some((_, mail)) = rows.iter().zip(mails).find(|(row, _)| row.contains(email)) else { return Ok(None) };
        Ok(self.open(&mail).await?.attributes(".mail-text a", "href").into_iter().next())
    }
}

async fn read(request: RequestBuilder) -> anyhow::Result<Page> {
    let response = request.send().await?;
    let (status, url) = (response.status(), response.url().clone());
    let html = response.text().await.with_context(|| format!("cannot read {url}"))?;
    Ok(Page { status, url, html })
}
