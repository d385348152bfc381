//! `cargo bench --bench filters`
//!
//! What filters cost: ten of them on a message of 1 KiB, and a step of the budget where it is worth most. In
//! this process, without a server; the least of many rounds, so that what else the machine does counts little.

use std::collections::BTreeMap;
use std::time::Instant;

use postrider::clock::Timestamp;
use postrider::domain::cost::Budget;
use postrider::domain::filter::{Facts, Filter, Parts};

fn main() {
    // `cargo test` runs benches, too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let message = message();
    let ten: Vec<Filter> = (0..10).map(customers_filter).collect();
    println!("a message of {} bytes", message.len());
    for (name, filters) in [
        (
            "one plain condition",
            vec![filter(r#"{"data":{"status":"paid"}}"#)],
        ),
        ("one filter", ten[..1].to_vec()),
        ("ten filters", ten),
    ] {
        let cost = measure(&filters, &message);
        let each = cost.micros / filters.len() as f64;
        println!(
            "{name}: {:.2} µs, {each:.2} µs each, {} steps",
            cost.micros, cost.steps
        );
    }
    println!("a step of the budget, at its worst");
    for (name, condition, payload) in worst() {
        let asks: Vec<String> = (0..200).map(condition).collect();
        let asks = format!(r#"{{"data":{{"$or":[{}]}}}}"#, asks.join(","));
        let cost = measure(&[filter(&asks)], &payload);
        println!("{name}: {:.1} ns", 1000.0 * cost.micros / cost.steps as f64);
    }
}

fn filter(source: &str) -> Filter {
    let filter = Filter::parse(source).expect("it is one");
    filter.expect("it asks for something")
}

fn message() -> String {
    let items = (0..12).map(|n| {
        format!(r#"{{"sku":"SKU-{n:04}","quantity":{n},"price":{n}.90,"tags":["new","sale"]}}"#)
    });
    let items = Vec::from_iter(items).join(",");
    format!(
        r#"{{"id":"inv_123456","status":"paid","amount":125.50,"currency":"eur","customer":{{"id":"cus_1","email":"ann@example.com","tier":"premium"}},"items":[{items}],"created":1700000000,"note":"with \"quotes\""}}"#
    )
}

/// Nine conditions, of all kinds.
fn customers_filter(number: usize) -> Filter {
    filter(&format!(
        r#"{{"topic":{{"$startsWith":"invoice."}},"data":{{"status":{{"$in":["paid","void"]}},"amount":{{"$gte":{number},"$lt":1000.5}},"customer":{{"email":{{"$endsWith":"@example.com"}},"tier":"premium"}},"items":{{"sku":"SKU-0011"}},"$or":[{{"currency":"usd"}},{{"currency":"eur"}}]}}}}"#
    ))
}

type Worst = (&'static str, fn(usize) -> String, String);

fn worst() -> [Worst; 6] {
    let mib = 1 << 20;
    let list = |item: &str| format!("{{\"b\":[{}{item}]}}", format!("{item},").repeat(mib / 16));
    [
        ("numbers", |n| format!(r#"{{"b":{}}}"#, n + 2), list("1")),
        (
            "texts with escapes",
            |n| format!(r#"{{"b":"{}"}}"#, n % 10),
            list("\"\\u0061\""),
        ),
        ("objects", |n| format!(r#"{{"b":{{"x":{n}}}}}"#), list("{}")),
        ("names", |n| format!(r#"{{"a":{n}}}"#), {
            format!("{{{}\"b\":1}}", "\"c\":1,".repeat(mib / 16))
        }),
        (
            "parts of a text",
            |n| format!(r#"{{"b":{{"$in":"{}y{n}"}}}}"#, "x".repeat(40)),
            { format!("{{\"b\":\"{}\"}}", "x".repeat(mib / 4)) },
        ),
        ("digits", |n| format!(r#"{{"b":{{"$lt":{n}}}}}"#), {
            format!("{{\"b\":{}}}", "1".repeat(mib / 4))
        }),
    ]
}

struct Cost {
    micros: f64,
    steps: u64,
}

fn measure(filters: &[Filter], payload: &str) -> Cost {
    let metadata = BTreeMap::new();
    let rounds = if payload.len() > 10_000 { 3 } else { 5_000 };
    let mut least = Cost {
        micros: f64::MAX,
        steps: 0,
    };
    for _ in 0..rounds {
        let mut budget = Budget::of_steps(u64::MAX);
        let begun = Instant::now();
        let facts = Facts::new(Parts {
            event_type: "invoice.paid",
            event_id: None,
            channels: &[],
            tags: &[],
            metadata: &metadata,
            accepted_at: Timestamp(1_700_000_000_000),
            payload,
            is_raw: false,
        });
        for filter in filters {
            let matches = filter.matches(&facts, &mut budget);
            std::hint::black_box(matches.expect("the budget has no end"));
        }
        least.micros = least.micros.min(begun.elapsed().as_secs_f64() * 1e6);
        least.steps = budget.spent();
    }
    least
}
