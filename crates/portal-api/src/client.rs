//! A typed client of the REST API.

use ids::{ApiTokenId, TenantId};
use reqwest::{Method, RequestBuilder};
use serde::{Serialize, de::DeserializeOwned};

use crate::{ApiToken, CreateToken, CreatedToken, List, Problem};

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

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        Ok(Self::succeed(self.request(Method::GET, path)).await?.json().await?)
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        Ok(Self::succeed(self.request(Method::POST, path).json(body)).await?.json().await?)
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<(), ClientError> {
        Self::succeed(self.request(Method::DELETE, path)).await?;
        Ok(())
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
