//! What operators see of upstreams and certificates: the status, the metrics, the alerts on them, and where a call went in the end.

use std::{fs, process::Command, time::Duration};

use gateway_control::options::ServiceOptions;
use metering_gateway::{Config, observe::settings::AccessLogMode};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use reqwest::StatusCode;
use serde_json::Value;

use crate::harness::{
    Stage, eventually,
    member::{AT_ONCE, Manner, Member},
};

const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/tollkeeper/files/alerts.yaml");

/// A gateway of one core in front of some addresses.
async fn stage(members: &[&Member], adjust: impl FnOnce(&mut Config)) -> Stage {
    let addresses = members.iter().map(|member| member.address.to_string()).collect();
    let options = ServiceOptions { addresses, ..ServiceOptions::default() };
    Stage::with(
        |world| world.service.options = options.stated(),
        |config| {
            config.cores = Some(1);
            adjust(config);
        },
    )
    .await
}

async fn status(stage: &Stage) -> Value {
    stage.client.get(stage.gateway.admin("/status")).send().await.expect("an answer").json().await.expect("JSON")
}

async fn metrics(stage: &Stage) -> String {
    stage.client.get(stage.gateway.admin("/metrics")).send().await.expect("an answer").text().await.expect("text")
}

fn metric(metrics: &str, name: &str) -> Option<u64> {
    metrics.lines().find_map(|line| line.strip_prefix(&format!("tollkeeper_gateway_{name} ")))?.parse().ok()
}

#[tokio::test]
async fn an_address_that_is_left_out_is_seen() {
    let (good, bad) = (Member::start(AT_ONCE).await, Member::start(Manner::Status(503)).await);
    let stage = stage(&[&good, &bad], |config| config.upstream.ejection_time = Duration::from_secs(3600)).await;
    let seen = eventually("the bad one is left out", async || {
        // Many at once, for one at a time would go to the good one.
        let calls: tokio::task::JoinSet<_> = (0..24).map(|_| stage.get("/weather/v1/any/x").send()).collect();
        calls.join_all().await;
        let upstreams = status(&stage).await["upstreams"].as_array().expect("upstreams").clone();
        let is_whole = |seen: &Value| seen["ejected_on_cores"] == 1 && seen["failures"] == bad.seen.calls();
        upstreams.iter().any(is_whole).then_some(upstreams)
    })
    .await;
    let [out, used] = <[Value; 2]>::try_from(seen).expect("two addresses");
    assert_eq!(out["address"], bad.address.to_string(), "who is left out comes first");
    assert_eq!((&out["failures"], &out["answers"]), (&bad.seen.calls().into(), &0.into()));
    assert!(out["ejected_for_ms"].as_u64().is_some_and(|left| left > 3_000_000), "{out}");
    assert!(out["upstream"].as_str().is_some_and(|name| name.contains(&good.address.to_string())), "{out}");
    assert_eq!((&used["address"], &used["ejected_on_cores"], &used["failures"]), (&good.address.to_string().into(), &0.into(), &0.into()));
    assert_eq!(status(&stage).await["upstream_addresses"], 2);
    let metrics = metrics(&stage).await;
    for (name, value) in [
        ("upstream_addresses", 2),
        ("upstream_addresses_left_out", 1),
        ("upstream_ejections_total", 1),
        ("upstream_failures_total", bad.seen.calls() as u64),
        ("upstream_calls_waiting", 0),
    ] {
        assert_eq!(metric(&metrics, name), Some(value), "{name} in {metrics}");
    }
    stage.gateway.stop().await;
}

#[tokio::test]
async fn retries_are_told_and_the_address_that_answered() {
    let (bad, good) = (Member::start(Manner::Cut).await, Member::start(AT_ONCE).await);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.log");
    let stage = stage(&[&bad, &good], |config| {
        config.observe.access_log = AccessLogMode::All;
        config.observe.access_log_file = Some(file.clone());
        config.upstream.eject_after_failures = 0;
    })
    .await;
    for _ in 0..20 {
        assert_eq!(stage.get("/weather/v1/any/x").send().await.expect("an answer").status(), StatusCode::OK);
    }
    // What has no address to go to says so.
    assert_eq!(stage.get("/nowhere").send().await.expect("an answer").status(), StatusCode::NOT_FOUND);
    let retries = bad.seen.calls() as u64;
    assert!(retries > 0, "the bad one was tried");
    eventually("retries are counted", async || {
        let metrics = metrics(&stage).await;
        (metric(&metrics, "upstream_retries_total") == Some(retries)).then_some(())
    })
    .await;
    assert_eq!(metric(&metrics(&stage).await, "upstream_retries_refused_total"), Some(0));
    stage.gateway.stop().await;
    let text = fs::read_to_string(&file).expect("the log");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let (sent, unsent): (Vec<&Value>, Vec<&Value>) = lines.iter().partition(|line| line["status"] == 200);
    assert_eq!((sent.len(), unsent.len()), (20, 1));
    assert!(sent.iter().all(|line| line["upstream_address"] == good.address.to_string()), "{text}");
    let tries: u64 = sent.iter().map(|line| line["upstream_tries"].as_u64().expect("a number")).sum();
    assert_eq!(tries, 20 + retries);
    assert!(unsent[0]["upstream_address"].is_null() && unsent[0]["upstream_tries"].is_null());
}

