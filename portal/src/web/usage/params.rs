//! The query string of the usage page.

use std::time::Duration;

use calendar::{Period, TimeZone, Timestamp};
use gateway_control::usage::Mode;
use ids::TenantId;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    usage::query::{Filter, Query, Slot, Stack},
};

const DAY: Duration = Duration::from_secs(86_400);

/// What the page was asked for. Empty is not chosen.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct UsageParams {
    /// `24h`, `7d`, `30d` or `period`. Given days come before it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub range: String,
    /// The first day of a custom range, `YYYY-MM-DD` in the tenant's zone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// The last day of a custom range.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub to: String,
    /// `api` or `status`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stack: String,
    /// An API product's id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub product: String,
    /// An application's id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub application: String,
    /// A key's id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// A plan's id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub plan: String,
    /// `2` to `5`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// `live` or `test`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
}

impl UsageParams {
    /// The chosen range, `24h` if none is; `custom` where days are given.
    pub fn range(&self) -> &str {
        match self.range.as_str() {
            _ if !self.from.is_empty() || !self.to.is_empty() => "custom",
            "7d" | "30d" | "period" => &self.range,
            _ => "24h",
        }
    }

    /// By what the chart is stacked.
    pub fn stack(&self) -> Stack {
        if self.stack == "status" { Stack::Status } else { Stack::Api }
    }

    /// Whether anything is filtered.
    pub fn is_filtered(&self) -> bool {
        [&self.product, &self.application, &self.key, &self.plan, &self.status, &self.mode].iter().any(|value| !value.is_empty())
    }

    /// The query string, with `change` applied.
    pub fn query_with(&self, change: impl FnOnce(&mut Self)) -> String {
        let mut params = self.clone();
        change(&mut params);
        let mut pairs = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in [
            ("range", &params.range),
            ("from", &params.from),
            ("to", &params.to),
            ("stack", &params.stack),
            ("product", &params.product),
            ("application", &params.application),
            ("key", &params.key),
            ("plan", &params.plan),
            ("status", &params.status),
            ("mode", &params.mode),
        ] {
            if !value.is_empty() {
                pairs.append_pair(name, value);
            }
        }
        pairs.finish()
    }

    /// The question that the page asks. `period` is the running billing period, where there is one.
    pub fn query(&self, tenant: TenantId, zone: TimeZone, period: Option<Period>, now: Timestamp) -> Result<Query> {
        let range = self.period(&zone, period, now)?;
        let mut query = Query::new(tenant, range, zone);
        if self.range() == "period" || self.range() == "30d" {
            query.slot = Slot::Day;
        }
        query.filter = self.filter()?;
        Ok(query)
    }

    /// Whether the range reaches up to now, so that the page is kept up to date.
    pub fn is_live(&self, range: Period, now: Timestamp) -> bool {
        range.to > now
    }

    fn period(&self, zone: &TimeZone, period: Option<Period>, now: Timestamp) -> Result<Period> {
        // The running quarter of an hour belongs to every range that ends now.
        let end = now.floor_quarter_hour().plus(Duration::from_secs(900));
        let days_back = |days: u32| Period { from: zone.start_of(zone.date_at(now.minus(DAY * days))), to: end };
        Ok(match self.range() {
            "7d" => days_back(6),
            "30d" => days_back(29),
            "period" => period
                .map_or_else(|| days_back(29), |period| Period { from: period.from, to: end.min(period.to).max(period.from.plus(DAY)) }),
            "custom" => {
                let first = date("from", &self.from)?;
                let last = date("to", &self.to)?;
                if last < first {
                    return Err(Error::invalid("to", "The last day must not come before the first."));
                }
                let after = last.tomorrow().map_err(|_| Error::invalid("to", "Choose an earlier day."))?;
                Period { from: zone.start_of(first), to: zone.start_of(after) }
            }
            _ => Period { from: end.minus(DAY), to: end },
        })
    }

    fn filter(&self) -> Result<Filter> {
        Ok(Filter {
            product: id("product", &self.product)?,
            application: id("application", &self.application)?,
            api_key: id("key", &self.key)?,
            plan: id("plan", &self.plan)?,
            subscription: None,
            status_class: match self.status.as_str() {
                "" => None,
                class @ ("1" | "2" | "3" | "4" | "5") => class.parse().ok(),
                _ => return Err(Error::invalid("status", "Choose a class of statuses: 2, 3, 4 or 5.")),
            },
            mode: match self.mode.as_str() {
                "" => None,
                "live" => Some(Mode::Live),
                "test" => Some(Mode::Test),
                _ => return Err(Error::invalid("mode", "Choose live or test.")),
            },
        })
    }
}

fn date(field: &'static str, text: &str) -> Result<jiff::civil::Date> {
    text.parse().map_err(|_| Error::invalid(field, "Give a day, like 2026-01-31."))
}

fn id<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<Option<T>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Error::invalid(field, "Choose one of the list."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect(text)
    }

    #[test]
    fn ranges_end_with_the_running_quarter_of_an_hour() {
        let zone: TimeZone = "Asia/Kolkata".parse().expect("a zone");
        let now = at("2026-03-10T12:07:00Z");
        let range = |name: &str| UsageParams { range: name.into(), ..UsageParams::default() }.period(&zone, None, now).expect("a range");
        assert_eq!(range(""), Period { from: at("2026-03-09T12:15:00Z"), to: at("2026-03-10T12:15:00Z") });
        // Midnight in Kolkata is 18:30 UTC the day before.
        assert_eq!(range("7d").from, at("2026-03-03T18:30:00Z"));
    }

    #[test]
    fn custom_days_are_those_of_the_zone_and_inclusive() {
        let zone: TimeZone = "America/New_York".parse().expect("a zone");
        let params = UsageParams { from: "2026-03-08".into(), to: "2026-03-08".into(), ..UsageParams::default() };
        let range = params.period(&zone, None, at("2026-03-10T12:00:00Z")).expect("a range");
        // The clocks go forward on that day: it has 23 hours.
        assert_eq!(range, Period { from: at("2026-03-08T05:00:00Z"), to: at("2026-03-09T04:00:00Z") });
        let backwards = UsageParams { to: "2026-03-07".into(), ..params };
        assert!(backwards.period(&zone, None, at("2026-03-10T12:00:00Z")).expect_err("backwards").field("to").is_some());
    }
}
