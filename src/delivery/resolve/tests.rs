use super::*;
use crate::shortage::Descriptors;

const ANN: ApplicationId = ApplicationId([1; 20]);
const BOB: ApplicationId = ApplicationId([2; 20]);

fn resolver(keep: Duration) -> Resolver {
    Resolver::new(
        Dns::new(Vec::new(), Descriptors::of_process()),
        keep,
        Duration::from_secs(5),
    )
}

fn minute() -> Resolver {
    resolver(Duration::from_secs(60))
}

#[actix_web::test]
async fn a_name_is_asked_for_once_while_its_answer_is_kept() {
    let kept = minute();
    let first = kept.resolve(ANN, "localhost").await.unwrap();
    assert!(first.iter().all(IpAddr::is_loopback), "{first:?}");
    let second = kept.resolve(ANN, "localhost").await.unwrap();
    assert!(Rc::ptr_eq(&first, &second));

    let forgetful = resolver(Duration::ZERO);
    let first = forgetful.resolve(ANN, "localhost").await.unwrap();
    let second = forgetful.resolve(ANN, "localhost").await.unwrap();
    assert!(!Rc::ptr_eq(&first, &second));
}

#[actix_web::test]
async fn a_name_that_does_not_exist_is_an_error() {
    let found = minute().resolve(ANN, "does-not-exist.invalid").await;
    assert_eq!(found, Err(NoAddress::Unknown));
}

#[actix_web::test]
async fn the_cache_is_bounded_and_one_applications_names_push_out_no_others() {
    let resolver = minute();
    let bobs = resolver.resolve(BOB, "localhost").await.unwrap();
    for number in 0..2 * NAMES_PER_APPLICATION {
        let name = format!("{number}.localhost");
        resolver.resolve(ANN, &name).await.unwrap();
    }
    let kept = resolver.inner.applications.borrow()[&ANN].names.len();
    assert!(kept <= NAMES_PER_APPLICATION);
    let again = resolver.resolve(BOB, "localhost").await.unwrap();
    assert!(Rc::ptr_eq(&bobs, &again));
}

/// As many turns as it can get without waiting for one to be given back.
async fn turns(resolver: &Resolver, application: ApplicationId) -> Vec<Turn> {
    let mut turns = Vec::new();
    let patience = Duration::from_millis(10);
    while let Ok(turn) = tokio::time::timeout(patience, resolver.inner.turn(application)).await {
        turns.push(turn);
    }
    turns
}

#[actix_web::test]
async fn an_application_gets_its_share_of_turns_and_always_one() {
    let resolver = minute();
    let anns = turns(&resolver, ANN).await;
    assert_eq!(anns.len(), LOOKUPS_PER_APPLICATION);
    let mut taken = Vec::new();
    for number in 10..100 {
        taken.extend(turns(&resolver, ApplicationId([number; 20])).await);
    }
    assert_eq!(resolver.inner.pool.available_permits(), 0);
    assert_eq!(turns(&resolver, BOB).await.len(), 1);
    drop(anns);
    assert!(turns(&resolver, BOB).await.len() > 1);
}

#[actix_web::test]
async fn the_last_addresses_serve_while_dns_is_silent() {
    let resolver = minute();
    let good = resolver.resolve(ANN, "localhost").await.unwrap();
    let silent = || Err(NoAddress::Silent("nobody answered".into()));
    let inner = &resolver.inner;
    let served = inner.ended(ANN, "localhost", silent()).unwrap();
    assert!(Rc::ptr_eq(&good, &served));
    // That there is no such name is an answer.
    let gone = inner.ended(ANN, "localhost", Err(NoAddress::Unknown));
    assert_eq!(gone, Err(NoAddress::Unknown));
    assert_eq!(inner.ended(ANN, "localhost", silent()), silent());
    // The silence is remembered.
    assert_eq!(resolver.resolve(ANN, "localhost").await, silent());
}

/// The name of a look-up whose task ended without an answer.
fn given_up() -> Name {
    let (task, answer) = watch::channel(None);
    drop(task);
    Name {
        running: Some(answer),
        ..Name::default()
    }
}

#[actix_web::test]
async fn a_look_up_that_ended_without_an_answer_is_begun_anew() {
    let resolver = minute();
    let set = |name: Name| {
        let mut applications = resolver.inner.applications.borrow_mut();
        let known = applications.entry(ANN).or_default();
        known.names.insert("localhost".to_owned(), name);
    };
    set(given_up());
    let found = resolver.resolve(ANN, "localhost").await.unwrap();
    assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
}

#[test]
fn a_look_up_that_ended_without_an_answer_is_forgotten() {
    let mut known = Application::default();
    let now = Instant::now();
    for number in 0..4 {
        let name = Name {
            last: Some((Err(NoAddress::Unknown), now + Duration::from_secs(number))),
            ..given_up()
        };
        known.names.insert(number.to_string(), name);
    }
    known.forget(1);
    assert_eq!(known.names.keys().collect::<Vec<_>>(), ["3"]);
}

#[test]
fn with_a_name_of_each_of_many_applications_half_are_kept() {
    let resolver = minute();
    let now = Instant::now();
    let application = |number: usize| {
        let mut id = [0; 20];
        id[..8].copy_from_slice(&number.to_be_bytes());
        ApplicationId(id)
    };
    for number in 0..NAMES_MAX {
        let end = now + Duration::from_millis(number as u64);
        let name = Name {
            last: Some((Err(NoAddress::Unknown), end)),
            ..Name::default()
        };
        let mut applications = resolver.inner.applications.borrow_mut();
        let known = applications.entry(application(number)).or_default();
        known.names.insert("localhost".to_owned(), name);
    }
    resolver.inner.make_room(application(NAMES_MAX));
    let applications = resolver.inner.applications.borrow();
    assert_eq!(applications.len(), NAMES_MAX / 2);
    assert!(applications.contains_key(&application(NAMES_MAX / 2)));
}
