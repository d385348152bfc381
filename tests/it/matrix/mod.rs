//! The matrix: every operation of the document, for every kind of caller, on what is its own, on what
//! is another's, on what never was, and on what cannot be.
//!
//! - No call answers a foreign name otherwise than one that does not exist, and no answer has anything
//!   foreign in it.
//! - On what is its own, a caller may do what [`table`] says, and hears 403 of everything else.
//! - Nothing foreign is changed.
//!
//! Requests are made of the document, so a new route takes part by itself, and fails until it is
//! entered in [`table`], which says how.

mod callers;
mod document;
mod requests;
mod table;
mod world;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::time::Instant;

use awc::http::Method;
use serde_json::Value;

use callers::{Caller, Foreign, Headers, Role, World, bearer};
use document::Operation;
use requests::{Call, Variant, told, with_path};
use table::{
    LAST, May, NAME_NOTHING, NOT_BY_ONE_SCOPE, Need, OPERATIONS, REFUSED_LATER, UNDOCUMENTED, body,
    named_in_bodies,
};
use world::{Things, absent, kind, kind_in_query};

use crate::jwt;
use crate::support::{Answer, Receiver, Server, together, wait_until};

/// Requests that are under way at a time.
const AT_A_TIME: usize = 16;

/// More are not shown.
const FAULTS_SHOWN: usize = 60;

/// What was said with this `idempotency-key` was said by another.
const USED_KEY: &str = "used";

struct Matrix {
    server: Server,
    operations: Vec<Operation>,
    requests: Cell<usize>,
    faults: RefCell<Vec<String>>,
}

#[actix_web::test]
async fn no_call_tells_a_foreign_name_from_one_that_does_not_exist() {
    let begun = Instant::now();
    let receiver = Receiver::ok().await;
    let mut server = jwt::start_with(|config| {
        // Links to the portal make webhooks by every interface.
        config.portal.profiles = ["standard", "ovation"].map(str::to_owned).to_vec();
        // Some thousand requests a second, from one address, and some with credentials that do not hold.
        config.limits.requests_per_customer_second_max = 0;
        config.limits.auth_failures_per_address_minute_max = 1_000_000;
        config.limits.auth_failures_per_token_prefix_minute_max = 1_000_000;
        // Each caller signs the owner in.
        config.limits.sign_ins_per_credential_minute_max = 1_000_000;
    })
    .await;
    server.leftovers_are_fine();
    let operations = document::operations(&server).await;
    entered(&operations);
    let undocumented = UNDOCUMENTED.map(|(method, path)| Operation::undocumented(method, path));
    let operations = operations.into_iter().chain(undocumented).collect();
    let world = World::made(&server, &receiver).await;
    let matrix = Matrix {
        server,
        operations,
        requests: Cell::new(0),
        faults: RefCell::new(Vec::new()),
    };
    matrix.use_keys(&world).await;
    let made_in = begun.elapsed();
    for caller in &world.callers {
        matrix
            .unchanged_by(caller, &world, matrix.in_paths_and_queries(caller))
            .await;
    }
    let compared_in = begun.elapsed();
    matrix.own(&world, OPERATIONS).await;
    // What is made with a foreign name in its body is there to stay, and is seen from then on.
    for caller in &world.callers {
        matrix
            .unchanged_by(caller, &world, matrix.in_bodies(caller))
            .await;
    }
    matrix.own(&world, LAST).await;
    println!(
        "{} requests of {} callers for {} operations: {made_in:.1?} to make the places, {compared_in:.1?} with \
         what is foreign, {:.1?} in all",
        matrix.requests.get(),
        world.callers.len(),
        matrix.operations.len(),
        begun.elapsed(),
    );
    let faults = matrix.faults.into_inner();
    let shown = faults.iter().take(FAULTS_SHOWN);
    let shown: Vec<_> = shown.map(String::as_str).collect();
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        shown.join("\n")
    );
}

