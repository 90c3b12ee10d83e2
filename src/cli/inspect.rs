//! `warren inspect NAME`: everything about an instance.

use super::client::segment;
use super::out::{self, Output};
use super::{Context, Fail};
use crate::daemon::api::view::Detail;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// An instance: its name, its id, or its service if that has one instance
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    pub output: Output,
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let detail: Detail = context.client().get(&format!("/v1/instances/{}", segment(&args.name))).await?;
    if args.output.json {
        out::json(&detail);
        return Ok(0);
    }
    let i = &detail.instance;
    let row = |key: &str, value: &str| {
        if !value.is_empty() {
            out::line(format_args!("{} {}", out::faint(&format!("{key:<10}")), out::plain(value)));
        }
    };
    row("name", &i.name);
    row("fabric", &i.fabric);
    row("service", &i.service);
    row("state", &i.stage);
    row("why", i.why.as_deref().unwrap_or_default());
    row("dns", &i.dns);
    row("jail", &i.jail);
    row("root", &detail.root);
    for link in &detail.links {
        let addresses: Vec<String> = link.addresses.iter().map(ToString::to_string).collect();
        let how = if link.dhcp { " by DHCP" } else { "" };
        row(
            "link",
            &format!("{} on {}, {}, {}{how}", link.hook, link.network, link.mac, addresses.join(" ")),
        );
    }
    for left in &i.left {
        row("left", left);
    }
    for drift in &i.drift {
        row("drift", drift);
    }
    out::line(out::faint("steps"));
    for step in &detail.steps {
        let state = match step.state.as_str() {
            "done" => out::good("done"),
            other => out::warning(&out::plain(other)),
        };
        out::line(format_args!("  {:<22} {state}", step.key));
    }
    out::line(out::faint("spec"));
    let spec = serde_json::to_string_pretty(&detail.spec).unwrap_or_default();
    spec.lines().for_each(|line| out::line(format_args!("  {}", out::plain(line))));
    Ok(0)
}
