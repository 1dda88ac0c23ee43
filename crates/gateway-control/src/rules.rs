//! What the options of routes and services may say. The portal refuses a bad value where it is written, the gateway refuses an entry that has one
//! (SEMANTICS P4), and both ask here, so that they cannot differ.

mod headers;
mod hosts;

use std::collections::HashSet;

use crate::{
    options::{Cors, HeaderEdits, RouteOptions, ServiceOptions, ValueMatch},
    path::{PathTemplate, Segment},
};

/// The most hosts of a route, and addresses of a service.
pub const MAX_HOSTS: usize = 64;
/// The most conditions of a route on headers, and on query parameters.
pub const MAX_CONDITIONS: usize = 16;
/// The most headers that are removed, and that are set.
pub const MAX_EDITS: usize = 32;
/// The most origins of a route.
pub const MAX_ORIGINS: usize = 64;
/// The longest time of a call, in milliseconds: a day.
pub const MAX_TIMEOUT_MS: u32 = 86_400_000;
/// The largest body that may be allowed, in bytes: a tebibyte.
pub const MAX_BODY_BYTES: u64 = 1 << 40;
/// The least age of a policy that a route may ask for, in seconds: the portal is heard each second and counts as lost after three.
pub const MIN_POLICY_AGE_S: u32 = 5;
/// The greatest age of a policy, in seconds: thirty days.
pub const MAX_POLICY_AGE_S: u32 = 30 * 86_400;
/// How long a preflight may be kept at most, in seconds: a day.
pub const MAX_PREFLIGHT_AGE_S: u32 = 86_400;
/// The longest value of a header or a query parameter, in bytes.
pub const MAX_VALUE_BYTES: usize = 4_096;

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The field, such as `timeouts.total_ms`.
    pub field: &'static str,
    /// A sentence that says what to write instead.
    pub message: String,
}

/// What is wrong, one entry a field.
#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn check(&mut self, field: &'static str, checked: Result<(), String>) {
        if let Err(message) = checked {
            self.0.push(Fault { field, message });
        }
    }
}

/// What is wrong with the options of a route whose path is `path`. Empty: nothing.
pub fn route_faults(options: &RouteOptions, path: &PathTemplate) -> Vec<Fault> {
    let mut faults = Faults::default();
    faults
        .check("hosts", distinct(&options.hosts, MAX_HOSTS).and_then(|()| options.hosts.iter().try_for_each(|host| hosts::pattern(host))));
    faults.check("headers", conditions(&options.headers, headers::condition));
    faults.check("query", conditions(&options.query, query));
    faults.check("rewrite", options.rewrite.as_deref().map_or(Ok(()), |template| rewrite(template, path)));
    edits(&mut faults, ["request_headers.remove", "request_headers.set"], &options.request_headers, headers::of_request);
    edits(&mut faults, ["response_headers.remove", "response_headers.set"], &options.response_headers, headers::of_answer);
    let timeouts = &options.timeouts;
    for (field, value) in [
        ("timeouts.connect_ms", timeouts.connect_ms),
        ("timeouts.first_byte_ms", timeouts.first_byte_ms),
        ("timeouts.idle_ms", timeouts.idle_ms),
        ("timeouts.total_ms", timeouts.total_ms),
    ] {
        faults.check(field, between(value, 1, MAX_TIMEOUT_MS, "milliseconds"));
    }
    faults.check("max_request_body_bytes", between(options.max_request_body_bytes, 0, MAX_BODY_BYTES, "bytes"));
    if let Some(cors) = &options.cors {
        cors_faults(&mut faults, cors);
    }
    faults.check("max_policy_age_s", between(options.max_policy_age_s, MIN_POLICY_AGE_S, MAX_POLICY_AGE_S, "seconds"));
    faults.0
}

/// What is wrong with the options of a service. Empty: nothing.
pub fn service_faults(options: &ServiceOptions) -> Vec<Fault> {
    let mut faults = Faults::default();
    let addresses = &options.addresses;
    faults
        .check("addresses", distinct(addresses, MAX_HOSTS).and_then(|()| addresses.iter().try_for_each(|address| hosts::address(address))));
    faults.check("max_connections", between(options.max_connections, 1, 100_000, "connections"));
    faults.check("max_waiting", between(options.max_waiting, 0, 100_000, "calls"));
    faults.check("max_retries", between(options.max_retries, 0, 10, "retries"));
    faults.check("eject_after_failures", between(options.eject_after_failures, 0, 10_000, "failures"));
    faults.0
}