/// The tables have all that the document has, and nothing else.
fn entered(operations: &[Operation]) {
    let documented: BTreeSet<&str> = operations.iter().map(|one| one.id.as_str()).collect();
    let table = OPERATIONS.iter().chain(LAST);
    let known: BTreeSet<&str> = table.map(|(id, _)| *id).collect();
    let new: Vec<_> = documented.difference(&known).collect();
    assert!(
        new.is_empty(),
        "not in tests/it/matrix/table.rs, whose head says how to enter them: {new:?}"
    );
    let gone: Vec<_> = known.difference(&documented).collect();
    assert!(
        gone.is_empty(),
        "in the table and not in the document: {gone:?}"
    );
    let named = named_in_bodies();
    for operation in operations {
        for field in &operation.fields {
            let last = field.rsplit('.').next().unwrap_or_default();
            let is_name = ["id", "ids", "uid", "uids"].contains(&last)
                || last.ends_with("Id")
                || last.ends_with("Ids");
            let is_known = named
                .iter()
                .any(|(id, known, ..)| *id == operation.id && known == field);
            assert!(
                !is_name || is_known || NAME_NOTHING.contains(&field.as_str()),
                "{}: of which kind is the body's {field}? See the head of tests/it/matrix/table.rs",
                operation.id
            );
        }
    }
}

impl Matrix {
    fn fault(&self, caller: &Caller, call: &Call<'_>, what: &str) {
        let (name, id, call) = (&caller.name, &call.operation.id, call.shown());
        self.faults
            .borrow_mut()
            .push(format!("{name}, {id}, {call}: {what}"));
    }

    fn operation(&self, id: &str) -> &Operation {
        self.operations
            .iter()
            .find(|one| one.id == id)
            .expect("it was looked for")
    }

    async fn answer(&self, credential: &Headers, call: &Call<'_>) -> Answer {
        const SURFACE: (&str, &str) = ("x-postrider-surface", "console");
        self.requests.set(self.requests.get() + 1);
        let credential = credential
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        let mut headers: Vec<_> = credential.collect();
        if call.operation.has_surface && !headers.contains(&SURFACE) {
            headers.push(SURFACE);
        }
        if let Some(key) = call.idempotency_key {
            headers.push(("idempotency-key", key));
        }
        let method = call.operation.method.clone();
        self.server
            .call(method, &call.path, &headers, call.body.clone())
            .await
    }

    /// Looks that the answer has nothing that the caller may not see, and is no failure of the server.
    async fn seen(&self, caller: &Caller, call: &Call<'_>) -> Answer {
        let answer = self.answer(&caller.credential, call).await;
        if answer.status >= 500 {
            self.fault(caller, call, &format!("{} {}", answer.status, answer.text));
        }
        let has = |text: &str| {
            let mut headers = answer.headers.iter();
            answer.text.contains(text) || headers.any(|(_, value)| value.contains(text))
        };
        for Foreign { name, hidden, .. } in &caller.foreign {
            let shown = hidden.iter().find(|text| !call.says(text) && has(text));
            if let Some(shown) = shown {
                self.fault(
                    caller,
                    call,
                    &format!("shows {shown} of {name}: {}", answer.text),
                );
            }
        }
        answer
    }

    /// The owners of what is foreign use an idempotency key wherever one is taken.
    async fn use_keys(&self, world: &World) {
        for (credential, place) in [
            (jwt::owner_of(&self.server, jwt::OTHER), &world.theirs),
            (self.server.token.clone(), &world.neighbour),
        ] {
            let credential = bearer(&credential);
            for operation in self.operations.iter().filter(|one| one.is_once) {
                let call = Call {
                    idempotency_key: Some(USED_KEY),
                    ..self.least(operation, &place.things, &|text| place.filled(text))
                };
                let answer = self.answer(&credential, &call).await;
                assert!(answer.status < 300, "{}: {}", call.shown(), answer.text);
            }
        }
        self.server.settle().await;
    }

