//! What is counted, and how.

use std::{fmt, str::FromStr};

use calendar::Timestamp;
use ids::MeterId;
use serde::{Deserialize, Serialize};

use super::check::Problems;
use crate::{
    audit::{self, Entry},
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
};

mod store;

/// The slug of the meter that an imported route counts its calls with.
pub const REQUESTS: &str = "requests";

/// How the units of calls become the quantity of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
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

impl Aggregation {
    /// All of them, in the order in which a form offers them.
    pub const ALL: [Self; 5] = [Self::Count, Self::Sum, Self::Max, Self::UniqueCount, Self::Latest];

    /// The name in JSON and in Postgres.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Max => "max",
            Self::UniqueCount => "unique_count",
            Self::Latest => "latest",
        }
    }

    /// What it does, for people.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Count => "Number of calls",
            Self::Sum => "Sum of the units that calls declare",
            Self::Max => "Largest value",
            Self::UniqueCount => "Number of different values",
            Self::Latest => "Last value",
        }
    }
}

impl FromStr for Aggregation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|aggregation| aggregation.as_str() == text)
            .ok_or_else(|| "Choose count, sum, max, unique_count or latest.".to_owned())
    }
}

impl fmt::Display for Aggregation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meter {
    /// Its id.
    pub id: MeterId,
    /// Its name in REST and in forms.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// What one unit is called, in the singular: "request", "token".
    pub unit: String,
    /// How units add up.
    pub aggregation: Aggregation,
    /// When it was created.
    pub created_at: Timestamp,
}

impl Meter {
    /// The unit's name for a quantity: "1 request", "2 requests".
    pub fn unit_for(&self, is_one: bool) -> String {
        if is_one { self.unit.clone() } else { plural(&self.unit) }
    }

    /// The plural of the unit's name.
    pub fn units(&self) -> String {
        plural(&self.unit)
    }
}

/// The regular English plural, which units of meters have.
pub(crate) fn plural(unit: &str) -> String {
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| unit.ends_with(suffix));
    let consonant_before_y = unit.strip_suffix('y').and_then(|stem| stem.chars().last()).is_some_and(|last| !"aeiou".contains(last));
    if let Some(stem) = unit.strip_suffix('y').filter(|_| consonant_before_y) {
        return format!("{stem}ies");
    }
    if ends(&["s", "x", "z", "ch", "sh"]) { format!("{unit}es") } else { format!("{unit}s") }
}

/// What a new meter is.
#[derive(Debug, Clone)]
pub struct NewMeter {
    /// 1 to 63 lower-case letters, digits, hyphens and underscores.
    pub slug: String,
    /// 1 to 100 characters.
    pub name: String,
    /// 1 to 40 characters, in the singular.
    pub unit: String,
    /// How units add up. It cannot be changed later.
    pub aggregation: Aggregation,
}

/// All meters, by slug.
pub async fn meters(tx: &mut Tx) -> Result<Vec<Meter>> {
    store::meters(tx).await
}

/// One meter.
pub async fn meter(tx: &mut Tx, id: MeterId) -> Result<Meter> {
    store::meter(tx, id).await?.ok_or_else(|| Error::not_found("This meter"))
}

/// Creates a meter.
pub async fn create_meter(tx: &mut Tx, actor: &Actor, input: NewMeter, now: Timestamp) -> Result<Meter> {
    actor.require(Permission::Operate)?;
    let mut problems = Problems::default();
    problems.meter_slug("slug", &input.slug);
    problems.text("name", &input.name, 1, 100);
    problems.text("unit", &input.unit, 1, 40);
    problems.finish()?;
    let meter =
        Meter { id: MeterId::new(), slug: input.slug, name: input.name, unit: input.unit, aggregation: input.aggregation, created_at: now };
    store::insert(tx, &meter).await?;
    let after = Some(serde_json::json!({"slug": meter.slug, "aggregation": meter.aggregation}));
    audit::record(tx, actor, Entry { action: "meter.created", target: meter.id.to_string(), after, ..Entry::default() }, now).await?;
    Ok(meter)
}

/// The meter `requests`, which counts calls; it is created when it is not there.
pub async fn requests_meter(tx: &mut Tx, now: Timestamp) -> Result<Meter> {
    if let Some(meter) = store::meter_by_slug(tx, REQUESTS).await? {
        return Ok(meter);
    }
    let meter = Meter {
        id: MeterId::new(),
        slug: REQUESTS.to_owned(),
        name: "Requests".to_owned(),
        unit: "request".to_owned(),
        aggregation: Aggregation::Count,
        created_at: now,
    };
    store::insert_unless_there(tx, &meter).await?;
    store::meter_by_slug(tx, REQUESTS)
        .await?
        .ok_or_else(|| Error::internal(anyhow::anyhow!("the meter `requests` vanished after its insertion")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_have_regular_plurals() {
        for (one, many) in
            [("request", "requests"), ("query", "queries"), ("day", "days"), ("batch", "batches"), ("box", "boxes"), ("byte", "bytes")]
        {
            assert_eq!(plural(one), many);
        }
    }
}
