//! The head of a request on its way to the upstream.
//!
//! The caller's fields are not edited one by one: what passes is decided when they are written, and what the gateway says comes after it. Only rules of a
//! route, and HTTP/2, need them as a map.

use std::collections::HashSet;

use gateway_control::headers::IDENTITY_PREFIX;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::{
    forwarded,
    headers::{self, Forwarded, KeyPlace, X_REQUEST_ID},
    standing::Standing,
};
use crate::observe::trace::{Trace, TracePasses};

/// The head of a request on its way to the upstream.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// It asks for another protocol.
    pub switches: bool,
    /// Nobody looks at the fields of the answer but its caller, who speaks HTTP/1.1.
    pub takes_lines: bool,
    /// As the caller sent them.
    fields: HeaderMap,
    /// Which of them pass; all, once they are as the upstream gets them.
    filter: Option<Filter>,
    added: Vec<(HeaderName, HeaderValue)>,
    /// What the upstream is told with each call of its caller, until the fields are as the upstream gets them.
    told: Option<&'a Standing>,
}

/// Which of a caller's fields pass.
#[derive(Debug)]
struct Filter {
    authorization: bool,
    trace: TracePasses,
    /// What `Connection` names besides that which never passes.
    named: Option<HashSet<HeaderName>>,
}

impl<'a> Outgoing<'a> {
    /// What of a caller's head goes to the upstream, and what the gateway says besides.
    pub fn new(method: Method, target: String, fields: HeaderMap, told: &'a Standing, forwarded: &Forwarded<'_>, trace: &Trace) -> Self {
        let mut added = Vec::with_capacity(6);
        // Most calls have none of these, which one look at the names tells at a fraction of what looking each of them up would cost.
        let (mut has_te, mut has_authorization, mut has_connection) = (false, false, false);
        for name in fields.keys() {
            has_te |= *name == header::TE;
            has_authorization |= *name == header::AUTHORIZATION;
            has_connection |= *name == header::CONNECTION;
        }
        if forwarded.wants_trailers || has_te && fields.get_all(header::TE).iter().any(|te| headers::mentions(te, "trailers")) {
            added.push((header::TE, HeaderValue::from_static("trailers")));
        }
        if let Some(protocol) = &forwarded.upgrade {
            added.push((header::CONNECTION, HeaderValue::from_static("upgrade")));
            added.push((header::UPGRADE, protocol.clone()));
        }
        forwarded::put(&fields, &forwarded.origin, &mut added);
        added.push((X_REQUEST_ID, forwarded.request_id.clone()));
        let filter = Filter {
            // A caller may send its key in both places: it stays here, while a credential of the upstream's own passes.
            authorization: has_authorization && forwarded.key_place != KeyPlace::Authorization && !headers::holds_key(&fields),
            trace: trace.to_upstream(&mut added),
            named: has_connection.then(|| headers::named_by_connection(&fields)),
        };
        Self {
            method,
            target,
            switches: forwarded.upgrade.is_some(),
            takes_lines: false,
            fields,
            filter: Some(filter),
            added,
            told: Some(told),
        }
    }

    /// The first of the fields that the upstream gets, as HTTP/1.1 has them.
    pub fn standing_lines(&self) -> &[u8] {
        self.told.map_or(&[], Standing::lines)
    }

    /// Hands out the other fields.
    #[inline]
    pub fn for_each(&self, mut put: impl FnMut(&HeaderName, &HeaderValue)) {
        for (name, value) in &self.fields {
            if self.filter.as_ref().is_none_or(|filter| filter.passes(name)) {
                put(name, value);
            }
        }
        self.added.iter().for_each(|(name, value)| put(name, value));
    }

    /// The fields as a map.
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.fields.len() + self.added.len() + 6);
        if let Some(told) = self.told {
            told.append_to(&mut map);
        }
        self.for_each(|name, value| _ = map.append(name, value.clone()));
        map
    }

    /// Changes the fields as a rule says.
    pub fn edit(&mut self, edit: impl FnOnce(&mut HeaderMap)) {
        let mut map = self.to_map();
        edit(&mut map);
        (self.fields, self.filter, self.added, self.told) = (map, None, Vec::new(), None);
    }
}

impl Filter {
    /// Whether a field of the caller's passes: not what belongs to its connection (RFC 9110, 7.6.1), is for the gateway, or is the gateway's to say.
    fn passes(&self, name: &HeaderName) -> bool {
        let bytes = name.as_str().as_bytes();
        let passes = match bytes.first() {
            Some(b'a') => self.authorization || *name != header::AUTHORIZATION,
            Some(b'c') => !headers::is_hop_by_hop(name) && (*name == header::CONTENT_LENGTH || !headers::is_gateways(name)),
            // The gateway has answered the expectation by reading the body.
            Some(b'e') => *name != header::EXPECT,
            Some(b'f') => *name != header::FORWARDED,
            Some(b'h') => *name != header::HOST,
            // What reads `HTTP_PROXY` in its environment would call through a proxy of the caller's.
            Some(b'p') => !headers::is_hop_by_hop(name) && bytes != b"proxy",
            Some(b't') => !headers::is_hop_by_hop(name) && !headers::is_gateways(name) && self.trace.passes(name),
            Some(b'x') => !headers::is_gateways(name) && !forwarded::is_claim(name),
            _ => !headers::is_hop_by_hop(name),
        };
        passes && self.named.as_ref().is_none_or(|named| !named.contains(name))
    }
}

