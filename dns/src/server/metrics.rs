//! Counters: written by every task, read by whoever shows them. Relaxed, because nothing is decided by them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::fast::Outcome;
use crate::wire::rcode;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of a running server.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64,)* }

        /// What the counters were at one moment. All count since the server began.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counts { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            pub(crate) fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl Counts {
            /// Each counter with its name, for exposition.
            pub fn pairs(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counters! {
    /// Datagrams received.
    udp_queries,
    /// Messages received over TCP.
    tcp_queries,
    /// Answered here with NOERROR.
    noerror,
    /// Answered here with NXDOMAIN.
    nxdomain,
    /// Answered with REFUSED: foreign names of clients that may not forward, foreign classes, transfers.
    refused,
    /// Answered with FORMERR, NOTIMP, NOTAUTH or BADVERS.
    rejected,
    /// Of the answers, those by the slow path.
    slow,
    /// Of the answers, those with TC.
    truncated,
    /// Not answered: responses and scraps.
    dropped,
    /// Not answered, or with TC alone, because the client asked too fast.
    limited,
    /// Sent on to an upstream.
    forwarded,
    /// Forwarded queries that no upstream answered; the client got SERVFAIL.
    forward_failed,
    /// Queries not forwarded because too many were outstanding; the client got SERVFAIL.
    forward_overload,
    /// Attempts at an upstream that brought nothing usable.
    upstream_failures,
    /// TCP connections taken.
    tcp_accepted,
    /// TCP connections closed at once because there were too many.
    tcp_rejected,
    /// Errors of receiving or accepting.
    receive_errors,
    /// Answers that could not be sent.
    send_errors,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(crate) fn one(counter: &AtomicU64) {
        Counters::add(counter, 1);
    }

    pub(crate) fn answered(&self, outcome: Outcome) {
        Counters::one(match outcome.rcode {
            rcode::NOERROR => &self.noerror,
            rcode::NXDOMAIN => &self.nxdomain,
            rcode::REFUSED => &self.refused,
            _ => &self.rejected,
        });
        if outcome.slow {
            Counters::one(&self.slow);
        }
        if outcome.truncated {
            Counters::one(&self.truncated);
        }
    }
}
