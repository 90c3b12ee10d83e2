//! Specs for tests.

use std::collections::BTreeMap;
use std::time::Duration;

use warren::config::spec::*;
use warren::lifecycle::engine::Command;

pub fn hook(name: &str) -> Vec<CommandLine> {
    vec![CommandLine::Shell(format!("hook {name}"))]
}

pub fn instance(network: &str) -> InstanceSpec {
    InstanceSpec {
        classic: None,
        template: TemplateSpec { name: "host".into(), source: TemplateSource::Host },
        links: vec![LinkSpec { network: network.into(), address: AddressMode::Auto, vnet: true }],
        command: Some(CommandLine::Argv(vec!["@warren".into(), "beacon".into()])),
        env: BTreeMap::new(),
        mounts: vec![MountSpec {
            fstype: "nullfs".into(),
            source: "/data".into(),
            target: "/data".into(),
            options: vec![],
            read_only: false,
            kind: MountKind::Mount,
        }],
        hooks: Hooks {
            prepare: hook("prepare"),
            prestart: hook("prestart"),
            created: hook("created"),
            start: hook("start"),
            poststart: hook("poststart"),
            prestop: hook("prestop"),
            stop: hook("stop"),
            quiesced: hook("quiesced"),
            poststop: hook("poststop"),
            release: hook("release"),
        },
        params: BTreeMap::new(),
        datasets: vec![],
        hostname: None,
        exec_timeout: None,
        stop_timeout: Duration::from_secs(10),
        drain: Duration::from_secs(1),
        jail_user: None,
        system_jail_user: false,
        system_user: None,
        clean_env: true,
        fib: None,
        consolelog: None,
        persist: false,
        on_stop_failure: OnStopFailure::Continue,
    }
}

pub fn network(name: &str, third: u8) -> NetworkSpec {
    NetworkSpec {
        name: name.into(),
        ipv4: Some(format!("10.77.{third}.0/24").parse().unwrap()),
        ipv6: Some(format!("fd77:{third}::/64").parse().unwrap()),
        gateway4: Some(format!("10.77.{third}.1").parse().unwrap()),
        gateway6: Some(format!("fd77:{third}::1").parse().unwrap()),
        lan_dhcp: false,
        dhcp4: Some(format!("10.77.{third}.2").parse().unwrap()),
        exclude: vec![],
        nat: true,
        mtu: 1500,
        isolated: false,
        peers: vec![],
        uplink: None,
        quarantine: Duration::from_secs(60),
    }
}

pub fn service(name: &str, replicas: u32, depends_on: &[&str]) -> ServiceSpec {
    ServiceSpec {
        name: name.into(),
        replicas,
        depends_on: depends_on.iter().map(|s| (*s).to_owned()).collect(),
        publish: vec![],
        ports: vec![],
        restart: Restart {
            policy: RestartPolicy::OnFailure,
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            retries: Some(3),
        },
        health: None,
        instance: instance("net"),
    }
}

pub fn fabric(services: Vec<ServiceSpec>) -> FabricSpec {
    FabricSpec {
        name: "shop".into(),
        domain: "shop.internal".into(),
        forward: vec![],
        templates: BTreeMap::new(),
        networks: [("net".to_owned(), network("net", 1))].into(),
        services: services.into_iter().map(|s| (s.name.clone(), s)).collect(),
        origin: None,
    }
}

pub fn shop() -> FabricSpec {
    let mut web = service("web", 2, &["api"]);
    web.publish = vec![Publish { address: None, port: 8080, target: 80, proto: Proto::Tcp }];
    fabric(vec![service("db", 1, &[]), service("api", 3, &["db"]), web])
}

pub fn declare(spec: FabricSpec) -> Command {
    Command::Declare(Box::new(spec))
}
