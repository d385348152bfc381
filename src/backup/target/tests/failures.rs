//! Answers that refuse, break off or have no end.

use super::*;

#[test]
fn refusals_are_told_by_their_kind_and_not_tried_again() {
    let refused = |error: &TargetError| matches!(error, TargetError::Refused { .. });
    let no_bucket = |error: &TargetError| matches!(error, TargetError::NoSuchBucket { .. });
    let other = |error: &TargetError| matches!(error, TargetError::Other { .. });
    type Kind<'a> = &'a dyn Fn(&TargetError) -> bool;
    for (status, code, is_right, tells) in [
        (403, "AccessDenied", &refused as Kind, "403 AccessDenied"),
        (401, "", &refused as Kind, "401"),
        (403, "", &refused as Kind, "403"),
        (400, "ExpiredToken", &refused as Kind, "400 ExpiredToken"),
        (404, "NoSuchBucket", &no_bucket as Kind, "no such bucket"),
        (
            400,
            "AuthorizationHeaderMalformed",
            &other as Kind,
            "region",
        ),
    ] {
        let server = Server::new(move |_| match code {
            "" => Reply::status(status),
            code => Reply::code(status, code),
        });
        let target = bucket_target(&server, false);
        let judge = |error: TargetError, requests: usize| {
            assert!(is_right(&error), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(tells) && !text.contains("secret"), "{text}");
            assert!(text.starts_with("s3://bucket/pre/fix: "), "{text}");
            assert_eq!(requests, 1, "{error}");
        };
        each_call(&target, &server, judge);
        let before = server.asked().len();
        let in_parts = target.put("a", &mut content(PART_BYTES + 1).as_slice());
        judge(in_parts.unwrap_err(), server.asked().len() - before);
    }
}

#[test]
fn a_404_without_a_code_is_about_the_object_or_about_the_bucket() {
    let server = Server::new(|_| Reply::status(404));
    let target = bucket_target(&server, false);
    let error = target.read("a", 10).unwrap_err();
    assert!(matches!(error, TargetError::NotFound { .. }), "{error}");
    for error in [
        target.put("a", &mut b"x".as_slice()).unwrap_err(),
        target.create("a", b"x").unwrap_err(),
        target.list("").map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, TargetError::NoSuchBucket { .. }), "{error}");
    }
}

#[test]
fn an_answer_of_503_and_a_server_that_is_not_there_are_unreachable() {
    let server = Server::new(|_| Reply::code(503, "SlowDown"));
    let target = bucket_target(&server, false);
    each_call(&target, &server, |error, requests| {
        assert!(
            matches!(error, TargetError::Unreachable { .. }),
            "{error:?}"
        );
        assert!(
            error.passes() && error.to_string().contains("503 SlowDown"),
            "{error}"
        );
        assert_eq!(requests, BOUNDS.tries, "{error}");
    });
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut nobody = Server::new(|_| Reply::Cut);
    nobody.address = closed.local_addr().unwrap();
    drop(closed);
    let error = bucket_target(&nobody, false).read("a", 10).unwrap_err();
    assert!(
        matches!(error, TargetError::Unreachable { .. }),
        "{error:?}"
    );
}

#[test]
fn a_connection_that_was_cut_is_tried_again() {
    let bucket = Bucket::new();
    let mut script = bucket.script();
    let mut number = 0;
    // Of every two requests the first is cut: every second one of those after it was carried out.
    let server = Server::new(move |asked| {
        number += 1;
        match number % 4 {
            1 => Reply::Cut,
            3 => {
                drop(script(asked));
                Reply::Cut
            }
            _ => script(asked),
        }
    });
    let target = bucket_target(&server, false);
    target.put("a", &mut b"x".as_slice()).unwrap();
    target.put("b", &mut b"x".as_slice()).unwrap();
    assert_eq!(target.read("a", 10).unwrap(), b"x");
    assert_eq!(target.list("").unwrap().len(), 2);
    let gone = ["a".to_owned(), "b".to_owned()];
    target.delete(&gone).unwrap();
    assert!(bucket.is_empty());
}

