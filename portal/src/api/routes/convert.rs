//! Between the settings of REST and those of the catalog, which are stored as gateways are told them.

use gateway_control::{
    options::{Cors, HeaderEdits, RouteOptions, RouteTimeouts, ValueMatch},
    policy::{RouteMeter, TokenKind, UnitSource},
    units::Micros,
};
use portal_api as rest;

use crate::{
    catalog::route::RouteSettings,
    error::{Error, FieldError, Kind, Result},
};

pub(super) fn shown(settings: RouteSettings, options: RouteOptions) -> rest::RouteSettings {
    let meter = |meter: RouteMeter| rest::RouteMeter {
        meter: meter.meter,
        source: match meter.source {
            UnitSource::Call => rest::UnitSource::Call,
            UnitSource::Header { name } => rest::UnitSource::Header { name },
            UnitSource::Trailer { name } => rest::UnitSource::Trailer { name },
            UnitSource::ResponseBytes => rest::UnitSource::ResponseBytes,
            UnitSource::Messages => rest::UnitSource::Messages,
            UnitSource::Seconds => rest::UnitSource::Seconds,
            UnitSource::Tokens { kind } => rest::UnitSource::Tokens { kind: shown_kind(kind) },
        },
        default_units: meter.default_units.to_string(),
        max_units: meter.max_units.to_string(),
    };
    let conditions = |list: Vec<ValueMatch>| list.into_iter().map(|ValueMatch { name, value }| rest::ValueMatch { name, value }).collect();
    let edits = |HeaderEdits { remove, set }| {
        let set = set.into_iter().map(|(name, value)| rest::HeaderField { name, value }).collect();
        rest::HeaderEdits { remove, set }
    };
    let RouteTimeouts { connect_ms, first_byte_ms, idle_ms, total_ms } = options.timeouts;
    let cors = |Cors { origins, credentials, expose, max_age_s }| rest::Cors { origins, credentials, expose, max_age_s };
    rest::RouteSettings {
        rate_group: settings.rate_group,
        meters: settings.meters.into_iter().map(meter).collect(),
        options: rest::RouteOptions {
            hosts: options.hosts,
            headers: conditions(options.headers),
            query: conditions(options.query),
            rewrite: options.rewrite,
            request_headers: edits(options.request_headers),
            response_headers: edits(options.response_headers),
            timeouts: rest::RouteTimeouts { connect_ms, first_byte_ms, idle_ms, total_ms },
            max_request_body_bytes: options.max_request_body_bytes,
            cors: options.cors.map(cors),
            max_policy_age_s: options.max_policy_age_s,
        },
    }
}

/// What was sent, for the operations to judge.
///
/// # Errors
/// When units are no decimal number.
pub(super) fn read(settings: rest::RouteSettings) -> Result<(RouteSettings, RouteOptions)> {
    let mut problems = Vec::new();
    let meters = settings.meters.into_iter().enumerate().map(|(index, meter)| read_meter(index, meter, &mut problems)).collect();
    if !problems.is_empty() {
        return Err(Error { fields: problems, ..Error::new(Kind::Invalid, "Please correct the named fields.") });
    }
    let options = settings.options;
    let conditions =
        |list: Vec<rest::ValueMatch>| list.into_iter().map(|rest::ValueMatch { name, value }| ValueMatch { name, value }).collect();
    let edits = |rest::HeaderEdits { remove, set }| {
        let set = set.into_iter().map(|rest::HeaderField { name, value }| (name, value)).collect();
        HeaderEdits { remove, set }
    };
    let rest::RouteTimeouts { connect_ms, first_byte_ms, idle_ms, total_ms } = options.timeouts;
    let cors = |rest::Cors { origins, credentials, expose, max_age_s }| Cors { origins, credentials, expose, max_age_s };
    let options = RouteOptions {
        hosts: options.hosts,
        headers: conditions(options.headers),
        query: conditions(options.query),
        rewrite: options.rewrite,
        request_headers: edits(options.request_headers),
        response_headers: edits(options.response_headers),
        timeouts: RouteTimeouts { connect_ms, first_byte_ms, idle_ms, total_ms },
        max_request_body_bytes: options.max_request_body_bytes,
        cors: options.cors.map(cors),
        max_policy_age_s: options.max_policy_age_s,
    };
    Ok((RouteSettings { rate_group: settings.rate_group, meters }, options))
}

