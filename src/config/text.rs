//! The short notations inside strings: durations, published ports, address ranges, mounts. Pure, and closed: what does
//! not match is an error that says what was expected.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::spec::{Proto, Publish};

/// No wait in Warren is longer; so sums of durations cannot overflow.
pub(super) const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// `500ms`, `5s`, `2m`, `1h`, or several together: `1m30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{}` is not a duration", shown(text));
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    if text.is_empty() {
        return Err(wrong());
    }
    if total > LONGEST {
        return Err(format!("`{}` is longer than 366 days", shown(text)));
    }
    Ok(total)
}

/// A duration as [`duration`] reads it.
pub(super) fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".into(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

/// `tcp` or `udp`.
pub(super) fn proto(text: &str) -> Result<Proto, String> {
    match text {
        "tcp" => Ok(Proto::Tcp),
        "udp" => Ok(Proto::Udp),
        other => Err(format!("`{}` is not a protocol with ports: tcp or udp", shown(other))),
    }
}

/// A port from 1 to 65535. Plain digits only: what is printed by others must read the same.
pub(super) fn port(text: &str) -> Result<u16, String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("`{}` is not a port", shown(text)));
    }
    match text.parse() {
        Ok(0) => Err("port 0 cannot be asked for".into()),
        Ok(port) => Ok(port),
        Err(_) => Err(format!("`{}` is beyond 65535, the highest port", shown(text))),
    }
}

/// `80` or `53/udp`; tcp if nothing is said.
pub(super) fn port_proto(text: &str) -> Result<(u16, Proto), String> {
    match text.split_once('/') {
        Some((number, name)) => Ok((port(number)?, proto(name)?)),
        None => Ok((port(text)?, Proto::Tcp)),
    }
}

/// `8080:80`, `80`, `127.0.0.1:8080:80/tcp`, `[::1]:8080:80`.
pub(super) fn publish(text: &str) -> Result<Publish, String> {
    let (body, proto) = match text.rsplit_once('/') {
        Some((body, name)) => (body, proto(name)?),
        None => (text, Proto::Tcp),
    };
    let (address, ports) = if let Some(rest) = body.strip_prefix('[') {
        let (address, rest) =
            rest.split_once("]:").ok_or("after `[` an IPv6 address and `]:` are expected")?;
        (Some(address), rest)
    } else {
        match body.split(':').count() {
            1 | 2 => (None, body),
            3 => body.split_once(':').map_or((None, body), |(address, rest)| (Some(address), rest)),
            _ => return Err(format!("`{}` has too many colons: an IPv6 address goes in [ ]", shown(text))),
        }
    };
    let address: Option<IpAddr> = address
        .map(|address| {
            address.parse().map_err(|_| format!("`{}` is not an address of the host", shown(address)))
        })
        .transpose()?;
    let (outer, inner) = match ports.split_once(':') {
        Some((outer, inner)) => (port(outer)?, port(inner)?),
        None => (port(ports)?, port(ports)?),
    };
    Ok(Publish { address, port: outer, target: inner, proto })
}

/// A published port as [`publish`] reads it.
pub(super) fn publish_text(publish: &Publish) -> String {
    let address = match publish.address {
        Some(IpAddr::V4(address)) => format!("{address}:"),
        Some(IpAddr::V6(address)) => format!("[{address}]:"),
        None => String::new(),
    };
    format!("{address}{}:{}/{}", publish.port, publish.target, publish.proto.as_str())
}

/// `10.0.0.5`, `10.0.0.5-10.0.0.9` or `10.0.0.64/28`: first and last address.
pub(super) fn range(text: &str) -> Result<(IpAddr, IpAddr), String> {
    let wrong = || format!("`{}` is not an address, a range or a prefix", shown(text));
    if let Some((first, last)) = text.split_once('-') {
        let first: IpAddr = first.trim().parse().map_err(|_| wrong())?;
        let last: IpAddr = last.trim().parse().map_err(|_| wrong())?;
        return Ok((first, last));
    }
    if text.contains('/') {
        let net: IpNet = text.parse().map_err(|_| wrong())?;
        return Ok((net.network(), net.broadcast()));
    }
    text.parse().map(|address| (address, address)).map_err(|_| wrong())
}

/// Untrusted words in messages: short, without control characters.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let mut short: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    // escape_debug also escapes quotes, which are harmless and common in commands.
    short = short.replace("\\\"", "\"").replace("\\'", "'");
    if text.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "5", "s", "5 s", "-1s", "1.5s", "5S", "99999999999999999999s", "9000h", "5s "] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn published_ports() {
        let all = |port, target, proto| Publish { address: None, port, target, proto };
        assert_eq!(publish("8080:80"), Ok(all(8080, 80, Proto::Tcp)));
        assert_eq!(publish("53/udp"), Ok(all(53, 53, Proto::Udp)));
        let on = |address: &str| Publish { address: address.parse().ok(), ..all(8080, 80, Proto::Tcp) };
        assert_eq!(publish("127.0.0.1:8080:80/tcp"), Ok(on("127.0.0.1")));
        assert_eq!(publish("[::1]:8080:80"), Ok(on("::1")));
        for wrong in [
            "",
            ":",
            "a:80",
            "0:80",
            "80:0",
            "8080:80/sctp",
            "::1:8080:80",
            "[::1]8080:80",
            "1:2:3:4",
            "+80",
            "70000",
        ] {
            assert!(publish(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_them_panic(text in ".{0,40}") {
            let _ = (duration(&text), publish(&text), range(&text), port_proto(&text), shown(&text));
        }

        #[test]
        fn durations_come_back(millis in 0_u64..31_000_000_000) {
            let it = Duration::from_millis(millis);
            prop_assert_eq!(duration(&duration_text(it)), Ok(it));
        }

        #[test]
        fn published_ports_come_back(v4: Option<std::net::Ipv4Addr>, port in 1_u16.., target in 1_u16.., udp: bool) {
            let proto = if udp { Proto::Udp } else { Proto::Tcp };
            let it = Publish { address: v4.map(IpAddr::V4), port, target, proto };
            prop_assert_eq!(publish(&publish_text(&it)), Ok(it));
        }
    }
}
