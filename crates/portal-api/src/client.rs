//! A typed client of the REST API.

use ids::{ApiKeyId, ApiTokenId, ApplicationId, RouteId, SubscriptionId, TenantId};
use reqwest::{Method, RequestBuilder};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    ApiKey, ApiProduct, ApiToken, Application, ChangeSubscription, CreateApplication, CreateKey, CreateMeter, CreateProduct, CreateRoute,
    CreateSubscription, CreateToken, CreatedKey, CreatedToken, ImportQuery, ImportReport, List, Meter, PageQuery, Plan, Problem, RotateKey,
    Route, RouteMatch, RouteSettings, Service, ServiceSettings, Subscription, SubscriptionQuery,
};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The portal could not be reached, or its answer was not what the API promises.
    #[error("the portal could not be reached: {0}")]
    Transport(#[from] reqwest::Error),
    /// The portal refused.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// An answer that is neither the promised one nor a problem, such as one of a proxy in between.
    #[error("the portal answered {0}, and not in the way of its API")]
    Unexpected(u16),
}

/// A client with a token.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
    tenant: Option<TenantId>,
}

impl Client {
    /// A client of the portal at `base`, such as `https://portal.example.com`, with a token `tk_rest_…`.
    pub fn new(http: reqwest::Client, base: &str, token: impl Into<String>) -> Self {
        Self { http, base: base.trim_end_matches('/').to_owned(), token: token.into(), tenant: None }
    }

