//! What the demo does, in order. Each step is a check; after one without which the rest makes no sense, it ends.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

use super::super::client::segment;
use super::super::daemon::{HostKind, Starting, spawn, wait};
use super::super::dns::Record;
use super::super::fail::INTERRUPTED;
use super::super::follow::{Ended, Goal, Watch};
use super::super::out::{self, Output};
use super::super::resolve::{Answer, lookup};
use super::super::{Client, Fail, exec, lab, ps, shutdown};
use super::report::Report;
use super::trace::Trace;
use super::traffic::{Traffic, fetch, said};
use crate::config::spec::FabricSpec;
use crate::daemon::api::view::{Fabric, Info, Instance, LeaseView, Network, Scale};
use crate::host::{Inventory, Status};
use crate::lifecycle::plan::{SELF_DIR, service_table};
use crate::store::db::Event;

/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// How many instances it is scaled to.
const MANY: u32 = 20;
/// How long traffic is watched without a daemon.
const WITHOUT: Duration = Duration::from_millis(700);

/// The run of a demo.
pub struct Scenario {
    kind: HostKind,
    dir: PathBuf,
    spec: FabricSpec,
    starting: Starting,
    dns: SocketAddr,
    client: Client,
    daemon: Option<Child>,
    trace: Trace,
    /// The service behind a published port, and where it is reached.
    published: Option<(String, SocketAddr)>,
    /// The service that is scaled.
    scaled: String,
    /// The last event before the scale-up in which the daemon was killed.
    killed_after: i64,
    cleared: bool,
}

fn fail(text: impl Into<String>) -> Fail {
    Fail::new(text)
}

/// One look whether anything is left.
type Look = fn(&Trace) -> Result<String, Fail>;

impl Scenario {
    pub fn new(
        kind: HostKind,
        dir: PathBuf,
        spec: FabricSpec,
        starting: Starting,
        dns: SocketAddr,
    ) -> Result<Self, Fail> {
        let published = spec.services.values().find_map(|service| {
            let publish = service.publish.first()?;
            Some((service.name.clone(), SocketAddr::from(([127, 0, 0, 1], publish.port))))
        });
        let others =
            spec.services.values().filter(|s| published.as_ref().is_none_or(|(name, _)| *name != s.name));
        let scaled = others.max_by_key(|s| s.replicas).or_else(|| spec.services.values().next());
        let scaled = scaled
            .ok_or_else(|| fail("the file declares no service, so there is nothing to show"))?
            .name
            .clone();
        let (client, trace) = (Client::new(&dir), Trace::new(&dir));
        Ok(Self {
            kind,
            dir,
            spec,
            starting,
            dns,
            client,
            daemon: None,
            trace,
            published,
            scaled,
            killed_after: 0,
            cleared: false,
        })
    }

    fn real(&self) -> bool {
        self.kind != HostKind::Sim
    }

    pub async fn run(&mut self, report: &mut Report) -> Result<(), Fail> {
        self.start(report, "a daemon starts").await?;
        self.step(report, "all come up", |spec, client| {
            let spec = spec.clone();
            async move {
                let _: Value = client.put(&format!("/v1/fabrics/{}", segment(&spec.name)), &spec).await?;
                Ok(())
            }
        })
        .await?;
        if !report.json() {
            let fabrics: Vec<Fabric> = self.client.get("/v1/fabrics").await?;
            ps::show(&fabrics, &self.instances().await?);
        }
        self.names(report).await?;
        self.pages(report).await?;
        let traffic =
            self.published.as_ref().filter(|_| self.real()).map(|(_, address)| Traffic::start(*address));
        let before = self.spec.services[&self.scaled].replicas;
        self.scale(report, MANY).await?;
        let inventory: Inventory = self.client.get("/v1/inventory").await?;
        self.trace.take(&inventory);
        self.scale(report, before).await?;
        self.kill(report, traffic.as_ref()).await?;
        self.recover(report).await?;
        if let Some(traffic) = traffic {
            let begun = Instant::now();
            report.add("no request failed meanwhile", begun, traffic.stop());
        }
        self.down(report).await?;
        self.clear(report).await;
        Ok(())
    }

