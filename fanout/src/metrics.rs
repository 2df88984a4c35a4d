//! What a replica counts, for whoever scrapes it. Where nobody does, counting costs next to nothing.

use std::{sync::LazyLock, time::Duration};

use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};
use tally_domain::{
    PrincipalKind, Verdict,
    credential::{CredentialKind, KINDS},
};

use crate::{bus::wire::Frame, protocol::By, replica::VerifyError};

const VERDICTS: &str = "tally_verdicts_total";
const REVOCATION_SECONDS: &str = "tally_revocation_seconds";
const BUS_MESSAGES: &str = "tally_bus_messages_total";
const BUS_FAULTS: &str = "tally_bus_faults_total";
const GAPS_REPAIRED: &str = "tally_gaps_repaired_total";
const WARM_STARTS: &str = "tally_warm_starts_total";
const WARM_START_VERDICTS: &str = "tally_warm_start_verdicts_total";
const REGISTRATIONS_LOST: &str = "tally_registrations_lost_total";

/// Upper bounds of the histograms' buckets.
pub const BUCKETS: [(&str, &[f64]); 1] = [(
    REVOCATION_SECONDS,
    &[0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.1, 2.0, 5.0, 10.1],
)];

/// The kind of a token that is none of ours.
const UNKNOWN: &str = "unknown";

/// Every metric, made once: looking one up costs more than a verdict from memory.
pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// Makes every metric, so that it is shown before there is anything to count. A recorder that is
/// installed later is told nothing.
pub fn register() {
    LazyLock::force(&METRICS);
}

/// Counts a no that took no lookup: a wrong checksum or signature, or no form of any credential.
pub fn malformed() {
    METRICS.malformed.increment(1);
}

pub(crate) struct Metrics {
    malformed: Counter,
    remembered: OfKind,
    found: OfKind,
    invalid: OfKind,
    suspended: OfKind,
    unavailable: OfKind,
    acknowledged: Histogram,
    by_time: Histogram,
    pub sent: Messages,
    received: Messages,
    pub forged: Counter,
    pub unsent: Counter,
    pub slow_consumer: Counter,
    pub gaps_repaired: Counter,
    pub registrations_lost: Counter,
    pub warm_starts: Counter,
    pub warm_start_verdicts: Counter,
}

/// A counter for each kind of credential, and the last for those of which nobody knows it.
struct OfKind([Counter; KINDS.len() + 1]);

impl OfKind {
    fn new(outcome: &'static str, source: &'static str) -> Self {
        Self(std::array::from_fn(|number| {
            let kind = KINDS.get(number).map_or(UNKNOWN, |row| row.name);
            counter!(VERDICTS, "kind" => kind, "outcome" => outcome, "source" => source)
        }))
    }

    fn increment(&self, kind: Option<CredentialKind>) {
        self.0[kind.map_or(KINDS.len(), |kind| kind as usize)].increment(1);
    }
}

pub(crate) struct Messages {
    pub batches: Counter,
    pub acknowledgements: Counter,
    read_the_log: Counter,
}

impl Messages {
    fn new(direction: &'static str) -> Self {
        let of = |kind| counter!(BUS_MESSAGES, "direction" => direction, "kind" => kind);
        Self {
            batches: of("batch"),
            acknowledgements: of("acknowledgement"),
            read_the_log: of("read_the_log"),
        }
    }
}

impl Metrics {
    fn new() -> Self {
        describe_counter!(
            VERDICTS,
            "Verdicts on credentials, by kind, outcome, and whether form, memory or database decided."
        );
        describe_histogram!(
            REVOCATION_SECONDS,
            "Time from a commit that revokes until no replica says yes any more, by what made sure."
        );
        describe_counter!(BUS_MESSAGES, "Messages between replicas, by direction and kind.");
        describe_counter!(
            BUS_FAULTS,
            "Messages without this installation's MAC (forged), not sent because the bus was full (unsent), \
             and times that more came than was taken (slow_consumer)."
        );
        describe_counter!(GAPS_REPAIRED, "Times that the log was read for what had not been heard.");
        describe_counter!(REGISTRATIONS_LOST, "Times that this replica was no longer on the list.");
        describe_counter!(WARM_STARTS, "Times that memory was filled with the newest tokens.");
        describe_counter!(WARM_START_VERDICTS, "Verdicts that came into memory that way.");
        let revocation = |by| histogram!(REVOCATION_SECONDS, "by" => by);
        let fault = |fault| counter!(BUS_FAULTS, "fault" => fault);
        Self {
            malformed: counter!(VERDICTS, "kind" => UNKNOWN, "outcome" => "invalid", "source" => "form"),
            remembered: OfKind::new("valid", "memory"),
            found: OfKind::new("valid", "database"),
            invalid: OfKind::new("invalid", "database"),
            suspended: OfKind::new("suspended", "database"),
            unavailable: OfKind::new("unavailable", "database"),
            acknowledged: revocation("acknowledged"),
            by_time: revocation("time"),
            sent: Messages::new("sent"),
            received: Messages::new("received"),
            forged: fault("forged"),
            unsent: fault("unsent"),
            slow_consumer: fault("slow_consumer"),
            gaps_repaired: counter!(GAPS_REPAIRED),
            registrations_lost: counter!(REGISTRATIONS_LOST),
            warm_starts: counter!(WARM_STARTS),
            warm_start_verdicts: counter!(WARM_START_VERDICTS),
        }
    }

    pub fn remembered(&self, verdict: &Verdict) {
        self.remembered.increment(kind_of(verdict));
    }

    /// What the database decided on a credential that was shown as one of `shown`, if that is known.
    pub fn looked_up(&self, verdict: &Result<Verdict, VerifyError>, shown: Option<CredentialKind>) {
        match verdict {
            Ok(verdict) => self.found.increment(kind_of(verdict)),
            Err(VerifyError::Invalid) => self.invalid.increment(shown),
            Err(VerifyError::Suspended) => self.suspended.increment(shown),
            Err(VerifyError::Unavailable) => self.unavailable.increment(shown),
        }
    }

    pub fn effective(&self, by: By, waited: Duration) {
        match by {
            By::Acknowledged => self.acknowledged.record(waited),
            By::Time => self.by_time.record(waited),
        }
    }

    pub fn received(&self, frame: &Frame) {
        let Messages { batches, acknowledgements, read_the_log } = &self.received;
        let of_kind = match frame {
            Frame::Batch(_) => batches,
            Frame::Acknowledgement(_) => acknowledgements,
            Frame::ReadTheLog => read_the_log,
        };
        of_kind.increment(1);
    }
}

const fn kind_of(verdict: &Verdict) -> Option<CredentialKind> {
    match verdict.principal.kind() {
        PrincipalKind::Credential(kind) => Some(kind),
        PrincipalKind::Anonymous | PrincipalKind::Operator | PrincipalKind::Server => None,
    }
}
