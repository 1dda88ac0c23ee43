//! How many units an exchange used: what the upstream declared, and what was counted here.

use std::time::Duration;

use gateway_control::policy::TokenKind;
use http::HeaderMap;
use journal::{AnsweredBy, MAX_METERS, Outcome};

use super::tokens::{Figures, Reading, TokenReader};
use crate::{
    metrics::CoreMetrics,
    policy::entries::{CompiledMeter, CompiledRoute, Source},
};

const MICROS_PER_UNIT: i64 = 1_000_000;

/// Micro-units by the place of the meter in the route.
pub type MeterUnits = [i64; MAX_METERS];

/// The units of one exchange so far.
#[derive(Debug)]
pub struct Units {
    /// Bytes of the answer's body that were handed on.
    pub body_bytes: u64,
    /// Messages of a WebSocket or of a gRPC call that were handed on, both ways.
    pub messages: u64,
    /// Reads the answer's body, where the route's meters need that and the head says that it can be read.
    pub token_reader: Option<Box<TokenReader>>,
    /// What the answer's body has said of tokens, if anything.
    pub tokens: Option<Box<Figures>>,
    /// What headers and trailers have declared, by the place of the meter in the route; mostly nothing.
    declared: Option<Box<[Option<i64>; MAX_METERS]>>,
    /// What interim records hold, if there are any.
    recorded: Option<Box<MeterUnits>>,
}

impl Units {
    /// Nothing was used yet.
    pub fn new(_: &CompiledRoute) -> Self {
        Self { body_bytes: 0, messages: 0, token_reader: None, tokens: None, declared: None, recorded: None }
    }

    /// The head of the upstream's answer is there.
    pub fn head(&mut self, headers: &HeaderMap, route: &CompiledRoute, metrics: &CoreMetrics) {
        self.declared_in(headers, route, metrics);
        if route.reads_tokens {
            self.token_reader = TokenReader::new(headers).map(Box::new);
        }
    }

    /// Reads what headers or trailers of the upstream declare.
    pub fn declared_in(&mut self, fields: &HeaderMap, route: &CompiledRoute, metrics: &CoreMetrics) {
        for (at, meter) in route.meters.iter().enumerate() {
            let (Source::Header(name) | Source::Trailer(name)) = &meter.source else { continue };
            let Some(value) = fields.get(name) else { continue };
            match value.to_str().ok().and_then(|text| text.trim().parse::<gateway_control::units::Micros>().ok()) {
                Some(units) if units.0 >= 0 => self.declared.get_or_insert_default()[at] = Some(units.clamped()),
                _ => metrics.malformed_units(),
            }
        }
    }

    /// What the last record holds: everything that no interim record holds yet. What an upstream tells at the end of its answer, and could not because that
    /// ended before, is no fault of anybody's configuration, and is counted apart.
    pub fn finish(
        &mut self,
        route: &CompiledRoute,
        elapsed: Duration,
        (answered_by, outcome): (AnsweredBy, Outcome),
        metrics: &CoreMetrics,
    ) -> MeterUnits {
        let is_whole = outcome == Outcome::Complete;
        let mut out = [0; MAX_METERS];
        for (at, meter) in route.meters.iter().enumerate() {
            let total = match (&meter.source, self.declared.as_ref().and_then(|declared| declared[at])) {
                (Source::Call, _) => MICROS_PER_UNIT,
                // An answer of the gateway's own declares nothing, and nothing was promised.
                (Source::Header(_) | Source::Trailer(_), None) if answered_by == AnsweredBy::Gateway => 0,
                (Source::Trailer(_), None) if !is_whole => {
                    metrics.estimated_units();
                    meter.default_micros
                }
                (Source::Header(_) | Source::Trailer(_), None) => {
                    metrics.defaulted_units();
                    meter.default_micros
                }
                (Source::Header(_) | Source::Trailer(_), Some(declared)) => declared,
                (Source::ResponseBytes | Source::Messages | Source::Seconds, _) => self.counted(meter, elapsed),
                (Source::Tokens(_), _) if answered_by == AnsweredBy::Gateway => 0,
                (Source::Tokens(kind), _) => self.tokens_told(*kind, meter, is_whole, metrics),
            };
            // What is counted here is bounded in each record; tokens are the whole call's, as all that an upstream declares.
            let of_records_before = if matches!(meter.source, Source::Tokens(_)) { 0 } else { self.recorded(at) };
            let bound = meter.max_micros.saturating_add(of_records_before);
            if total > bound {
                metrics.clamped_units();
            }
            // A figure that fell after it was recorded takes nothing back.
            out[at] = total.min(bound).saturating_sub(self.recorded(at)).max(0);
        }
        out
    }

    /// What a body said of tokens, and the default where it did not say the whole.
    fn tokens_told(&self, kind: TokenKind, meter: &CompiledMeter, is_whole: bool, metrics: &CoreMetrics) -> i64 {
        let reading = self.tokens.as_ref().map_or(Reading::Missing, |figures| figures.read(kind));
        match reading {
            Reading::Exactly(micros) => return micros,
            Reading::Missing | Reading::AtLeast(_) if !is_whole => metrics.estimated_units(),
            Reading::Missing | Reading::AtLeast(_) => metrics.defaulted_units(),
            Reading::Malformed => {
                metrics.malformed_units();
                metrics.defaulted_units();
            }
        }
        if let Reading::AtLeast(micros) = reading { micros.max(meter.default_micros) } else { meter.default_micros }
    }

