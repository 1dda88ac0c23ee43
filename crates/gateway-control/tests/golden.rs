//! The first version of every body on the wire, as it must be read and written for as long as that version is spoken. These files are never changed:
//! a field that is added has a default that keeps what they mean.

use gateway_control::{
    lease::{LeaseExchange, LeaseGrants},
    policy::PolicyEvent,
    status::GatewayStatus,
    usage::{BatchAck, UsageBatch},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Reads a golden file as the type and writes it again: the same JSON must come back.
fn holds<T: Serialize + DeserializeOwned>(golden: &str) {
    let before: Value = serde_json::from_str(golden).expect("the golden file is JSON");
    let value: T = serde_json::from_str(golden).expect("version 1 is read");
    let after = serde_json::to_value(&value).expect("it is written");
    assert_eq!(before, after);
    // A text that is held, such as a line of the feed, is read as a stream of bytes is.
    let bytes = serde_json::to_vec(&value).expect("it is written");
    serde_json::from_slice::<T>(&bytes).expect("what is written is read");
}

#[test]
fn policy_events() {
    holds::<Vec<PolicyEvent>>(include_str!("golden/policy_events.v1.json"));
}

#[test]
fn options_of_services_and_routes() {
    holds::<Vec<PolicyEvent>>(include_str!("golden/options.v1.json"));
}

#[test]
fn meters_of_tokens() {
    holds::<Vec<PolicyEvent>>(include_str!("golden/policy_tokens.v1.json"));
}

#[test]
fn usage_batch() {
    holds::<UsageBatch>(include_str!("golden/usage_batch.v1.json"));
}

#[test]
fn batch_ack() {
    holds::<BatchAck>(include_str!("golden/batch_ack.v1.json"));
}

#[test]
fn lease_exchange() {
    holds::<LeaseExchange>(include_str!("golden/lease_exchange.v1.json"));
}

#[test]
fn lease_grants() {
    holds::<LeaseGrants>(include_str!("golden/lease_grants.v1.json"));
}

#[test]
fn gateway_status() {
    holds::<GatewayStatus>(include_str!("golden/gateway_status.v1.json"));
    holds::<GatewayStatus>(include_str!("golden/gateway_status_counted.v1.json"));
}

#[test]
fn declared_leases() {
    holds::<LeaseExchange>(include_str!("golden/lease_exchange_declared.v1.json"));
    holds::<LeaseGrants>(include_str!("golden/lease_grants_outstanding.v1.json"));
    holds::<Vec<PolicyEvent>>(include_str!("golden/recall.v1.json"));
    let mut batch: Value = serde_json::from_str(include_str!("golden/usage_batch.v1.json")).expect("JSON");
    batch["run"] = json!({"number": 7, "before": true});
    holds::<UsageBatch>(&batch.to_string());
}

#[test]
fn what_a_newer_peer_adds_is_ignored() {
    let mut ack: Value = serde_json::from_str(include_str!("golden/batch_ack.v1.json")).expect("JSON");
    ack["added_later"] = json!({"by": "a newer portal"});
    serde_json::from_value::<BatchAck>(ack).expect("an unknown field does no harm");
    let event = json!({"event": "heartbeat", "generation": 1, "now": "2026-01-31T12:00:00Z", "added_later": 1});
    serde_json::from_value::<PolicyEvent>(event).expect("an unknown field does no harm");
}
