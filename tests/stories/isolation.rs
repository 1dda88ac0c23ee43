//! Two organizations: neither sees, guesses or changes the other's things, on pages and by REST, and what is not yours does not exist.

use anyhow::Context;
use e2e::{
    caller::Caller,
    stack::Story,
    steps::Application,
    visitor::{Visitor, client},
    wait,
};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::check;

/// What an organization has, by id.
struct Belongings {
    application: Application,
    key: String,
    subscription: String,
    tenant: String,
    token_id: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn organizations_do_not_see_each_other() -> anyhow::Result<()> {
    Story::tell(async |story| {
        let anna = story.newcomer("Anna Armada", "anna@example.com").await?;
        anna.create_organization("Armada").await?;
        let (application, text) = anna.ready_to_call("Armada fleet", "scale").await?;
        let anna_api = Rest::new(story, &anna).await?;
        let belongings = anna_api.belongings(application).await?;
        Caller::new(&story.gateway(), &text)?.get("/weather/v1/cities").await?;
        let attempt = async || Ok((anna.usage().await?.calls() > 0).then_some(()));
        wait::until("a call to hide", std::time::Duration::from_secs(5), attempt).await?;

        let ben = story.newcomer("Ben Barge", "ben@example.com").await?;
        ben.create_organization("Barge").await?;
        let ben_api = Rest::new(story, &ben).await?;
        pages_show_nothing(&ben, &belongings).await?;
        forms_change_nothing(&ben, &belongings).await?;
        rest_shows_and_changes_nothing(&ben_api, &belongings).await?;
        operator_pages_are_closed(&ben).await?;
        check!(ben.usage().await?.calls() == 0, "another's calls are not one's own");

        // Nothing happened to what Anna has.
        let page = anna.open(&belongings.application.path).await?;
        check!(page.text().contains("Armada fleet") && page.text().contains("Active"), "Anna's things are as they were: {page}");
        let answer = Caller::new(&story.gateway(), &text)?.get("/weather/v1/cities").await?;
        check!(answer.status.is_success(), "Anna's key works on: {answer:?}");
        Ok(())
    })
    .await
}

/// A person's REST client.
struct Rest {
    http: Client,
    base: String,
    token: String,
}

impl Rest {
    async fn new(story: &Story, person: &Visitor) -> anyhow::Result<Self> {
        Ok(Self { http: client()?, base: format!("{}/api/v1", story.portal()), token: person.create_token().await? })
    }