    /// Names the organization in every call; needed where the token is not bound to one.
    #[must_use]
    pub fn with_tenant(mut self, tenant: TenantId) -> Self {
        self.tenant = Some(tenant);
        self
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}/api/v1{path}", self.base)).bearer_auth(&self.token);
        match self.tenant {
            Some(tenant) => request.header("Tollkeeper-Tenant", tenant.to_string()),
            None => request,
        }
    }

    async fn succeed(request: RequestBuilder) -> Result<reqwest::Response, ClientError> {
        let response = request.send().await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await?;
        let problem = serde_json::from_slice(&body).map_err(|_| ClientError::Unexpected(status.as_u16()))?;
        Err(ClientError::Problem(Box::new(problem)))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        Ok(Self::succeed(self.request(Method::GET, path)).await?.json().await?)
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        Ok(Self::succeed(self.request(Method::POST, path).json(body)).await?.json().await?)
    }

    async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        Ok(Self::succeed(self.request(Method::PUT, path).json(body)).await?.json().await?)
    }

    async fn delete(&self, path: &str) -> Result<(), ClientError> {
        Self::succeed(self.request(Method::DELETE, path)).await?;
        Ok(())
    }

    async fn query<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> Result<T, ClientError> {
        Ok(Self::succeed(self.request(Method::GET, path).query(query)).await?.json().await?)
    }

    /// `GET /api/v1/applications`.
    pub async fn list_applications(&self, page: &PageQuery) -> Result<List<Application>, ClientError> {
        self.query("/applications", page).await
    }

    /// `POST /api/v1/applications`.
    pub async fn create_application(&self, body: &CreateApplication) -> Result<Application, ClientError> {
        self.post("/applications", body).await
    }

    /// `GET /api/v1/applications/{application}`.
    pub async fn get_application(&self, application: ApplicationId) -> Result<Application, ClientError> {
        self.get(&format!("/applications/{application}")).await
    }

    /// `DELETE /api/v1/applications/{application}`.
    pub async fn archive_application(&self, application: ApplicationId) -> Result<(), ClientError> {
        self.delete(&format!("/applications/{application}")).await
    }

    /// `GET /api/v1/applications/{application}/keys`.
    pub async fn list_keys(&self, application: ApplicationId) -> Result<List<ApiKey>, ClientError> {
        self.get(&format!("/applications/{application}/keys")).await
    }

    /// `POST /api/v1/applications/{application}/keys`.
    pub async fn create_key(&self, application: ApplicationId, body: &CreateKey) -> Result<CreatedKey, ClientError> {
        self.post(&format!("/applications/{application}/keys"), body).await
    }

    /// `POST /api/v1/applications/{application}/keys/{key}/rotate`.
    pub async fn rotate_key(&self, application: ApplicationId, key: ApiKeyId, body: &RotateKey) -> Result<CreatedKey, ClientError> {
        self.post(&format!("/applications/{application}/keys/{key}/rotate"), body).await
    }

    /// `DELETE /api/v1/applications/{application}/keys/{key}`.
    pub async fn revoke_key(&self, application: ApplicationId, key: ApiKeyId) -> Result<(), ClientError> {
        self.delete(&format!("/applications/{application}/keys/{key}")).await
    }

    /// `GET /api/v1/subscriptions`.
    pub async fn list_subscriptions(&self, query: &SubscriptionQuery) -> Result<List<Subscription>, ClientError> {
        self.query("/subscriptions", query).await
    }

    /// `POST /api/v1/subscriptions`.
    pub async fn create_subscription(&self, body: &CreateSubscription) -> Result<Subscription, ClientError> {
        self.post("/subscriptions", body).await
    }

    /// `GET /api/v1/subscriptions/{subscription}`.
    pub async fn get_subscription(&self, subscription: SubscriptionId) -> Result<Subscription, ClientError> {
        self.get(&format!("/subscriptions/{subscription}")).await
    }

    /// `POST /api/v1/subscriptions/{subscription}/change`; answers the new subscription.
    pub async fn change_subscription(&self, subscription: SubscriptionId, body: &ChangeSubscription) -> Result<Subscription, ClientError> {
        self.post(&format!("/subscriptions/{subscription}/change"), body).await
    }

    /// `DELETE /api/v1/subscriptions/{subscription}`.
    pub async fn cancel_subscription(&self, subscription: SubscriptionId) -> Result<(), ClientError> {
        self.delete(&format!("/subscriptions/{subscription}")).await
    }

    /// `GET /api/v1/products`.
    pub async fn list_products(&self) -> Result<List<ApiProduct>, ClientError> {
        self.get("/products").await
    }

    /// `GET /api/v1/products/{slug}`.
    pub async fn get_product(&self, slug: &str) -> Result<ApiProduct, ClientError> {
        self.get(&format!("/products/{slug}")).await
    }

    /// `POST /api/v1/products/import` with an OpenAPI document in JSON or YAML.
    pub async fn import_product(&self, query: &ImportQuery, document: Vec<u8>) -> Result<ImportReport, ClientError> {
        let request = self.request(Method::POST, "/products/import").query(query).header("content-type", "application/yaml").body(document);
        Ok(Self::succeed(request).await?.json().await?)
    }

    /// `POST /api/v1/products`.
    pub async fn create_product(&self, body: &CreateProduct) -> Result<ApiProduct, ClientError> {
        self.post("/products", body).await
    }

    /// `GET /api/v1/products/{slug}/service`.
    pub async fn get_service(&self, slug: &str) -> Result<Service, ClientError> {
        self.get(&format!("/products/{slug}/service")).await
    }

    /// `PUT /api/v1/products/{slug}/service`.
    pub async fn put_service(&self, slug: &str, body: &ServiceSettings) -> Result<Service, ClientError> {
        self.put(&format!("/products/{slug}/service"), body).await
    }

    /// `GET /api/v1/products/{slug}/routes`.
    pub async fn list_routes(&self, slug: &str) -> Result<List<Route>, ClientError> {
        self.get(&format!("/products/{slug}/routes")).await
    }

    /// `POST /api/v1/products/{slug}/routes`.
    pub async fn create_route(&self, slug: &str, body: &CreateRoute) -> Result<Route, ClientError> {
        self.post(&format!("/products/{slug}/routes"), body).await
    }

    /// `GET /api/v1/products/{slug}/routes/{route}`.
    pub async fn get_route(&self, slug: &str, route: RouteId) -> Result<Route, ClientError> {
        self.get(&format!("/products/{slug}/routes/{route}")).await
    }

    /// `PUT /api/v1/products/{slug}/routes/{route}`.
    pub async fn put_route(&self, slug: &str, route: RouteId, body: &RouteMatch) -> Result<Route, ClientError> {
        self.put(&format!("/products/{slug}/routes/{route}"), body).await
    }

    /// `PUT /api/v1/products/{slug}/routes/{route}/settings`.
    pub async fn put_route_settings(&self, slug: &str, route: RouteId, body: &RouteSettings) -> Result<Route, ClientError> {
        self.put(&format!("/products/{slug}/routes/{route}/settings"), body).await
    }

    /// `DELETE /api/v1/products/{slug}/routes/{route}`.
    pub async fn retire_route(&self, slug: &str, route: RouteId) -> Result<(), ClientError> {
        self.delete(&format!("/products/{slug}/routes/{route}")).await
    }

    /// `GET /api/v1/plans`.
    pub async fn list_plans(&self) -> Result<List<Plan>, ClientError> {
        self.get("/plans").await
    }

    /// `GET /api/v1/plans/{slug}`.
    pub async fn get_plan(&self, slug: &str) -> Result<Plan, ClientError> {
        self.get(&format!("/plans/{slug}")).await
    }

    /// `GET /api/v1/meters`.
    pub async fn list_meters(&self) -> Result<List<Meter>, ClientError> {
        self.get("/meters").await
    }

    /// `POST /api/v1/meters`.
    pub async fn create_meter(&self, body: &CreateMeter) -> Result<Meter, ClientError> {
        self.post("/meters", body).await
    }

    /// `GET /api/v1/tokens`.
    pub async fn list_tokens(&self) -> Result<List<ApiToken>, ClientError> {
        self.get("/tokens").await
    }

    /// `POST /api/v1/tokens`.
    pub async fn create_token(&self, body: &CreateToken) -> Result<CreatedToken, ClientError> {
        self.post("/tokens", body).await
    }

    /// `DELETE /api/v1/tokens/{token}`.
    pub async fn revoke_token(&self, token: ApiTokenId) -> Result<(), ClientError> {
        self.delete(&format!("/tokens/{token}")).await
    }
}
