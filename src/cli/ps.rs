//! `warren ps`: the instances, and what of them is worth a line.

use std::collections::HashMap;

use serde_json::json;

use super::out::{self, Output};
use super::{Context, Fail};
use crate::daemon::api::view::{Fabric, Instance};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those of this fabric
    #[arg(value_name = "FABRIC")]
    fabric: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let client = context.client();
    let mut instances: Vec<Instance> = client.get("/v1/instances").await?;
    let mut fabrics: Vec<Fabric> = client.get("/v1/fabrics").await?;
    if let Some(wanted) = &args.fabric {
        instances.retain(|i| i.fabric == *wanted);
        fabrics.retain(|f| f.name == *wanted);
        if fabrics.is_empty() {
            return Err(Fail::of(
                super::fail::NOT_FOUND,
                "not-found",
                format!("no fabric is called `{wanted}`"),
            ));
        }
    }
    if args.output.json {
        out::json(&json!({ "fabrics": fabrics, "instances": instances }));
    } else {
        show(&fabrics, &instances);
    }
    Ok(0)
}

/// The table, and below it what is not as it should be.
pub fn show(fabrics: &[Fabric], instances: &[Instance]) {
    if instances.is_empty() && fabrics.is_empty() {
        out::line("nothing is up; `warren up FILE` brings a fabric up");
        return;
    }
    let ports: HashMap<(&str, &str), String> = (fabrics.iter())
        .flat_map(|f| {
            f.services.iter().map(move |s| ((f.name.as_str(), s.name.as_str()), s.publish.join(" ")))
        })
        .collect();
    let rows: Vec<[String; 6]> = (instances.iter())
        .map(|i| {
            let addresses: Vec<String> = i.addresses.iter().map(ToString::to_string).collect();
            let published = ports.get(&(i.fabric.as_str(), i.service.as_str())).cloned().unwrap_or_default();
            [
                i.fabric.clone(),
                i.name.clone(),
                i.service.clone(),
                i.stage.clone(),
                addresses.join(" "),
                published,
            ]
        })
        .collect();
    out::table(["FABRIC", "NAME", "SERVICE", "STATE", "ADDRESSES", "PUBLISHED"], &rows);
    for instance in instances {
        for left in &instance.left {
            out::line(out::bad(&out::plain(&format!("{}: left behind: {left}", instance.name))));
        }
    }
    for instance in instances {
        for drift in &instance.drift {
            out::line(out::warning(&out::plain(&format!("{}: {drift}", instance.name))));
        }
    }
    for fabric in fabrics {
        for drift in fabric.drift() {
            out::line(out::warning(&out::plain(&format!("{}: {drift}", fabric.name))));
        }
        for stuck in &fabric.stuck {
            out::line(out::bad(&out::plain(&format!("{}: {stuck}", fabric.name))));
        }
        if !fabric.settled && fabric.stuck.is_empty() {
            let word = if fabric.going { "is going down" } else { "is not settled yet" };
            out::line(out::warning(&format!("{} {word}", fabric.name)));
        }
    }
}