#[tokio::test]
async fn the_end_of_each_certificate_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    for (file, year) in [("late", 2061), ("soon", 2041)] {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([format!("{file}.example")]).expect("a name");
        params.not_after = date_time_ymd(year, 3, 4);
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(folder.path().join(format!("{file}.key")), key.serialize_pem()).expect("a key");
        fs::write(folder.path().join(format!("{file}.crt")), certificate.pem()).expect("a certificate");
    }
    let path = folder.path().to_owned();
    let stage = Stage::with(
        |_| (),
        |config| {
            config.listener.tls_cert_dir = Some(path);
            config.listener.tls_reload_interval = Duration::from_millis(50);
        },
    )
    .await;
    let listed = status(&stage).await["certificates"].as_array().expect("certificates").clone();
    let [soon, late] = <[Value; 2]>::try_from(listed).expect("two certificates");
    assert_eq!((&soon["expires_at"], &soon["names"][0]), (&"2041-03-04T00:00:00Z".into(), &"soon.example".into()));
    assert_eq!((&late["expires_at"], &late["fault"]), (&"2061-03-04T00:00:00Z".into(), &Value::Null));
    let file = folder.path().join("soon.crt");
    let line = format!("certificate_expiry_timestamp_seconds{{file=\"{}\"}}", file.display());
    let scraped = metrics(&stage).await;
    assert_eq!(metric(&scraped, &line), Some(2_245_968_000), "{scraped}");
    crate::observe::check_metrics(&scraped);

    fs::write(&file, "no certificate").expect("a file");
    let fault = eventually("the fault is told", async || {
        let fault = status(&stage).await["certificates"][0]["fault"].clone();
        (!fault.is_null()).then_some(fault)
    })
    .await;
    assert!(fault.as_str().is_some_and(|fault| fault.contains("soon.crt")), "{fault}");
    assert_eq!(status(&stage).await["certificates"][0]["expires_at"], "2041-03-04T00:00:00Z", "what was read before is in force");
    assert_metrics_of_alerts(&scraped);
    stage.gateway.stop().await;
}

/// Every metric that an alert reads is one that a gateway with certificates has.
fn assert_metrics_of_alerts(scraped: &str) {
    let rules = fs::read_to_string(ALERTS).expect("the alerts");
    let mut names: Vec<&str> = rules
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("tollkeeper_gateway_"))
        .collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let has = scraped.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        assert!(has, "an alert reads {name}, which no gateway tells");
    }
}

/// The alerts on upstreams and certificates fire when they should, and not before.
#[test]
fn alerts_fire_when_they_should() {
    let series = |name: &str, value: &str| format!("      - series: 'tollkeeper_gateway_{name}'\n        values: '{value}'\n");
    let firing = |alert: &str, at: &str, count: u32| {
        let samples = if count == 0 { "[]".to_owned() } else { format!("[{{ labels: '{{}}', value: {count} }}]") };
        let expr = format!("count(ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}})");
        format!("      - expr: '{expr}'\n        eval_time: {at}\n        exp_samples: {samples}\n")
    };
    let day = 86_400;
    let mut test = format!("rule_files: ['{ALERTS}']\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n");
    test += &series("upstream_addresses_left_out", "0x10 1x60");
    test += &series("upstream_calls_waiting", "3x10 0 3x60");
    test += &series("upstream_retries_refused_total", "0x10 7x60");
    test += &series("certificate_expiry_timestamp_seconds{file=\"a\"}", &format!("{}x200", 13 * day));
    test += &series("certificate_expiry_timestamp_seconds{file=\"b\"}", &format!("{}x200", 15 * day));
    test += &series("tls_certificates_unusable", "0x10 1x60");
    test += "    promql_expr_test:\n";
    for (alert, quiet_at, fires_at) in [
        ("GatewayUpstreamAddressLeftOut", "14m", "17m"),
        ("GatewayUpstreamQueues", "12m", "22m"),
        ("GatewayUpstreamRetriesRefused", "9m", "15m"),
        ("GatewayCertificateUnusable", "14m", "17m"),
        ("GatewayCertificateExpires", "59m", "61m"),
    ] {
        test += &firing(alert, quiet_at, 0);
        test += &firing(alert, fires_at, 1);
    }
    test += &firing("GatewayCertificateExpired", "61m", 0);
    test += "  - interval: 1m\n    input_series:\n";
    test += &series("certificate_expiry_timestamp_seconds{file=\"a\"}", &format!("{}x10", day / 2));
    test += "    promql_expr_test:\n";
    test += &firing("GatewayCertificateExpired", "1m", 1);
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
    fs::write(file.path(), &test).expect("written");
    let output = Command::new("promtool").args(["test", "rules"]).arg(file.path()).output();
    let output = output.expect("promtool, of the Debian package `prometheus`; `scripts/setup test` installs it");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}\n{test}");
}