    async fn start(&mut self, report: &mut Report, name: &str) -> Result<(), Fail> {
        let begun = Instant::now();
        let started = async {
            let child = spawn(&self.dir, &self.starting)?;
            let child = wait(&self.client, child).await?;
            let info: Info = self.client.get("/v1/info").await?;
            Ok::<_, Fail>((child, format!("on {}, boot {}", info.host, info.boot)))
        };
        match started.await {
            Ok((child, detail)) => {
                self.daemon = Some(child);
                report.add(name, begun, Ok(detail));
                Ok(())
            }
            Err(mut failed) => {
                if self.kind == HostKind::Lab {
                    failed = failed
                        .hint("`warren doctor` says what is missing; `warren demo --host sim` needs nothing");
                }
                report.add(name, begun, Err(failed));
                Err(Fail::told(1))
            }
        }
    }

    /// Asks for something and waits until the fabric is settled.
    async fn step<F, A>(&mut self, report: &mut Report, name: &str, ask: F) -> Result<(), Fail>
    where
        F: FnOnce(&FabricSpec, Client) -> A,
        A: Future<Output = Result<(), Fail>>,
    {
        let begun = Instant::now();
        let asked = ask(&self.spec, self.client.clone());
        let settled = self.settled(asked, Goal::Settled).await;
        Self::must(report, name, begun, settled)
    }

    /// Adds a check without which the rest makes no sense.
    fn must(
        report: &mut Report,
        name: &str,
        begun: Instant,
        result: Result<String, Fail>,
    ) -> Result<(), Fail> {
        if let Err(fail) = &result
            && fail.code == INTERRUPTED
        {
            return result.map(drop);
        }
        if report.add(name, begun, result) { Ok(()) } else { Err(Fail::told(1)) }
    }

    async fn settled(
        &self,
        asked: impl Future<Output = Result<(), Fail>>,
        goal: Goal,
    ) -> Result<String, Fail> {
        let mut watch =
            Watch::begin(&self.client, &self.spec.name, Output { json: false }, Some(PATIENCE)).await?;
        watch.quiet();
        watch.asking(asked).await?;
        match watch.until(goal, true).await? {
            Ended::Reached(Some(fabric)) => {
                let ready: usize = fabric.services.iter().map(|s| s.ready).sum();
                Ok(format!("{ready} instances ready"))
            }
            Ended::Reached(None) => Ok("nothing is there".into()),
            Ended::Stuck(fabric) => Err(fail(format!("it is stuck: {}", fabric.stuck.join("; ")))),
            Ended::TimedOut => {
                Err(fail(format!("not done after {}; {}", out::span(180_000), watch.troubles())))
            }
            Ended::Interrupted => {
                Err(Fail::of(INTERRUPTED, "interrupted", "interrupted; everything was taken down"))
            }
        }
    }

    async fn instances(&self) -> Result<Vec<Instance>, Fail> {
        let mut all: Vec<Instance> = self.client.get("/v1/instances").await?;
        all.retain(|i| i.fabric == self.spec.name);
        Ok(all)
    }

    async fn ready(&self, service: &str) -> Result<Vec<Instance>, Fail> {
        let mut all = self.instances().await?;
        all.retain(|i| i.service == service && i.stage == "ready");
        Ok(all)
    }

    /// Every service by its name: from inside an instance, and from the machine outside.
    async fn names(&self, report: &mut Report) -> Result<(), Fail> {
        let begun = Instant::now();
        if !self.real() {
            report.stand_in();
            let found = self.all_names(|name, kind| self.booked(name, kind)).await;
            report.add("names are in the zone", begun, found);
            return Ok(());
        }
        let asker =
            self.instances().await?.into_iter().next_back().ok_or_else(|| fail("no instance is there"))?;
        let inside = self.all_names(|name, kind| self.inside(&asker.name, name, kind)).await;
        report.add(&format!("names resolve inside {}", asker.name), begun, inside);
        let begun = Instant::now();
        let odd = self.odd_names(&asker).await;
        report.add("own name, PTR, SRV and a name that is not there", begun, odd);
        let begun = Instant::now();
        let outside = self.all_names(|name, kind| async move { lookup(self.dns, &name, kind) }).await;
        report.add(&format!("names resolve outside, at {}", self.dns), begun, outside);
        Ok(())
    }

