//! The variants of the enums that stand in records, and their bytes: an enum is known by its
//! variants' places. See the module above.

use std::collections::BTreeSet;
use std::time::Duration;

use super::rows::{APPLICATION, AT, ENDPOINT, LATER, MESSAGE_ID, TOKEN, claims, text};
use super::*;
use crate::domain::attempt::{FailureKind, Verdict};
use crate::domain::disabled::DisabledReason;
use crate::domain::event_type::Strictness;
use crate::domain::health::RestReason;
use crate::domain::hold::HeldReason;
use crate::domain::job::{JobState, Matching, Replay, Which, Work};
use crate::domain::message::DeliveryStatus;
use crate::domain::notice::ToldKind;
use crate::domain::profile::Method;
use crate::domain::retry::Waits;
use crate::domain::scope::Scope;
use crate::domain::token::{Capability, Role};
use crate::domain::visit::{SignedInWith, Surface};
use crate::store::record::attempt::{FailureKind1, Verdict1};
use crate::store::record::endpoint::{DisabledReason1, HeldReason1, Method1, Waits1};
use crate::store::record::event_type::Strictness1;
use crate::store::record::health::{RestReason1, ToldKind1};
use crate::store::record::job::{DeliveryStatus1, JobState1, Which1, Work1};
use crate::store::record::message::Origin1;
use crate::store::record::token::{Capability1, Role1, Scope1};
use crate::store::record::unique::OnceAnswer1;
use crate::store::record::visit::{SignedInWith1, Surface1};
use crate::store::record::waiting::Trigger1;

/// Checks every variant of an enum. One that has no row does not compile.
macro_rules! variants {
    ($names:ident, $problems:ident, $type:ident as $record:ident { $($hex:literal $variant:ident $fields:tt),* $(,)? }) => {{
        let _has_all = |value: &$type| match value { $($type::$variant { .. } => ()),* };
        $names.insert(stringify!($record));
        let read = |mut bytes: &[u8]| -> Result<$type, NotARecord> {
            let record = record::read_struct::<$record>(&mut bytes)?;
            Ok($type::try_from(record).expect("it fits"))
        };
        $({
            let value = variants!(@ $type $variant $fields);
            $problems.extend(check_variant($hex, &value, $record::from(&value), read));
        })*
    }};
    (@ $type:ident $variant:ident ()) => { $type::$variant };
    (@ $type:ident $variant:ident { $($field:ident: $value:expr),* $(,)? }) => {
        $type::$variant { $($field: $value),* }
    };
    (@ $type:ident $variant:ident ($($value:expr),*)) => { $type::$variant($($value),*) };
}

/// The enums that have rows here; what is wrong goes to `problems`.
pub fn all(problems: &mut Vec<String>) -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    variants!(names, problems, Trigger as Trigger1 { "00" Scheduled (), "01" Manual () });
    variants!(names, problems, FailureKind as FailureKind1 {
        "00" AddressForbidden (),
        "01" Dns (),
        "02" ConnectionRefused (),
        "03" ConnectionFailed (),
        "04" Tls (),
        "05" Timeout (),
        "06" BrokenAnswer (),
        "07" WrongAnswer (),
        "08" NotSendable (),
        "09" Expired (),
        "0a" InternalError (),
        "0b" BreakerOpen (),
        "0c" Canceled (),
    });
    variants!(names, problems, Verdict as Verdict1 {
        "00" Delivered (),
        "01 fd0068e5cf8b010000" RetryAt (AT),
        "02" GiveUp (),
        "03" DisableEndpoint (),
    });
    variants!(names, problems, Role as Role1 {
        "00" Owner (),
        "01" Application (),
        "02" Publisher (),
        "03" WebhookAdmin (),
        "04" WebhookUser (),
        "05" Viewer (),
    });
    variants!(names, problems, Scope as Scope1 {
        "00" Publish (),
        "01" Read (),
        "02" Endpoints (),
        "03" Secrets (),
        "04" Replays (),
        "05" Applications (),
        "06" EventTypes (),
        "07" Expunge (),
        "08" Tokens (),
        "09" Portal (),
        "0a" Status (),
        "0b" OperationalWebhooks (),
    });
    variants!(names, problems, Surface as Surface1 { "00" Console (), "01" Portal () });
    variants!(names, problems, SignedInWith as SignedInWith1 {
        "00 06*20" Token (TOKEN),
        "01 01*20 01 02*20 01 fd0068e5cf8b010000 01 fd6052e6cf8b010000 01 0462657461 0b*32" Signed { claims: claims(), seal: [11; 32] },
    });
    variants!(names, problems, Capability as Capability1 {
        "00" ViewBase (),
        "01" ViewEndpointSecret (),
        "02" ManageEndpointSecret (),
        "03" ManageTransformations (),
        "04" CreateAttempts (),
        "05" ManageEndpoint (),
    });
    variants!(names, problems, Method as Method1 {
        "00" Post (), "01" Put (), "02" Patch (), "03" Get (),
    });
    variants!(names, problems, Strictness as Strictness1 {
        "00" Off (),
        "01" Warn (),
        "02" Reject (),
    });
    variants!(names, problems, DisabledReason as DisabledReason1 {
        "00" Unknown (), "01" ByHand (), "02" Gone (), "03" Requested (), "04" Failing (),
    });
    variants!(names, problems, RestReason as RestReason1 {
        "00" Failures (), "01" RetryAfter (),
    });
    variants!(names, problems, ToldKind as ToldKind1 {
        "00" Failing (), "01" Recovered (),
    });
    variants!(names, problems, HeldReason as HeldReason1 { "00" ByHand (), "01" Restored () });
    variants!(names, problems, Origin as Origin1 {
        "00" Published (), "01" Test (), "02" TestOnce (),
    });
    variants!(names, problems, DeliveryStatus as DeliveryStatus1 {
        "00" Delivered (), "01" Pending (), "02" Held (), "03" Failed (),
    });
    variants!(names, problems, JobState as JobState1 {
        "00" Running (),
        "01" Finished (),
        "02 0166" Failed (text("f")),
        "03" Canceled (),
    });
    variants!(names, problems, Which as Which1 {
        "00" Failed (),
        "01" Missing (),
        "02 00 01 0163 00 00 00" Matching (Matching {
            channel: Some(text("c")),
            ..Matching::default()
        }),
    });
    variants!(names, problems, Work as Work1 {
        "00 02*20 03*20 00 fd0068e5cf8b010000 fd6052e6cf8b010000" Replay (Replay {
            application: APPLICATION,
            endpoint: ENDPOINT,
            which: Which::Failed,
            since: AT,
            until: LATER,
        }),
        "01 fd0068e5cf8b010000 fd6052e6cf8b010000 00" ApplicationUsage {
            since: AT,
            until: LATER,
            applications: None,
        },
        "02" EventTypeUsage (),
    });
    variants!(names, problems, Waits as Waits1 {
        "00 01 05 00" Listed (vec![Duration::from_secs(5)]),
        "01 01 00 0000000000000040 03 00 04 00" Growing {
            first: Duration::from_secs(1),
            factor: 2.0,
            max: Duration::from_secs(3),
            give_up_after: Duration::from_secs(4),
        },
    });
    variants!(names, problems, OnceAnswer as OnceAnswer1 {
        "00 02*20 11e1a300 04*16" Message (APPLICATION, MESSAGE_ID),
        "01 fb9401" Answered (404),
    });
    names
}