fn read_meter(index: usize, meter: rest::RouteMeter, problems: &mut Vec<FieldError>) -> RouteMeter {
    let mut units = |field: &str, text: &str| {
        text.parse().unwrap_or_else(|error| {
            problems.push(FieldError { field: format!("meters[{index}].{field}").into(), message: format!("{error}.") });
            Micros::ONE
        })
    };
    let (default_units, max_units) = (units("default_units", &meter.default_units), units("max_units", &meter.max_units));
    let source = match meter.source {
        rest::UnitSource::Call => UnitSource::Call,
        rest::UnitSource::Header { name } => UnitSource::Header { name },
        rest::UnitSource::Trailer { name } => UnitSource::Trailer { name },
        rest::UnitSource::ResponseBytes => UnitSource::ResponseBytes,
        rest::UnitSource::Messages => UnitSource::Messages,
        rest::UnitSource::Seconds => UnitSource::Seconds,
        rest::UnitSource::Tokens { kind } => UnitSource::Tokens { kind: read_kind(kind) },
    };
    RouteMeter { meter: meter.meter, source, default_units, max_units }
}

fn shown_kind(kind: TokenKind) -> rest::TokenKind {
    match kind {
        TokenKind::Input => rest::TokenKind::Input,
        TokenKind::UncachedInput => rest::TokenKind::UncachedInput,
        TokenKind::CachedInput => rest::TokenKind::CachedInput,
        TokenKind::CacheCreation => rest::TokenKind::CacheCreation,
        TokenKind::Output => rest::TokenKind::Output,
        TokenKind::Reasoning => rest::TokenKind::Reasoning,
        TokenKind::Total => rest::TokenKind::Total,
    }
}

fn read_kind(kind: rest::TokenKind) -> TokenKind {
    match kind {
        rest::TokenKind::Input => TokenKind::Input,
        rest::TokenKind::UncachedInput => TokenKind::UncachedInput,
        rest::TokenKind::CachedInput => TokenKind::CachedInput,
        rest::TokenKind::CacheCreation => TokenKind::CacheCreation,
        rest::TokenKind::Output => TokenKind::Output,
        rest::TokenKind::Reasoning => TokenKind::Reasoning,
        rest::TokenKind::Total => TokenKind::Total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back() {
        let options = include_str!("../../../../crates/gateway-control/tests/golden/options.v1.json");
        let events: serde_json::Value = serde_json::from_str(options).unwrap();
        let options: RouteOptions = serde_json::from_value(events[1]["body"]["options"].clone()).unwrap();
        let sources = [
            UnitSource::Call,
            UnitSource::Header { name: "a".into() },
            UnitSource::Trailer { name: "b".into() },
            UnitSource::ResponseBytes,
            UnitSource::Messages,
            UnitSource::Seconds,
        ];
        let tokens = TokenKind::ALL.map(|kind| UnitSource::Tokens { kind });
        let meters = sources.into_iter().chain(tokens).map(|source| RouteMeter {
            meter: ids::MeterId::new(),
            source,
            default_units: Micros(1_500_000),
            max_units: Micros::units(7),
        });
        let settings = RouteSettings { rate_group: Some("g".into()), meters: meters.collect() };
        for meter in &settings.meters {
            // Both sides write a source in the same words.
            let shown = shown(RouteSettings { rate_group: None, meters: vec![meter.clone()] }, RouteOptions::default());
            assert_eq!(serde_json::to_value(&shown.meters[0].source).unwrap(), serde_json::to_value(&meter.source).unwrap());
        }
        assert_eq!(read(shown(settings.clone(), options.clone())).unwrap(), (settings, options));
    }
}
