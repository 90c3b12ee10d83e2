//! The packet filter through pfctl(8), the one interface to rules that is the same in every release (facts C). Members of tables
//! go by [`pf_table`](super::pf_table), states by [`pf_states`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::pf_states::{self, is_done_otherwise};
use super::pf_table::{Change, Table};
use super::tool::{self, Said};
use crate::firewall::policy::is_anchor;
use crate::firewall::{Policy, loaded, outside, pf, states};
use crate::host::failure::Context;
use crate::host::{Failure, Reply};

const PFCTL: &str = "/sbin/pfctl";
/// How often a load is tried again that met another one's transaction: 10 + 20 + 40 + … milliseconds.
const TRIES: u32 = 8;

/// One writer at a time.
static WRITING: Mutex<()> = Mutex::new(());

fn pfctl<S: AsRef<std::ffi::OsStr>>(arguments: &[S], input: &str) -> Result<Said, Failure> {
    let mut pause = Duration::from_millis(10);
    for _ in 0..TRIES {
        let said = tool::run(PFCTL, arguments, input)?;
        if said.ok || !said.err.contains("Device busy") {
            return Ok(said);
        }
        std::thread::sleep(pause);
        pause *= 2;
    }
    tool::run(PFCTL, arguments, input)
}

/// Whether pf is loaded; if not there are no rules, tables and states.
fn is_loaded() -> bool {
    std::path::Path::new("/dev/pf").exists()
}

/// Whether pf filters, and asks our anchors.
///
/// Warren does not turn pf on: on a machine whose owner has no rules yet, that would be their first decision, not ours.
pub fn check() -> Result<(), Failure> {
    if !is_loaded() {
        return Err(Failure::new("pf is not loaded")
            .hint("`sysrc pf_enable=YES`, put the anchor lines into /etc/pf.conf and `service pf start`"));
    }
    let read = |what: &str| pfctl(&["-s", what], "")?.or_failure(format!("read pf's {what}"));
    if !read("info")?.lines().any(|line| line.starts_with("Status: Enabled")) {
        return Err(Failure::new(
            "pf is loaded but not enabled: published ports, NAT and isolation would do nothing",
        )
        .hint("`sysrc pf_enable=YES` and `service pf start`, or `pfctl -e`"));
    }
    let missing = pf::anchor_points_missing(&read("nat")?, &read("rules")?);
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new("pf's main ruleset does not ask Warren's anchors").hint(format!(
        "add to /etc/pf.conf, translation before filter rules, and `service pf reload`: {}",
        missing.join("; ")
    )))
}

/// Loads the whole anchor and reads it back.
pub fn load(policy: &Policy) -> Result<(), Failure> {
    let what = format!("load the anchor {}", policy.anchor);
    let text = pf::text(policy, &outside()?).map_err(|bad| Failure::new(format!("{what}: {bad}")))?;
    check()?;
    let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    pfctl(&pf::load_arguments(&policy.anchor), &text)?.or_failure(&what)?;
    let read = |kind: &str| pfctl(&["-a", &policy.anchor, "-s", kind], "")?.or_failure(&what);
    let (rules, nat) = (read("rules")?, read("nat")?);
    pf::verify(&rules, &nat, &read("Tables")?, &text)
        .map_err(|difference| Failure::new(format!("{what}: it was loaded, but {difference}")))?;
    loaded::remember(&policy.anchor, [nat, rules].concat().into_bytes());
    Ok(())
}

/// Whether pfctl says that an anchor or a table is not there.
fn is_absent(said: &Said) -> bool {
    ["does not exist", "No such", "Invalid argument"].iter().any(|words| said.err.contains(words))
}

/// Empties the anchor and its tables.
pub fn remove(anchor: &str) -> Result<(), Failure> {
    check_name(anchor)?;
    if !is_loaded() {
        return Ok(());
    }
    let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    loaded::forget(anchor);
    for arguments in pf::remove_arguments(anchor) {
        let said = pfctl(&arguments, "")?;
        if !said.ok && !is_absent(&said) {
            said.or_failure(format!("empty the anchor {anchor}"))?;
        }
    }
    Ok(())
}

/// `-F all` outside an anchor would empty the whole packet filter.
fn check_name(anchor: &str) -> Result<(), Failure> {
    if is_anchor(anchor) {
        Ok(())
    } else {
        Err(Failure::new(format!("`{anchor}` is not an anchor of Warren's")))
    }
}

/// Adds addresses to tables, or removes them.
pub fn table(change: Change, anchor: &str, tables: &[String], addresses: &[IpAddr]) -> Result<(), Failure> {
    check_name(anchor)?;
    let removing = change == Change::Remove;
    if addresses.is_empty() || removing && !is_loaded() {
        return Ok(());
    }
    tables.iter().try_for_each(|name| match (Table { anchor, name }).change(change, addresses) {
        Ok(()) => Ok(()),
        Err(error) if removing && error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        // A kernel that does this otherwise has a pfctl that knows how.
        Err(error) if is_done_otherwise(&error) => table_by_pfctl(change, anchor, name, addresses),
        Err(error) => {
            let verb = if removing { "remove addresses from" } else { "add addresses to" };
            Err(error).doing(|| format!("{verb} the table {name} of {anchor}"))
        }
    })
}