    async fn call(&self, method: Method, path: &str, tenant: Option<&str>, body: Option<Value>) -> anyhow::Result<(StatusCode, Value)> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(tenant) = tenant {
            request = request.header("Tollkeeper-Tenant", tenant);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    async fn first(&self, path: &str) -> anyhow::Result<Value> {
        let (status, body) = self.call(Method::GET, path, None, None).await?;
        check!(status.is_success(), "{path} answers {status}: {body}");
        body["items"].get(0).cloned().with_context(|| format!("{path} lists something: {body}"))
    }

    async fn belongings(&self, application: Application) -> anyhow::Result<Belongings> {
        let id = |value: Value| value["id"].as_str().map(str::to_owned).context("things have ids");
        let token = self.first("/tokens").await?;
        Ok(Belongings {
            key: id(self.first(&format!("/applications/{}/keys", application.id)).await?)?,
            subscription: id(self.first("/subscriptions").await?)?,
            tenant: token["tenant"].as_str().context("the token is bound to the organization")?.to_owned(),
            token_id: id(token)?,
            application,
        })
    }
}

async fn pages_show_nothing(ben: &Visitor, anna: &Belongings) -> anyhow::Result<()> {
    for path in [anna.application.path.clone(), format!("/subscriptions/{}", anna.subscription)] {
        let page = ben.fetch(&path).await?;
        check!(page.status == StatusCode::NOT_FOUND && !page.text().contains("Armada"), "{path} does not exist for others: {page}");
    }
    let filters = [
        format!("/usage?application={}", anna.application.id),
        format!("/usage?key={}", anna.key),
        format!("/subscribe?plan=free&application={}", anna.application.id),
    ];
    let lists =
        ["/overview", "/applications", "/subscriptions?all=1", "/usage", "/invoices", "/settings", "/settings/members", "/settings/tokens"];
    for path in lists.into_iter().map(str::to_owned).chain(filters).chain(["/settings/audit".to_owned()]) {
        let page = ben.open(&path).await?;
        check!(!page.html.contains("Armada"), "{path} names another's things: {page}");
    }
    Ok(())
}

/// Ben's own form tokens, sent to Anna's addresses.
async fn forms_change_nothing(ben: &Visitor, anna: &Belongings) -> anyhow::Result<()> {
    let page = ben.open("/settings").await?;
    let csrf = page.attributes("input[name=csrf]", "value").into_iter().next().context("pages hold a form token")?;
    let application = &anna.application.path;
    let forms = [
        (application.clone(), "name=Mine"),
        (format!("{application}/archive"), "confirm=Armada+fleet"),
        (format!("{application}/keys"), "name=Mine&mode=live"),
        (format!("{application}/keys/{}/revoke", anna.key), "confirm=yes"),
        (format!("{application}/keys/{}/rotate", anna.key), "overlap_seconds=0"),
        (format!("/subscriptions/{}/cancel", anna.subscription), "confirm=yes"),
        (format!("/subscriptions/{}/pause", anna.subscription), ""),
        (format!("/subscriptions/{}/change", anna.subscription), "plan=free"),
        (format!("/settings/tokens/{}/revoke", anna.token_id), "confirm=yes"),
        ("/tenants/switch".to_owned(), &*format!("tenant={}", anna.tenant)),
    ]
    .map(|(path, fields)| (path, format!("csrf={csrf}&{fields}")));
    for (path, body) in forms {
        let request = ben.request(Method::POST, &path)?.header("content-type", "application/x-www-form-urlencoded").body(body);
        let answer = request.send().await?;
        check!(answer.status() == StatusCode::NOT_FOUND, "POST {path} answers {}: {}", answer.status(), answer.text().await?);
    }
    // Without a token of the session, not even one's own forms are taken.
    let request =
        ben.request(Method::POST, "/applications")?.header("content-type", "application/x-www-form-urlencoded").body("name=Forged");
    let status = request.send().await?.status();
    check!(status == StatusCode::FORBIDDEN, "a form without its token answers {status}");
    Ok(())
}

async fn rest_shows_and_changes_nothing(ben: &Rest, anna: &Belongings) -> anyhow::Result<()> {
    let application = format!("/applications/{}", anna.application.id);
    let subscription = format!("/subscriptions/{}", anna.subscription);
    let calls = [
        (Method::GET, application.clone(), None),
        (Method::DELETE, application.clone(), None),
        (Method::GET, format!("{application}/keys"), None),
        (Method::POST, format!("{application}/keys"), Some(json!({ "name": "Mine", "mode": "live" }))),
        (Method::DELETE, format!("{application}/keys/{}", anna.key), None),
        (Method::POST, format!("{application}/keys/{}/rotate", anna.key), Some(json!({ "overlap_seconds": 0 }))),
        (Method::GET, subscription.clone(), None),
        (Method::DELETE, subscription.clone(), None),
        (Method::POST, format!("{subscription}/change"), Some(json!({ "plan": "free" }))),
        (Method::POST, "/subscriptions".to_owned(), Some(json!({ "application": anna.application.id, "plan": "free" }))),
        (Method::DELETE, format!("/tokens/{}", anna.token_id), None),
    ];
    for (method, path, body) in calls {
        for tenant in [None, Some(anna.tenant.as_str())] {
            let (status, problem) = ben.call(method.clone(), &path, tenant, body.clone()).await?;
            check!(
                status == StatusCode::NOT_FOUND && !problem.to_string().contains("Armada"),
                "{method} {path} as {tenant:?}: {status} {problem}"
            );
        }
    }
    for path in ["/applications", "/subscriptions", "/tokens"] {
        let (status, body) = ben.call(Method::GET, path, None, None).await?;
        check!(status.is_success() && !body.to_string().contains("Armada"), "{path} lists another's things: {body}");
    }
    Ok(())
}

async fn operator_pages_are_closed(ben: &Visitor) -> anyhow::Result<()> {
    for path in ["/admin/products", "/admin/plans", "/admin/tenants", "/admin/gateways", "/admin/invoices", "/admin/products/import"] {
        let page = ben.fetch(path).await?;
        check!(matches!(page.status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND), "{path} is for operators: {page}");
    }
    Ok(())
}