fn between<N: PartialOrd + std::fmt::Display>(value: Option<N>, least: N, most: N, unit: &str) -> Result<(), String> {
    match value {
        Some(value) if value < least || value > most => Err(format!("Use {least} to {most} {unit}; it says {value}.")),
        _ => Ok(()),
    }
}

fn distinct(names: &[String], most: usize) -> Result<(), String> {
    if names.len() > most {
        return Err(format!("Name at most {most}; there are {}.", names.len()));
    }
    let mut seen = HashSet::new();
    match names.iter().find(|name| !seen.insert(name.as_str())) {
        Some(twice) => Err(format!("`{twice}` stands there twice.")),
        None => Ok(()),
    }
}

fn conditions(conditions: &[ValueMatch], check: fn(&ValueMatch) -> Result<(), String>) -> Result<(), String> {
    if conditions.len() > MAX_CONDITIONS {
        return Err(format!("Use at most {MAX_CONDITIONS} conditions; there are {}.", conditions.len()));
    }
    let mut seen = HashSet::new();
    if let Some(twice) = conditions.iter().find(|condition| !seen.insert((&condition.name, &condition.value))) {
        return Err(format!("The condition on `{}` stands there twice.", twice.name));
    }
    conditions.iter().try_for_each(check)
}

fn query(condition: &ValueMatch) -> Result<(), String> {
    let texts = [Some(&condition.name), condition.value.as_ref()];
    if condition.name.is_empty() {
        return Err("A query parameter needs a name.".to_owned());
    }
    match texts.into_iter().flatten().find(|text| text.len() > MAX_VALUE_BYTES || text.chars().any(char::is_control)) {
        Some(_) => Err(format!("`{}`: use at most {MAX_VALUE_BYTES} bytes and no control characters.", condition.name)),
        None => Ok(()),
    }
}

fn rewrite(template: &str, path: &PathTemplate) -> Result<(), String> {
    let parsed: PathTemplate = template.parse().map_err(|error| format!("The path {error}."))?;
    for segment in parsed.segments() {
        let (Segment::Param(name) | Segment::Rest(name)) = segment else { continue };
        let alike = path.segments().iter().filter(|other| *other == segment).count();
        let written = match segment {
            Segment::Rest(_) => format!("{{*{name}}}"),
            _ => format!("{{{name}}}"),
        };
        match alike {
            1 => (),
            0 => return Err(format!("`{written}` does not stand in the route's path `{path}`.")),
            _ => return Err(format!("`{written}` stands in the route's path `{path}` more than once; give its places different names.")),
        }
    }
    Ok(())
}

fn edits(faults: &mut Faults, [remove, set]: [&'static str; 2], edits: &HeaderEdits, refused: fn(&str) -> Result<(), String>) {
    let removed = distinct(&edits.remove, MAX_EDITS).and_then(|()| edits.remove.iter().try_for_each(|name| refused(name)));
    faults.check(remove, removed);
    let names: Vec<String> = edits.set.iter().map(|(name, _)| name.clone()).collect();
    let each = |(name, value): &(String, String)| refused(name).and_then(|()| headers::value(name, value));
    faults.check(set, distinct(&names, MAX_EDITS).and_then(|()| edits.set.iter().try_for_each(each)));
}

fn cors_faults(faults: &mut Faults, cors: &Cors) {
    let any = cors.origins.iter().any(|origin| origin == "*");
    let origins = match cors.origins.len() {
        0 => Err("Name at least one origin, or `*` for all.".to_owned()),
        2.. if any => Err("`*` stands for all origins: leave out the others.".to_owned()),
        _ => distinct(&cors.origins, MAX_ORIGINS).and_then(|()| cors.origins.iter().try_for_each(|origin| hosts::origin(origin))),
    };
    faults.check("cors.origins", origins);
    let told = any && cors.credentials;
    faults.check(
        "cors.credentials",
        if told { Err("Browsers send no cookies where `*` may call: name the origins.".to_owned()) } else { Ok(()) },
    );
    let exposed = distinct(&cors.expose, MAX_EDITS).and_then(|()| cors.expose.iter().try_for_each(|name| headers::name(name)));
    faults.check("cors.expose", exposed);
    faults.check("cors.max_age_s", between(cors.max_age_s, 0, MAX_PREFLIGHT_AGE_S, "seconds"));
}

#[cfg(test)]
mod tests;