fn table_by_pfctl(change: Change, anchor: &str, name: &str, addresses: &[IpAddr]) -> Result<(), Failure> {
    let list: String = addresses.iter().map(|address| format!("{address}\n")).collect();
    let verb = if change == Change::Add { "add" } else { "delete" };
    let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let said = pfctl(&["-a", anchor, "-t", name, "-T", verb, "-f", "-"], &list)?;
    if said.ok || change == Change::Remove && is_absent(&said) {
        return Ok(());
    }
    said.or_failure(format!("{verb} addresses in the table {name} of {anchor}")).map(|_| ())
}

/// The members of a table; none if it has gone meanwhile.
fn members(anchor: &str, name: &str) -> Result<BTreeSet<IpAddr>, Failure> {
    match (Table { anchor, name }).members() {
        Ok(members) => Ok(members),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(BTreeSet::new()),
        Err(error) if is_done_otherwise(&error) => {
            let said = pfctl(&["-a", anchor, "-t", name, "-T", "show"], "")?;
            Ok(said.out.split_whitespace().filter_map(|word| word.parse().ok()).collect())
        }
        Err(error) => Err(error).doing(|| format!("read the table {name} of {anchor}")),
    }
}

fn all_states() -> Result<states::Table, Failure> {
    if !is_loaded() {
        return Ok(states::Table::default());
    }
    match pf_states::list() {
        Err(error) if is_done_otherwise(&error) => {}
        listed => return listed.doing(|| "list pf's states"),
    }
    states_by_pfctl()
}

fn states_by_pfctl() -> Result<states::Table, Failure> {
    Ok(states::parse(&pfctl(&["-vvss"], "")?.or_failure("list pf's states")?))
}

/// Waits until no connection is left; the pauses grow, as a drain lasts for minutes or for nothing.
pub fn drain(addresses: &[IpAddr], wait: Duration) -> Result<(), Failure> {
    let end = Instant::now() + wait;
    let mut pause = Duration::from_millis(20);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || all_states()?.established(addresses) == 0 {
            return Ok(());
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// Kills the states of these addresses, each by its id.
pub fn kill_states(addresses: &[IpAddr]) -> Result<Reply, Failure> {
    let mut table = all_states()?;
    match pf_states::kill(&table.ids_of(addresses)) {
        Err(error) if is_done_otherwise(&error) => {
            // Their ids in its own words: pfctl of 15 writes them the other way round than that of 13.2.
            table = states_by_pfctl()?;
            for id in table.ids_of(addresses) {
                pfctl(&states::kill_arguments(id), "")?.or_failure(format!("kill the state {id}"))?;
            }
        }
        done => done.doing(|| "kill states")?,
    }
    let doubtful = table.doubtful(addresses);
    if doubtful.is_empty() {
        return Ok(Reply::Done);
    }
    let text = format!("states that Warren cannot read may be left: {}", doubtful.join("; "));
    Ok(Reply::Remark { text })
}

/// Anchors with their tables and the members of those.
pub type Anchors = BTreeMap<String, BTreeMap<String, BTreeSet<IpAddr>>>;

/// Our anchors and the members of their tables; and which of them have other rules than were loaded.
pub fn inventory() -> Result<(Anchors, BTreeSet<String>), Failure> {
    let (mut found, mut edited) = (BTreeMap::new(), BTreeSet::new());
    if !is_loaded() {
        return Ok((found, edited));
    }
    // Without an anchor of ours there is no `warren` either.
    let read = |arguments: &[&str]| -> Result<String, Failure> {
        let said = pfctl(arguments, "")?;
        if !said.ok && is_absent(&said) {
            return Ok(String::new());
        }
        said.or_failure("list what pf has of Warren's")
    };
    let list = |arguments: &[&str]| -> Result<Vec<String>, Failure> {
        let lines = read(arguments)?;
        Ok(lines.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
    };
    for anchor in list(&["-a", "warren", "-s", "Anchors"])?.into_iter().filter(|name| is_anchor(name)) {
        let mut tables = BTreeMap::new();
        for table in list(&["-a", &anchor, "-s", "Tables"])? {
            let members = members(&anchor, &table)?;
            tables.insert(table, members);
        }
        let rules = read(&["-a", &anchor, "-s", "nat"])? + &read(&["-a", &anchor, "-s", "rules"])?;
        // The kernel goes on listing an emptied anchor.
        if !tables.is_empty() || !rules.trim().is_empty() {
            if loaded::differs(&anchor, rules.as_bytes()) {
                edited.insert(anchor.clone());
            }
            found.insert(anchor, tables);
        }
    }
    Ok((found, edited))
}