    /// What an interim record holds: what was counted, or told of tokens, since the one before. Units that headers and trailers declare, and the call
    /// itself, stand in the final record.
    pub fn interim(&mut self, route: &CompiledRoute, elapsed: Duration) -> MeterUnits {
        let mut out = [0; MAX_METERS];
        for (at, meter) in route.meters.iter().enumerate() {
            out[at] = match meter.source {
                Source::Call | Source::Header(_) | Source::Trailer(_) => 0,
                Source::ResponseBytes | Source::Messages | Source::Seconds => {
                    self.counted(meter, elapsed).saturating_sub(self.recorded(at)).min(meter.max_micros)
                }
                Source::Tokens(kind) => match self.tokens.as_ref().map(|figures| figures.read(kind)) {
                    Some(Reading::Exactly(micros) | Reading::AtLeast(micros)) => {
                        micros.min(meter.max_micros).saturating_sub(self.recorded(at)).max(0)
                    }
                    _ => 0,
                },
            };
            self.recorded.get_or_insert_default()[at] += out[at];
        }
        out
    }

    /// An interim record could not be written after all.
    pub fn put_back(&mut self, part: &MeterUnits) {
        for (recorded, units) in self.recorded.iter_mut().flat_map(|recorded| recorded.iter_mut()).zip(part) {
            *recorded -= units;
        }
    }

    /// What interim records hold of a meter.
    fn recorded(&self, at: usize) -> i64 {
        self.recorded.as_ref().map_or(0, |recorded| recorded[at])
    }

    fn counted(&self, meter: &CompiledMeter, elapsed: Duration) -> i64 {
        let units = |count: u64| i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(MICROS_PER_UNIT);
        match meter.source {
            Source::ResponseBytes => units(self.body_bytes),
            Source::Messages => units(self.messages),
            // A microsecond is a millionth of a second, so these are micro-units already.
            Source::Seconds => i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX),
            Source::Call | Source::Header(_) | Source::Trailer(_) | Source::Tokens(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use gateway_control::{
        policy::{Route, RouteMeter, UnitSource},
        units::Micros,
    };
    use ids::{ApiProductId, MeterId, RouteId, ServiceId, Uuid};

    use super::*;

    fn route(sources: &[UnitSource]) -> CompiledRoute {
        let meter = |source: &UnitSource| RouteMeter {
            meter: MeterId::from_uuid(Uuid::nil()),
            source: source.clone(),
            default_units: Micros::units(3),
            max_units: Micros::units(100),
        };
        let route = Route {
            id: RouteId::from_uuid(Uuid::nil()),
            product: ApiProductId::from_uuid(Uuid::nil()),
            product_slug: "p".into(),
            service: ServiceId::from_uuid(Uuid::nil()),
            method: None,
            path: "/p".into(),
            strip_prefix: String::new(),
            group: None,
            meters: sources.iter().map(meter).collect(),
            options: None,
        };
        CompiledRoute::compile(&route).expect("a valid route")
    }

    fn fields(text: &str) -> HeaderMap {
        [(http::HeaderName::from_static("units"), http::HeaderValue::from_str(text).expect("a value"))].into_iter().collect()
    }

    #[test]
    fn declared_units_are_read_defaulted_and_clamped() {
        let route = route(&[UnitSource::Header { name: "units".into() }]);
        let cases =
            [(Some("12.5"), 12_500_000), (Some("-1"), 3_000_000), (Some("many"), 3_000_000), (None, 3_000_000), (Some("101"), 100_000_000)];
        for (text, expected) in cases {
            let metrics = CoreMetrics::default();
            let mut units = Units::new(&route);
            if let Some(text) = text {
                units.declared_in(&fields(text), &route, &metrics);
            }
            assert_eq!(units.finish(&route, Duration::ZERO, (AnsweredBy::Upstream, Outcome::Complete), &metrics)[0], expected, "{text:?}");
            let counted = metrics.unit_faults();
            assert_eq!(counted, if text == Some("12.5") { 0 } else { counted.max(1) }, "{text:?} is counted");
        }
    }

    #[test]
    fn parts_add_up() {
        let route = route(&[UnitSource::Messages, UnitSource::Seconds, UnitSource::Call]);
        let metrics = CoreMetrics::default();
        let mut units = Units::new(&route);
        units.messages = 4;
        let first = units.interim(&route, Duration::from_secs(5));
        units.messages = 9;
        let second = units.interim(&route, Duration::from_secs(10));
        units.put_back(&second);
        let last = units.finish(&route, Duration::from_secs(12), (AnsweredBy::Upstream, Outcome::Complete), &metrics);
        assert_eq!((first[0], first[1], first[2]), (4_000_000, 5_000_000, 0));
        assert_eq!((last[0], last[1], last[2]), (5_000_000, 7_000_000, 1_000_000));
    }
}
