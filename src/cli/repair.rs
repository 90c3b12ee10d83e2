//! `warren repair`: tries again what could not be taken down, and gives services that gave up another chance.

use std::time::{Duration, Instant};

use serde_json::json;

use super::client::segment;
use super::follow::duration;
use super::out::{self, Output};
use super::{Client, Context, Fail};
use crate::daemon::api::view::{Detail, Instance, Network, Repair};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// An instance; without it everything that failed
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Wait no longer than this: 500ms, 90s, 2m
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    timeout: Duration,
    #[command(flatten)]
    pub output: Output,
}

#[derive(serde::Deserialize)]
struct Answer {
    units: Vec<String>,
    services: Vec<(String, String)>,
}

/// Of the units that were tried, those that are still there: name, state and what is left.
async fn remaining(client: &Client, units: &[String]) -> Result<Vec<(String, String, Vec<String>)>, Fail> {
    let instances: Vec<Instance> = client.get("/v1/instances").await?;
    let networks: Vec<Network> = client.get("/v1/networks").await?;
    let tried = |id: &crate::ids::Id| units.iter().any(|unit| unit == id.as_str());
    let instances = instances.into_iter().filter(|i| tried(&i.id)).map(|i| (i.name, i.stage, i.left));
    let networks = networks
        .into_iter()
        .filter(|n| tried(&n.id))
        .map(|n| (format!("network {}", n.name), n.stage, n.left));
    Ok(instances.chain(networks).collect())
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let client = context.client();
    let unit = match &args.name {
        Some(name) => {
            Some(client.get::<Detail>(&format!("/v1/instances/{}", segment(name))).await?.instance.id)
        }
        None => None,
    };
    let answer: Answer = client.post("/v1/repair", &Repair { unit }).await?;
    let end = Instant::now() + args.timeout;
    let left = loop {
        let left = remaining(&client, &answer.units).await?;
        if left.iter().all(|(_, stage, _)| stage == "failed") || Instant::now() > end {
            break left;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let timed_out = left.iter().any(|(_, stage, _)| stage != "failed");
    if args.output.json {
        let left: Vec<_> = left
            .iter()
            .map(|(name, stage, left)| json!({ "name": name, "state": stage, "left": left }))
            .collect();
        out::json(&json!({ "tried": answer.units, "services": answer.services, "left": left }));
    } else {
        for (fabric, service) in &answer.services {
            out::line(format_args!("service {service} of {fabric} gets another chance"));
        }
        match (answer.units.len(), left.len()) {
            (0, _) if answer.services.is_empty() => out::line("there is nothing to repair"),
            (0, _) => {}
            (tried, 0) => out::line(out::good(&format!("{tried} repaired"))),
            (tried, still) => out::note(format_args!("{} of {tried} repaired; what is left:", tried - still)),
        }
        for (name, _, left) in &left {
            left.iter()
                .for_each(|left| out::note(format_args!("  {}", out::plain(&format!("{name}: {left}")))));
        }
    }
    Ok(if timed_out {
        super::fail::TIMEOUT
    } else if left.is_empty() {
        0
    } else {
        super::fail::LEFT
    })
}