#[test]
fn an_object_whose_creation_was_not_answered_is_ours_only_with_our_bytes() {
    for (stored, is_ours) in [(None, true), (Some(b"other".to_vec()), false)] {
        let bucket = Bucket::new();
        let mut script = bucket.script();
        let mut is_first = true;
        let inner = bucket.clone();
        let server = Server::new(move |asked| {
            let reply = script(asked);
            if !std::mem::take(&mut is_first) {
                return reply;
            }
            if let Some(bytes) = &stored {
                inner.put("pre/fix/a", bytes.clone());
            }
            Reply::Cut
        });
        let created = bucket_target(&server, false).create("a", b"x");
        assert_eq!(created.is_ok(), is_ours, "{created:?}");
        let is_refused = matches!(created, Err(TargetError::Exists { .. }));
        assert_eq!(is_refused, !is_ours);
    }
}

#[test]
fn an_answer_that_breaks_off_is_fetched_again() {
    let bucket = Bucket::new();
    let mut script = bucket.script();
    let mut is_first = true;
    let server = Server::new(move |asked| {
        let reply = script(asked);
        match (&asked.method[..], reply) {
            ("GET", Reply::Answer { body, .. }) if std::mem::take(&mut is_first) => {
                Reply::Half { body }
            }
            (_, reply) => reply,
        }
    });
    let target = bucket_target(&server, true);
    let content = content(PART_BYTES);
    let object = target.put("a", &mut content.as_slice()).unwrap();
    assert!(got(&target, "a", Some(&object)).unwrap() == content);
}

#[test]
fn an_object_that_is_longer_than_expected_is_not_fetched() {
    let bucket = Bucket::new();
    let server = Server::new(bucket.script());
    let target = bucket_target(&server, false);
    let mut object = target
        .put("a", &mut content(3 * PART_BYTES).as_slice())
        .unwrap();
    object.bytes = 10;
    let error = got(&target, "a", Some(&object)).unwrap_err();
    assert!(matches!(error, TargetError::Damaged { .. }), "{error}");
    let gets = server
        .asked()
        .iter()
        .filter(|asked| asked.method == "GET")
        .count();
    assert_eq!(gets, 1);
    bucket.put("pre/fix/empty", Vec::new());
    let error = target.read("empty", 10).unwrap_err();
    assert!(matches!(error, TargetError::Damaged { .. }), "{error}");
}

#[test]
fn an_answer_without_end_is_not_kept() {
    let server = Server::new(|asked| match asked.path.contains("list-type") {
        true => Reply::with_body(200, vec![b' '; 17 << 20]),
        false => Reply::with_body(403, vec![b' '; 65 << 10]),
    });
    let target = bucket_target(&server, false);
    assert!(target.list("").is_err());
    assert!(target.read("a", 10).is_err());
}

#[test]
fn a_list_without_end_ends_as_an_error() {
    let server = Server::new(|_| {
        let page = "<ListBucketResult><NextContinuationToken>again</NextContinuationToken>\
                    <CommonPrefixes><Prefix>pre/fix/x/</Prefix></CommonPrefixes></ListBucketResult>";
        Reply::with_body(200, page)
    });
    let stopped = Arc::new(AtomicBool::new(false));
    let target = bucket_target(&server, false);
    let counted = target.clone();
    let is_stopping = stopped.clone();
    let target = target.stop_when(move || {
        let is_long = counted.requests().lists > 20;
        is_stopping.fetch_or(is_long, Ordering::Relaxed) || is_long
    });
    assert!(matches!(target.folders(), Err(TargetError::Stopped)));
    assert!(stopped.load(Ordering::Relaxed));
}

/// Makes one call of each kind, all of which fail, and shows each error with the number of its requests.
fn each_call(target: &Target, server: &Server, mut judge: impl FnMut(TargetError, usize)) {
    let calls: [&dyn Fn() -> Option<TargetError>; 5] = [
        &|| target.put("a", &mut b"x".as_slice()).err(),
        &|| target.create("a", b"x").err(),
        &|| target.read("a", 10).err(),
        &|| target.list("").err(),
        &|| target.delete(&["a".to_owned()]).err(),
    ];
    for call in calls {
        let before = server.asked().len();
        judge(call().unwrap(), server.asked().len() - before);
    }
}
