//! Any bytes as the names of a policy and as pf's answers: what the fuzz target and its replay drive.

use super::{Policy, ServicePolicy, pf, states};
use crate::config::spec::{Proto, Publish};

/// A policy of these names, of which the last two are a service's and its table's.
fn policy(names: &[String; 5]) -> Policy {
    let [anchor, network, gateway, name, table] = names.clone();
    let publish = vec![Publish { address: None, port: 8080, target: 80, proto: Proto::Tcp }];
    Policy {
        anchor,
        network,
        gateway,
        prefixes: vec![ipnet::Ipv4Net::new_assert([10, 9, 0, 0].into(), 24).into()],
        resolvers: vec![[10, 9, 0, 1].into()],
        nat: true,
        isolated: false,
        forbidden: Vec::new(),
        services: vec![ServicePolicy { name, table, publish }],
    }
}

/// What pf's parser goes by, line for line: all but the letters and the few marks of names.
fn skeleton(text: &str) -> Vec<String> {
    let is_mark = |c: &char| !c.is_ascii_alphanumeric() && !"-_./".contains(*c);
    text.lines().map(|line| line.chars().filter(is_mark).collect()).collect()
}

/// Entry point for fuzzing: lines as the names of a policy and of an interface; and the whole as what pfctl(8) says of states.
///
/// # Panics
/// When a name gets into pf's text that changes more of it than a word.
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = states::parse(&text).ids_of(&[[10, 9, 0, 17].into()]).len();
    let mut lines = text.split('\n').map(str::to_owned);
    let names: [String; 5] = std::array::from_fn(|_| lines.next().unwrap_or_default());
    let outside: Vec<String> = lines.take(4).collect();
    let Ok(made) = pf::text(&policy(&names), &outside) else { return };
    let plain = ["warren/a", "n", "g", "s", "t"].map(str::to_owned);
    let interfaces: Vec<String> = (0..outside.len()).map(|n| format!("em{n}")).collect();
    let expected = pf::text(&policy(&plain), &interfaces).unwrap_or_default();
    assert_eq!(skeleton(&made), skeleton(&expected), "a name is more than a word:\n{made}");
    #[cfg(target_os = "linux")]
    assert!(super::nft::text(&policy(&names), &outside).is_ok(), "what pf takes, nf_tables takes: {names:?}");
}