/// Whether a name is one of those by which upstreams are told who calls, or reads as one.
pub fn is_identity(name: &[u8]) -> bool {
    name.len() >= IDENTITY_PREFIX.len() && reads_as(&name[..IDENTITY_PREFIX.len()], IDENTITY_PREFIX.as_bytes())
}

/// Whether a name is a certain one, or one that servers take for it: where fields become variables (RFC 3875, 4.1.18), some put `_` for all that is
/// neither letter nor digit.
pub fn reads_as(name: &[u8], wanted: &[u8]) -> bool {
    name.len() == wanted.len()
        && name.iter().zip(wanted).all(|(byte, wanted)| byte == wanted || *wanted == b'-' && !byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::{
        listener::Peer,
        observe::trace::{Incoming, TraceIds},
        pipeline::forwarded::Origin,
    };

    static TOLD: LazyLock<Standing> = LazyLock::new(|| {
        let told = [
            ("host", "up:80"),
            ("tollkeeper-namespace", "ns"),
            ("tollkeeper-application", "app"),
            ("tollkeeper-subscription", "sub"),
            ("tollkeeper-plan", "pro"),
            ("tollkeeper-mode", "live"),
        ];
        Standing::new(told.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).into())
    });

    fn sent(fields: &[(&'static str, &'static str)], key_place: KeyPlace, upgrade: Option<HeaderValue>) -> Outgoing<'static> {
        let mut map = HeaderMap::new();
        fields.iter().for_each(|(name, value)| _ = map.append(*name, HeaderValue::from_static(value)));
        let peer = Peer::new([192, 0, 2, 9].into(), false);
        let request_id = HeaderValue::from_static("id");
        let forwarded = Forwarded {
            request_id: &request_id,
            origin: Origin { peer: &peer, trusted_hops: 0, host: None, prefix: "" },
            key_place,
            upgrade,
            wants_trailers: false,
        };
        let trace = Trace::begin(&TraceIds::new(1), Incoming::of(&map), None, false);
        Outgoing::new(Method::GET, "/".into(), map, &TOLD, &forwarded, &trace)
    }

    #[test]
    fn a_callers_fields_pass_but_not_what_is_its_connections_or_the_gateways() {
        let outgoing = sent(
            &[
                ("host", "caller"),
                ("accept", "*/*"),
                ("x-api-key", "secret"),
                ("connection", "keep-alive, x-hop"),
                ("x-hop", "1"),
                ("keep-alive", "5"),
                ("proxy-authorization", "x"),
                ("transfer-encoding", "chunked"),
                ("te", "gzip, trailers"),
                ("upgrade", "h2c"),
                ("expect", "100-continue"),
                ("tollkeeper-plan", "forged"),
                ("tollkeeper_plan", "forged"),
                ("tollkeeper.plan", "forged"),
                ("x_api_key", "forged"),
                ("x_request_id", "forged"),
                ("x.real.ip", "forged"),
                ("x.forwarded.for", "forged"),
                ("content_length", "900"),
                ("transfer_encoding", "chunked"),
                ("proxy", "http://forged/"),
                ("x-forwarded-for", "forged"),
                ("x_forwarded_proto", "forged"),
                ("forwarded", "for=forged"),
                ("x-request-id", "forged"),
                ("authorization", "Basic upstreams"),
                ("cookie", "a=b"),
                ("x-two", "1"),
                ("x-two", "2"),
            ],
            KeyPlace::ApiKey,
            None,
        );
        let map = outgoing.to_map();
        let mut names: Vec<_> = map.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "accept: */*",
                "authorization: Basic upstreams",
                "cookie: a=b",
                "host: up:80",
                "te: trailers",
                "tollkeeper-application: app",
                "tollkeeper-mode: live",
                "tollkeeper-namespace: ns",
                "tollkeeper-plan: pro",
                "tollkeeper-subscription: sub",
                "x-forwarded-for: 192.0.2.9",
                "x-forwarded-proto: http",
                "x-request-id: id",
                "x-two: 1",
                "x-two: 2",
            ]
        );
    }

    #[test]
    fn a_key_in_authorization_stays_here_and_an_upgrade_passes() {
        let outgoing = sent(
            &[("authorization", "Bearer k"), ("upgrade", "websocket"), ("connection", "upgrade")],
            KeyPlace::Authorization,
            Some(HeaderValue::from_static("websocket")),
        );
        let map = outgoing.to_map();
        assert!(outgoing.switches && !map.contains_key("authorization"));
        assert_eq!((&map["upgrade"], &map["connection"]), (&HeaderValue::from_static("websocket"), &HeaderValue::from_static("upgrade")));
    }

    #[test]
    fn rules_edit_what_is_sent() {
        let mut outgoing = sent(&[("accept", "*/*"), ("x-api-key", "secret")], KeyPlace::ApiKey, None);
        outgoing.edit(|map| {
            map.remove("accept");
            map.insert("tollkeeper-plan", HeaderValue::from_static("theirs"));
        });
        let map = outgoing.to_map();
        assert!(!map.contains_key("accept") && !map.contains_key("x-api-key"));
        assert_eq!(map.get_all("tollkeeper-plan").iter().collect::<Vec<_>>(), ["theirs"]);
    }
}