    /// Asks for the addresses of every service, and compares with those of the ready instances.
    async fn all_names<A>(&self, ask: impl Fn(String, RecordType) -> A) -> Result<String, Fail>
    where
        A: Future<Output = Result<Answer, Fail>>,
    {
        let mut count = 0;
        for service in self.spec.services.values().filter(|s| !s.instance.links.is_empty()) {
            let name = format!("{}.{}", service.name, self.spec.domain);
            let ready = self.ready(&service.name).await?;
            for kind in [RecordType::A, RecordType::AAAA] {
                let wanted: BTreeSet<String> = (ready.iter().flat_map(|i| &i.addresses))
                    .filter(|a| a.is_ipv4() == (kind == RecordType::A))
                    .map(ToString::to_string)
                    .collect();
                let answer = ask(name.clone(), kind).await?;
                let got: BTreeSet<String> = answer.answers.iter().map(|r| r.data.clone()).collect();
                if answer.status != "NOERROR" || got != wanted {
                    return Err(fail(format!(
                        "{name} {kind}: {} {got:?}, where {wanted:?} are ready",
                        answer.status
                    )));
                }
                count += got.len();
            }
        }
        Ok(format!(
            "{count} addresses under {} services, those of all ready instances",
            self.spec.services.len()
        ))
    }

    /// A real query from inside an instance, by the resolver it was given.
    async fn inside(&self, instance: &str, name: String, kind: RecordType) -> Result<Answer, Fail> {
        let program = format!("{SELF_DIR}/warren");
        let kind = kind.to_string();
        let command = [program.as_str(), "resolve", "--json", "--type", &kind, &name];
        let (status, out, err) = exec::capture(&self.client, instance, &command).await?;
        if !matches!(status, Status::Exited(0 | 3)) {
            return Err(fail(format!("asking for {name} inside {instance}: {status}: {}", err.trim())));
        }
        serde_json::from_str(&out)
            .map_err(|e| fail(format!("asking for {name} inside {instance}: {e}: {out}")))
    }

    /// What the zone holds, for a host without packets.
    async fn booked(&self, name: String, kind: RecordType) -> Result<Answer, Fail> {
        let records: Vec<Record> = self.client.get("/v1/names").await?;
        let (dotted, kind) = (format!("{name}."), kind.to_string());
        let answers: Vec<Record> =
            records.into_iter().filter(|r| (r.name == name || r.name == dotted) && r.rtype == kind).collect();
        Ok(Answer { status: "NOERROR".into(), answers })
    }

    async fn odd_names(&self, asker: &Instance) -> Result<String, Fail> {
        let own = self.inside(&asker.name, asker.dns.clone(), RecordType::A).await?;
        let v4: Vec<&IpAddr> = asker.addresses.iter().filter(|a| a.is_ipv4()).collect();
        if own.answers.iter().map(|r| r.data.clone()).ne(v4.iter().map(ToString::to_string)) {
            return Err(fail(format!("{}: {:?} and not {v4:?}", asker.dns, own.answers)));
        }
        for address in &asker.addresses {
            let back = self.inside(&asker.name, address.to_string(), RecordType::PTR).await?;
            if !back.answers.iter().any(|r| r.data.trim_end_matches('.') == asker.dns) {
                return Err(fail(format!(
                    "the PTR of {address} is {:?} and not {}",
                    back.answers, asker.dns
                )));
            }
        }
        let named = self.spec.services.values().find_map(|s| s.ports.first().map(|port| (s, port)));
        if let Some((service, port)) = named {
            let name =
                format!("_{}._{}.{}.{}", port.name, port.proto.as_str(), service.name, self.spec.domain);
            let found = self.inside(&asker.name, name.clone(), RecordType::SRV).await?;
            let ready = self.ready(&service.name).await?.len();
            if found.answers.len() != ready {
                return Err(fail(format!(
                    "{name} has {} SRV records where {ready} are ready",
                    found.answers.len()
                )));
            }
        }
        let missing = format!("nobody.{}", self.spec.domain);
        let none = self.inside(&asker.name, missing.clone(), RecordType::A).await?;
        if none.status != "NXDOMAIN" {
            return Err(fail(format!("{missing}: {} and not NXDOMAIN", none.status)));
        }
        Ok("as they should be".into())
    }

