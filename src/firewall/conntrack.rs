//! The connections of one instance on Linux, by ctnetlink: what [`states`](super::states) is for pf.
//!
//! One entry holds both directions of a connection. The original tuple is as the client sent it; the reply tuple is as the
//! server answers, after redirection. So an address of an instance stands in one of the two, whether the connection is its
//! own, redirected to it, or translated for it.

use std::net::IpAddr;

use nlink::netlink::netfilter::{ConntrackEntry, IpProtocol, TcpConntrackState};
use nlink::netlink::{Connection, Netfilter};

use super::nft::{failure, run};
use crate::host::Failure;

/// Kills the connections of the addresses, and nobody else's, in the network namespace of the calling thread. Says how many.
pub fn kill(addresses: &[IpAddr]) -> Result<usize, Failure> {
    let what = "killing connections";
    run(async {
        let connection = Connection::<Netfilter>::new().map_err(|e| failure(what, &e))?;
        let mut killed = 0;
        // Of a tuple of ICMPv6 nlink reads and writes the attributes of ICMP, for which the kernel says EINVAL. Such an entry lets
        // nothing through but the answers to one ping, and ends half a minute after the last.
        let all = list(&connection, what).await?;
        let whole = all.iter().filter(|e| e.proto != IpProtocol::Icmpv6);
        for entry in whole.filter(|e| concerns(e, addresses)) {
            match connection.del_conntrack_entry(entry).await {
                Ok(()) => killed += 1,
                // It ended by itself meanwhile.
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(failure(what, &e)),
            }
        }
        Ok(killed)
    })
}

/// How many TCP connections to the addresses are established: what a drain waits for. Those the instance opened itself do
/// not count.
pub fn established(addresses: &[IpAddr]) -> Result<usize, Failure> {
    let what = "counting connections";
    run(async {
        let connection = Connection::<Netfilter>::new().map_err(|e| failure(what, &e))?;
        let open = |e: &&ConntrackEntry| {
            use TcpConntrackState::{CloseWait, Established, FinWait};
            matches!(e.tcp_state, Some(Established | FinWait | CloseWait))
        };
        let serves = |e: &&ConntrackEntry| e.reply.src_ip.is_some_and(|a| addresses.contains(&a));
        Ok(list(&connection, what).await?.iter().filter(open).filter(serves).count())
    })
}

async fn list(connection: &Connection<Netfilter>, what: &str) -> Result<Vec<ConntrackEntry>, Failure> {
    let mut all = connection.get_conntrack().await.map_err(|e| failure(what, &e))?;
    all.extend(connection.get_conntrack_v6().await.map_err(|e| failure(what, &e))?);
    Ok(all)
}

fn concerns(entry: &ConntrackEntry, addresses: &[IpAddr]) -> bool {
    let ends = [entry.orig.src_ip, entry.orig.dst_ip, entry.reply.src_ip, entry.reply.dst_ip];
    ends.into_iter().flatten().any(|a| addresses.contains(&a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_an_address_counts() {
        let ip = |last: u8| Some(IpAddr::from([10, 9, 0, last]));
        let web = [IpAddr::from([10, 9, 0, 11])];
        for place in 0..4 {
            let mut entry = ConntrackEntry::default();
            (entry.orig.src_ip, entry.orig.dst_ip) = (ip(1), ip(2));
            (entry.reply.src_ip, entry.reply.dst_ip) = (ip(111), ip(1));
            assert!(!concerns(&entry, &web));
            let slot = match place {
                0 => &mut entry.orig.src_ip,
                1 => &mut entry.orig.dst_ip,
                2 => &mut entry.reply.src_ip,
                _ => &mut entry.reply.dst_ip,
            };
            *slot = ip(11);
            assert!(concerns(&entry, &web));
        }
    }
}
