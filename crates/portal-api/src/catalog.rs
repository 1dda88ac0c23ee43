//! What is sold: API products and meters.

use calendar::Timestamp;
use ids::{ApiProductId, MeterId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// An API product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiProduct {
    /// Its id.
    pub id: ApiProductId,
    /// Its name in URLs.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// One sentence.
    pub summary: String,
    /// Markdown.
    pub description: String,
    /// The address under which the gateway serves it.
    pub base_url: String,
    /// Since when it is listed; absent for a draft, which operators see only.
    pub published_at: Option<Timestamp>,
}

/// What to import a document as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ImportQuery {
    /// The product to create, or to give a new edition of its document.
    pub slug: String,
    /// The name of a new product; the document's title if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where the gateway sends the calls; if absent, the document's first server, or what an existing product has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_url: Option<String>,
    /// Whether to publish the product, too.
    #[serde(default)]
    pub publish: bool,
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportReport {
    /// The product.
    pub product: ApiProduct,
    /// Whether it is new.
    pub created: bool,
    /// The edition of the document, 1 for the first.
    pub edition: i32,
    /// Routes that are new, such as `GET /pets`.
    pub added: Vec<String>,
    /// Routes whose names or texts changed.
    pub changed: Vec<String>,
    /// Routes that were retired.
    pub removed: Vec<String>,
    /// How many routes stay as they were.
    pub unchanged: u64,
    /// What was tolerated in the document.
    pub warnings: Vec<String>,
}

/// What is counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Meter {
    /// Its id.
    pub id: MeterId,
    /// Its name in forms and files.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// What one unit is called, in the singular.
    pub unit: String,
    /// How units add up.
    pub aggregation: MeterAggregation,
}

/// Asks for a meter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateMeter {
    /// 1 to 63 lower-case letters, digits, hyphens and underscores.
    #[schema(min_length = 1, max_length = 63)]
    pub slug: String,
    /// 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// 1 to 40 characters.
    #[schema(min_length = 1, max_length = 40)]
    pub unit: String,
    /// How units add up. It cannot be changed later.
    pub aggregation: MeterAggregation,
}

/// How the units of calls become the quantity of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MeterAggregation {
    /// The number of calls.
    Count,
    /// The sum of the units that calls declare.
    Sum,
    /// The largest units of a call.
    Max,
    /// The number of different values.
    UniqueCount,
    /// The last value.
    Latest,
}