    /// A page through the published port, and from different instances.
    async fn pages(&self, report: &mut Report) -> Result<(), Fail> {
        let Some((service, address)) = &self.published else {
            report.say("no service publishes a port: nothing is fetched");
            return Ok(());
        };
        let begun = Instant::now();
        let ready = self.ready(service).await?;
        if !self.real() {
            report.stand_in();
            let inventory: Inventory = self.client.get("/v1/inventory").await?;
            report.add(
                "the published port leads to all that are ready",
                begun,
                members(&inventory, service, &ready),
            );
            return Ok(());
        }
        let page = fetch(*address).map_err(fail).and_then(|page| match said(&page, "name") {
            Some(name) => Ok(format!("{name} answers at http://{address}/")),
            None => Err(fail(format!("http://{address}/ is not a beacon's page: {page}"))),
        });
        report.add("a page through the published port", begun, page);
        let begun = Instant::now();
        let mut hosts = BTreeSet::new();
        for _ in 0..200 {
            if let Ok(page) = fetch(*address) {
                hosts.extend(said(&page, "host").map(str::to_owned));
            }
            if hosts.len() >= ready.len() {
                break;
            }
        }
        let names: BTreeSet<String> = ready.iter().map(|i| i.name.clone()).collect();
        let spread = if hosts == names {
            Ok(format!("all {} answer in turn", hosts.len()))
        } else {
            Err(fail(format!("{hosts:?} answered, where {names:?} are ready")))
        };
        report.add("different instances answer", begun, spread);
        Ok(())
    }

    async fn scale(&mut self, report: &mut Report, replicas: u32) -> Result<(), Fail> {
        let service = self.scaled.clone();
        let name = format!("{service} scales to {replicas}");
        let path = self.scale_path();
        self.step(report, &name, |_, client| async move {
            let _: Value = client.put(&path, &Scale { replicas }).await?;
            Ok(())
        })
        .await?;
        let begun = Instant::now();
        let ready = self.ready(&service).await?;
        let addresses: BTreeSet<IpAddr> = ready.iter().flat_map(|i| i.addresses.iter().copied()).collect();
        let links = self.spec.services[&service].instance.links.len();
        let all = ready.iter().map(|i| i.addresses.len()).sum::<usize>();
        let counted = if ready.len() != replicas as usize || addresses.len() != all || (links > 0 && all == 0)
        {
            Err(fail(format!(
                "{} are ready with {} different addresses of {all}",
                ready.len(),
                addresses.len()
            )))
        } else {
            self.resolved(report, &service).await
        };
        report.add(&format!("all {replicas} under one name, each with addresses of its own"), begun, counted);
        Ok(())
    }

    async fn resolved(&self, report: &mut Report, service: &str) -> Result<String, Fail> {
        let name = format!("{service}.{}", self.spec.domain);
        let answer = if self.real() {
            lookup(self.dns, &name, RecordType::A)?
        } else {
            report.stand_in();
            self.booked(name.clone(), RecordType::A).await?
        };
        let got: BTreeSet<String> = answer.answers.into_iter().map(|r| r.data).collect();
        let ready = self.ready(service).await?;
        let wanted: BTreeSet<String> = ready
            .iter()
            .flat_map(|i| &i.addresses)
            .filter(|a| a.is_ipv4())
            .map(ToString::to_string)
            .collect();
        if got == wanted {
            Ok(format!("{name} has {} addresses", got.len()))
        } else {
            Err(fail(format!("{name} has {got:?}, where {wanted:?} are ready")))
        }
    }

    fn scale_path(&self) -> String {
        format!("/v1/fabrics/{}/services/{}/scale", segment(&self.spec.name), segment(&self.scaled))
    }