    /// The operation on these things, with the least body.
    fn least<'a>(
        &self,
        operation: &'a Operation,
        things: &Things,
        fill: &dyn Fn(&str) -> String,
    ) -> Call<'a> {
        Call {
            body: self.least_body(operation, fill),
            ..with_path(operation, things, &[])
        }
    }

    fn least_body(&self, operation: &Operation, fill: &dyn Fn(&str) -> String) -> Option<String> {
        let least = body(&operation.id).or_else(|| operation.body.clone());
        least.map(|least| fill(&least.to_string()))
    }

    fn no_job_runs(&self) -> bool {
        let catalog = self.server.store().catalog();
        !catalog.jobs().any(|job| job.is_running())
    }

    /// Makes a caller's requests, and looks at what is foreign before and after.
    async fn unchanged_by(
        &self,
        caller: &Caller,
        world: &World,
        requests: impl Future<Output = ()>,
    ) {
        let state = async || {
            // What was sent meanwhile, by whomever, is over, and what jobs send.
            wait_until("jobs to end", || self.no_job_runs()).await;
            self.server.settle().await;
            let mut all = world.theirs.state(&self.server, true).await;
            all.extend(world.neighbour.state(&self.server, false).await);
            all
        };
        let before = state().await;
        requests.await;
        for (before, after) in before.iter().zip(state().await) {
            if *before != after {
                let what = format!(
                    "{} changed {}\n{}\n{}",
                    caller.name, before.0, before.1, after.1
                );
                self.faults.borrow_mut().push(what);
            }
        }
    }

    /// Compares a caller's requests for what is foreign with those for what never was.
    async fn in_paths_and_queries(&self, caller: &Caller) {
        let mut pairs = Vec::new();
        let mut making = Vec::new();
        for operation in &self.operations {
            for foreign in &caller.foreign {
                for (theirs, none, makes) in self.in_path(caller, operation, foreign) {
                    // What makes something by its name makes it for others to find.
                    let these = if makes { &mut making } else { &mut pairs };
                    these.push((theirs, none));
                }
                if !is_out_of_reach(caller, operation) {
                    pairs.extend(self.in_query(caller, operation, foreign));
                }
            }
        }
        let absences = RefCell::new(HashMap::new());
        for some in pairs.chunks(AT_A_TIME / 2) {
            together(
                some.iter()
                    .map(|pair| self.compare(caller, pair, &absences)),
            )
            .await;
        }
        for pair in &making {
            self.compare_making(caller, pair).await;
        }
    }

    async fn in_bodies(&self, caller: &Caller) {
        for pair in &self.in_body(caller) {
            self.compare_making(caller, pair).await;
        }
    }

    /// Pairs of requests that name something in their path, and whether they make what is not there.
    fn in_path<'a>(
        &self,
        caller: &Caller,
        operation: &'a Operation,
        foreign: &Foreign,
    ) -> Vec<(Call<'a>, Call<'a>, bool)> {
        let place = &caller.place;
        let never = absent(&foreign.things);
        let variants = Variant::all(operation, &place.things, &foreign.things);
        let is_out_of_reach = is_out_of_reach(caller, operation);
        let mut pairs = Vec::new();
        for (index, variant) in variants.into_iter().enumerate() {
            if is_out_of_reach && index > 0 {
                break;
            }
            let makes = operation.method == Method::PUT && variant.names_by_choice(operation);
            // A uid is taken where anything in the application has it: that much shows
            // (docs/credentials.md).
            if makes && !foreign.is_apart() {
                continue;
            }
            let body = self.least_body(operation, &|text| place.filled(text));
            let [theirs, none] = [&foreign.things, &never].map(|things| Call {
                body: body.clone(),
                ..variant.call(operation, &place.things, things)
            });
            if index == 0 && operation.is_once {
                // The key was used for a request that was the very same.
                let used_by = |text: &str| {
                    let named = foreign.things.iter();
                    let text = named.fold(text.to_owned(), |text, (kind, names)| {
                        text.replace(&format!("{{{kind}}}"), &names[0])
                    });
                    place.filled(&text)
                };
                let body = self.least_body(operation, &used_by);
                let [theirs, none] = [&theirs, &none].map(|call| Call {
                    body: body.clone(),
                    idempotency_key: Some(USED_KEY),
                    ..call.clone()
                });
                pairs.push((theirs, none, false));
            }
            if index == 0 && body.is_some() {
                let [theirs, none] = [&theirs, &none].map(|call| Call {
                    body: Some("{".to_owned()),
                    ..call.clone()
                });
                pairs.push((theirs, none, false));
            }
            pairs.push((theirs, none, makes));
        }
        pairs
    }

    /// Pairs of requests for one's own, whose query names something.
    fn in_query<'a>(
        &self,
        caller: &Caller,
        operation: &'a Operation,
        foreign: &Foreign,
    ) -> Vec<(Call<'a>, Call<'a>)> {
        let place = &caller.place;
        let never = absent(&foreign.things);
        let mut pairs = Vec::new();
        for query in &operation.queries {
            let kind = kind_in_query(&operation.path, query);
            let Some((kind, names)) = kind.and_then(|kind| foreign.things.get_key_value(kind))
            else {
                continue;
            };
            for (index, name) in names.iter().enumerate() {
                let pair = [name, &never[kind][index]].map(|name| {
                    let mut call = with_path(operation, &place.things, &[]);
                    call.path = format!("{}?{query}={name}", call.path);
                    call.names = vec![name.clone()];
                    call
                });
                let [theirs, none] = pair;
                pairs.push((theirs, none));
            }
        }
        pairs
    }

    /// The same for bodies.
    fn in_body(&self, caller: &Caller) -> Vec<(Call<'_>, Call<'_>)> {
        let place = &caller.place;
        let mut pairs = Vec::new();
        for (id, field, kind, body) in named_in_bodies() {
            let operation = self.operation(id);
            if is_out_of_reach(caller, operation) {
                continue;
            }
            for foreign in &caller.foreign {
                // As above: so is an `eventId`.
                if !foreign.is_apart() && ["uid", "eventId"].contains(&field) {
                    continue;
                }
                // And a uid of an application that a token limited to others does not see.
                let is_limited = caller.limits.is_of_application;
                if is_limited
                    && foreign.is_of_same_organisation
                    && field == "uid"
                    && kind == "application"
                {
                    continue;
                }
                let Some(names) = foreign.things.get(kind) else {
                    continue;
                };
                let never = &absent(&foreign.things)[kind];
                for (index, name) in names.iter().enumerate() {
                    let [theirs, none] = [name, &never[index]].map(|name| Call {
                        body: Some(place.filled(&body.to_string().replace("{it}", name))),
                        names: vec![name.clone()],
                        ..with_path(operation, &place.things, &[])
                    });
                    pairs.push((theirs, none));
                }
            }
        }
        pairs
    }

    async fn compare(
        &self,
        caller: &Caller,
        (theirs, none): &(Call<'_>, Call<'_>),
        absences: &RefCell<HashMap<String, String>>,
    ) {
        let key = format!("{} {:?}", none.shown(), none.idempotency_key);
        let known = absences.borrow().get(&key).cloned();
        let absent = match known {
            Some(known) => known,
            None => {
                let answer = self.seen(caller, none).await;
                let told = told(&answer, none);
                absences.borrow_mut().insert(key, told.clone());
                told
            }
        };
        let answer = self.seen(caller, theirs).await;
        self.expect_same(caller, theirs, told(&answer, theirs), absent);
        // A list's iterator is no name of anything there: the page is one's own.
        let is_refused = (400..500).contains(&answer.status);
        if !is_refused && !theirs.path.contains('?') && !theirs.operation.is_open {
            self.fault(
                caller,
                theirs,
                &format!("{}, though it is foreign: {}", answer.status, answer.text),
            );
        }
    }

    /// The same where requests may make something, which is taken back after each.
    async fn compare_making(&self, caller: &Caller, (theirs, none): &(Call<'_>, Call<'_>)) {
        let mut heard = Vec::new();
        for call in [none, theirs] {
            let answer = self.seen(caller, call).await;
            heard.push(told(&answer, call));
            if answer.status < 300 {
                self.take_back(caller, call, &answer).await;
            }
        }
        let theirs_told = heard.pop().expect("two");
        let none_told = heard.pop().expect("two");
        self.expect_same(caller, theirs, theirs_told, none_told);
    }

    fn expect_same(&self, caller: &Caller, theirs: &Call<'_>, foreign: String, absent: String) {
        if foreign != absent {
            let what =
                format!("is told from one that does not exist:\n    {foreign}\n    {absent}");
            self.fault(caller, theirs, &what);
        }
    }

    async fn take_back(&self, caller: &Caller, call: &Call<'_>, answer: &Answer) {
        let operation = call.operation;
        let made = answer.json();
        // An event type is archived otherwise, and its name stays taken.
        let wholly = match operation.path.contains("/event-type") {
            true => "?expunge=true",
            false => "",
        };
        let (path, method, body) = match (&operation.method, answer.status) {
            (&Method::POST, 201) => {
                let name = made["id"].as_str().or(made["name"].as_str());
                let Some(name) = name else { return };
                (
                    format!("{}/{name}{wholly}", call.path),
                    Method::DELETE,
                    None,
                )
            }
            (&Method::PUT, 201) if operation.path.starts_with("/api/v1/") => {
                (format!("{}{wholly}", call.path), Method::DELETE, None)
            }
            (&Method::PUT | &Method::PATCH, 200)
                if operation.fields.iter().any(|field| field == "uid") =>
            {
                // Of things in places, each has but one of these uids.
                let kind = kind(
                    &operation.path,
                    operation.parts.last().expect("it names one"),
                );
                let uid = &caller.place.things[kind][1];
                let least = body(&operation.id)
                    .or_else(|| operation.body.clone())
                    .expect("it takes one");
                let mut body = least;
                body["uid"] = uid.as_str().into();
                if operation.fields.iter().any(|field| field == "eventTypes") {
                    body["eventTypes"] = Value::Null;
                }
                (
                    call.path.clone(),
                    operation.method.clone(),
                    Some(caller.place.filled(&body.to_string())),
                )
            }
            _ => return,
        };
        let headers = caller
            .credential
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        let headers: Vec<_> = headers.collect();
        let answer = self.server.call(method, &path, &headers, body).await;
        assert!(answer.status < 300, "{path}: {}", answer.text);
    }

    /// What each caller may do with what is its own.
    async fn own(&self, world: &World, operations: &[(&str, Need)]) {
        for some in world.callers.chunks(4) {
            together(some.iter().map(|caller| self.own_of(caller, operations))).await;
        }
    }

    /// One caller's calls, in the table's order; and those for what cannot be.
    async fn own_of(&self, caller: &Caller, operations: &[(&str, Need)]) {
        let place = &caller.place;
        for (id, need) in operations {
            let operation = self.operation(id);
            let call = self.least(operation, &place.things, &|text| place.filled(text));
            if !operation.parts.is_empty() {
                self.malformed(caller, operation, &call).await;
            }
            if caller.has_nothing {
                continue;
            }
            let answer = self.seen(caller, &call).await;
            let refused = |status: u16| answer.status == status;
            let is_right = match need.is_met_by(&caller.role, caller.limits) {
                May::Yes if REFUSED_LATER.iter().any(|(later, ..)| later == id) => {
                    let mut refusals = REFUSED_LATER.into_iter();
                    let is_one =
                        |(_, status, words)| refused(status) && answer.text.contains(words);
                    answer.status < 300 || refusals.any(is_one)
                }
                May::Yes if caller.limits.scope.is_some() => {
                    let mut refusals = NOT_BY_ONE_SCOPE.into_iter();
                    match refusals.find(|(refused, ..)| refused == id) {
                        Some((_, status, words)) => refused(status) && answer.text.contains(words),
                        None => answer.status < 300,
                    }
                }
                May::Yes => answer.status < 300,
                May::No if matches!(caller.role, Role::Nobody) => refused(401),
                May::No | May::NotWithout(_) if *need == Need::EndSession => refused(404),
                May::No => refused(403),
                May::NotWithout(scope) => {
                    let lacks = format!("lacks the scope {scope}");
                    refused(403) && answer.text.contains(&lacks)
                }
            };
            if !is_right {
                self.fault(
                    caller,
                    &call,
                    &format!("needs {need:?}: {} {}", answer.status, answer.text),
                );
            }
        }
    }

    /// What cannot be the name of anything is refused like what does not exist.
    async fn malformed(&self, caller: &Caller, operation: &Operation, call: &Call<'_>) {
        let others: Vec<Option<&str>> = operation
            .parts
            .iter()
            .map(|_| Some("not%20a%20name"))
            .collect();
        let call = Call {
            body: call.body.clone(),
            ..with_path(operation, &caller.place.things, &others)
        };
        let answer = self.seen(caller, &call).await;
        if !(400..500).contains(&answer.status) {
            self.fault(caller, &call, &format!("{} {}", answer.status, answer.text));
        }
    }
}

/// Whether the caller has no credential that holds, or lacks the scope for this: it is refused before
/// anything is looked at, so one request tells as much as all.
fn is_out_of_reach(caller: &Caller, operation: &Operation) -> bool {
    let mut table = OPERATIONS.iter().chain(LAST);
    let need = table.find(|(id, _)| *id == operation.id);
    let may = need.map(|(_, need)| need.is_met_by(&caller.role, caller.limits));
    matches!(caller.role, Role::Nobody) || matches!(may, Some(May::NotWithout(_)))
}
