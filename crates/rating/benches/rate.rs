//! What a line costs to rate: a close rates one card for each meter of each subscription.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use rating::{Currency, Proration, Quantity, RateCard, RateCardInput, rate};

fn cards() -> Vec<(&'static str, RateCard)> {
    let tiers: Vec<String> = (1..=10)
        .map(|tier| {
            format!(
                r#"{{"up_to":{},"unit_amount":"0.{:03}"}}"#,
                if tier < 10 { format!("\"{tier}000\"") } else { "null".into() },
                20 - tier
            )
        })
        .collect();
    let tiers = tiers.join(",");
    [
        ("flat", r#"{"price":{"type":"flat","amount":"49"}}"#.to_owned()),
        (
            "unit",
            r#"{"price":{"type":"unit","unit_amount":"0.05"},"free_units":"1000","discount_percent":"10","maximum_spend":"500"}"#
                .to_owned(),
        ),
        ("package", r#"{"price":{"type":"package","size":"1000","amount":"1.5"}}"#.to_owned()),
        ("graduated of 10 tiers", format!(r#"{{"price":{{"type":"graduated","tiers":[{tiers}]}}}}"#)),
        ("volume of 10 tiers", format!(r#"{{"price":{{"type":"volume","tiers":[{tiers}]}}}}"#)),
    ]
    .into_iter()
    .map(|(name, json)| (name, serde_json::from_str(&json).expect("a card")))
    .collect()
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("rate");
    for (name, card) in cards() {
        let input = RateCardInput {
            description: "API calls",
            card: &card,
            currency: Currency::USD,
            quantity: Quantity::from_micros(9_876_543_210),
            already_billed: None,
            ends_period: true,
            proration: Proration::WHOLE,
        };
        group.bench_function(name, |b| b.iter(|| rate(black_box(&input)).expect("a line")));
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