    /// SIGKILL to the daemon in the middle of a scale-up.
    async fn kill(&mut self, report: &mut Report, traffic: Option<&Traffic>) -> Result<(), Fail> {
        let begun = Instant::now();
        let killed = async {
            let mut told = self.client.stream("/v1/events?follow=true&now=true").await?;
            let _: Value = self.client.put(&self.scale_path(), &Scale { replicas: MANY }).await?;
            // With packets the first that is ready tells that the middle is reached; in the sim that is the end already.
            let (kind, prefix) =
                (if self.real() { "ready" } else { "starting" }, format!("{}-", self.scaled));
            let mut first = None;
            loop {
                let event = tokio::time::timeout(PATIENCE, told.next::<Event>()).await;
                let event = event.map_err(|_| fail("nothing happened"))??;
                let event = event.ok_or_else(|| fail("the daemon ended by itself"))?;
                first.get_or_insert(event.cursor - 1);
                let text = |key: &str| event.what.get(key).and_then(Value::as_str).unwrap_or_default();
                if text("kind") == kind && text("name").starts_with(&prefix) {
                    break;
                }
            }
            let child = self.daemon.as_mut().ok_or_else(|| fail("no daemon was started"))?;
            // std::process kills by SIGKILL.
            child.kill().and_then(|()| child.wait()).map_err(|e| fail(format!("killing the daemon: {e}")))?;
            shutdown::wait_for_end(&self.dir).await?;
            if self.client.answering().await?.is_some() {
                return Err(fail("a daemon answers still"));
            }
            self.killed_after = first.unwrap_or_default();
            Ok("SIGKILL, and nothing answers any more".into())
        };
        let killed = killed.await;
        self.daemon = None;
        Self::must(report, "the daemon is killed in the middle of a scale-up", begun, killed)?;
        if let Some(traffic) = traffic {
            let begun = Instant::now();
            let before = traffic.good();
            tokio::time::sleep(WITHOUT).await;
            let fetched = traffic.good() - before;
            let went_on = if fetched > 0 {
                Ok(format!("{fetched} pages without a daemon"))
            } else {
                Err(fail("not one page came without a daemon"))
            };
            report.add("traffic goes on without a daemon", begun, went_on);
        }
        Ok(())
    }

    /// What the journal of events says of the moment of the kill: how many were ready by then.
    async fn middle(&self) -> Result<String, Fail> {
        let mut told = self.client.stream(&format!("/v1/events?since={}", self.killed_after)).await?;
        let (mut created, mut ready) = (0, 0);
        let prefix = format!("{}-", self.scaled);
        while let Some(event) = told.next::<Event>().await? {
            let text = |key: &str| event.what.get(key).and_then(Value::as_str).unwrap_or_default();
            match text("kind") {
                "recovering" => break,
                "created" if text("name").starts_with(&prefix) => created += 1,
                "ready" if text("name").starts_with(&prefix) => ready += 1,
                _ => {}
            }
        }
        let text = format!("of {created} new instances {ready} were ready when it was killed");
        if ready < created { Ok(text) } else { Err(fail(text)) }
    }

    async fn recover(&mut self, report: &mut Report) -> Result<(), Fail> {
        self.start(report, "another daemon takes over").await?;
        // In the sim all of it takes milliseconds, and no signal comes between them reliably.
        if self.real() {
            let begun = Instant::now();
            let middle = self.middle().await;
            report.add("it was in the middle", begun, middle);
        }
        let begun = Instant::now();
        let settled = self.settled(async { Ok(()) }, Goal::Settled).await;
        let ready = self.ready(&self.scaled).await?.len();
        let settled = settled.and_then(|text| {
            if ready == MANY as usize { Ok(text) } else { Err(fail(format!("{ready} of {MANY} are ready"))) }
        });
        Self::must(report, "it finishes the scale-up", begun, settled)?;
        let begun = Instant::now();
        let counted = self.resolved(report, &self.scaled).await;
        report.add("names are as they should be again", begun, counted);
        Ok(())
    }

    /// Everything down, and nothing left that the daemon could know of.
    async fn down(&mut self, report: &mut Report) -> Result<(), Fail> {
        let inventory: Inventory = self.client.get("/v1/inventory").await?;
        self.trace.take(&inventory);
        let begun = Instant::now();
        let client = self.client.clone();
        let path = format!("/v1/fabrics/{}", segment(&self.spec.name));
        let asked = async move {
            let _: Value = client.delete(&path).await?;
            Ok(())
        };
        let gone = self.settled(asked, Goal::Gone).await;
        Self::must(report, "all go down", begun, gone)?;
        let begun = Instant::now();
        let empty = self.nothing_known().await;
        report.add(
            "nothing is left: jails, clones, mounts, nodes, interfaces, rules, jobs, sockets",
            begun,
            empty,
        );
        let begun = Instant::now();
        let booked = self.nothing_booked().await;
        report.add(
            "nothing is left in the books: instances, networks, addresses, names, journal",
            begun,
            booked,
        );
        Ok(())
    }

    async fn nothing_known(&self) -> Result<String, Fail> {
        let inventory: Inventory = self.client.get("/v1/inventory").await?;
        if inventory.is_empty() {
            return Ok("the machine's inventory is empty".into());
        }
        Err(fail(serde_json::to_string(&inventory).unwrap_or_default()))
    }

    async fn nothing_booked(&self) -> Result<String, Fail> {
        let instances = self.instances().await?.len();
        let networks = self.client.get::<Vec<Network>>("/v1/networks").await?.len();
        let leases = self.client.get::<Vec<LeaseView>>("/v1/leases").await?.len();
        let names = self.client.get::<Vec<Record>>("/v1/names").await?.len();
        let rows = self.client.get::<Info>("/v1/info").await?.rows;
        let text = format!(
            "{instances} instances, {networks} networks, {leases} addresses, {names} names, {rows} rows"
        );
        // The row that remains says under which boot the store was written last.
        if instances + networks + leases + names == 0 && rows <= 1 { Ok(text) } else { Err(fail(text)) }
    }

    /// Ends everything, and looks on the machine itself. Also after a failure, with what there is by then.
    pub async fn clear(&mut self, report: &mut Report) {
        if std::mem::replace(&mut self.cleared, true) {
            return;
        }
        let begun = Instant::now();
        self.trace.ends();
        let ended = self.end().await;
        report.add("daemon and machine end", begun, ended.map(|()| "ended".into()));
        if !self.real() {
            return;
        }
        let (processes, namespaces) = self.trace.seen();
        report.say(&format!("seen at the height of it: {processes} processes in {namespaces} namespaces"));
        let looks: [(&str, Look); 6] = [
            ("no process is left", Trace::no_process),
            ("no namespace is left", Trace::no_namespace),
            ("no mount is left", Trace::no_mount),
            ("no TAP device or other interface is left", Trace::no_interface),
            ("no table of the packet filter is left", Trace::no_table),
            ("no root and no layer is left", Trace::no_directory),
        ];
        for (name, look) in looks {
            let begun = Instant::now();
            report.add(name, begun, look(&self.trace));
        }
        if let Some((_, address)) = &self.published {
            let begun = Instant::now();
            let closed = match std::net::TcpListener::bind(address) {
                Ok(_) => Ok(format!("{address} is free")),
                Err(error) => Err(fail(format!("{address}: {error}"))),
            };
            report.add("the published port is free again", begun, closed);
        }
    }

    async fn end(&mut self) -> Result<(), Fail> {
        if self.client.answering().await?.is_some() {
            // After a failure something is up still; it goes with the lab.
            let _: Value = self.client.post("/v1/shutdown?force=true", &json!({})).await?;
        }
        shutdown::wait_for_end(&self.dir).await?;
        if self.kind == HostKind::Lab {
            lab::off(&self.dir)?;
        }
        if let Some(mut daemon) = self.daemon.take() {
            daemon.wait().map_err(|e| fail(format!("waiting for the daemon: {e}")))?;
        }
        Ok(())
    }
}

/// The table of a published service holds the addresses of all that are ready.
fn members(inventory: &Inventory, service: &str, ready: &[Instance]) -> Result<String, Fail> {
    let table = service_table(service);
    let members: BTreeSet<IpAddr> =
        inventory.anchors.values().filter_map(|tables| tables.get(&table)).flatten().copied().collect();
    let wanted: BTreeSet<IpAddr> = ready.iter().flat_map(|i| i.addresses.iter().copied()).collect();
    if members == wanted && !wanted.is_empty() {
        Ok(format!("the table {table} has {} members", members.len()))
    } else {
        Err(fail(format!("the table {table} has {members:?}, where {wanted:?} are ready")))
    }
}
