//! The rules by which the benchmarks make figures of what they read: a ruler that is wrong measures nothing.

#[path = "../benches/rig/mod.rs"]
mod rig;
#[path = "../benches/profile/samples.rs"]
mod samples;

use rig::calls::{counted_by_perf, counted_by_strace};
use rig::figures::{Figures, MICROS, Target, Turns, median};
use rig::threads::kind_of;
use samples::{Frame, Sample, function, group, parse};

#[test]
fn medians_are_those_of_the_values_in_order() {
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[3.0]), Some(3.0));
    assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(&[4.0, 1.0]), Some(2.5));
}

#[test]
fn targets_hold_at_their_bounds() {
    for (target, at, above) in [
        (Target::AtLeast(2.0), true, true),
        (Target::AtMost(2.0), true, false),
        (Target::Below(2.0), false, false),
    ] {
        assert_eq!((target.is_met(2.0), target.is_met(2.1)), (at, above));
    }
}

/// A ratio is that of the medians, and what only one binary has is shown without one.
#[test]
fn turns_are_compared_by_name() {
    let run = |figures: &[(&str, f64)]| {
        let mut run = Figures::default();
        for (name, value) in figures {
            run.add(*name, *value, MICROS);
        }
        run
    };
    let turns = Turns {
        old: vec![
            run(&[("cpu", 80.0), ("sled-io", 7.0)]),
            run(&[("cpu", 100.0)]),
        ],
        new: vec![run(&[("cpu", 44.0)]), run(&[("cpu", 46.0)])],
    };
    let table = turns.table();
    let rows = Vec::from_iter(table.lines().map(|line| {
        let words = Vec::from_iter(line.split_whitespace());
        words.join(" ")
    }));
    assert_eq!(
        rows,
        [
            "cpu 90.0 µs -> 45.0 µs × 0.50 old 80.0 100.0; new 44.0 46.0",
            "sled-io 7.0 µs -> - × - old 7.0; new",
        ]
    );
}

#[test]
fn threads_of_one_kind_are_one_row() {
    for (name, kind) in [
        ("http-0", "http"),
        ("http-metrics", "http-metrics"),
        ("actix-rt|system", "http"),
        ("sled-io-12", "sled-io"),
        ("store-committer", "store-committer"),
        ("17", "17"),
    ] {
        assert_eq!(kind_of(name), kind);
    }
}

#[test]
fn futex_calls_are_read_from_either_counter() {
    let perf =
        "# started on Sat Nov 28 23:00:01 2026\n\n5012,,syscalls:sys_enter_futex,0,100.00,,\n";
    assert_eq!(counted_by_perf(perf), Some(5012));
    let nothing = "<not counted>,,syscalls:sys_enter_futex,0,100.00,,\n";
    assert_eq!(counted_by_perf(nothing), None);
    let strace = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
100.00    1.234567          10    123456      1234 futex
------ ----------- ----------- --------- --------- ----------------
100.00    1.234567          10    123456      1234 total
";
    assert_eq!(counted_by_strace(strace), Some(123_456));
    assert_eq!(counted_by_strace("strace: nothing\n"), None);
}

#[test]
fn samples_are_read_with_the_innermost_frame_first() {
    let script = "\
http-0 
\t           fa8f6 serde_json::de::from_slice::h0123456789abcdef
\t          198b88 <postrider::api::Call as core::future::Future>::poll
\tffffffffffffffff [unknown]

store-committer 
\tffffffff8168a1a5 do_futex
\t          1af8bb syscall


";
    let frame = |function: &str, is_kernel| Frame {
        function: function.to_owned(),
        is_kernel,
    };
    let expected = [
        Sample {
            thread: "http-0".to_owned(),
            frames: vec![
                frame("serde_json::de::from_slice::h0123456789abcdef", false),
                frame(
                    "<postrider::api::Call as core::future::Future>::poll",
                    false,
                ),
            ],
        },
        Sample {
            thread: "store-committer".to_owned(),
            frames: vec![frame("do_futex", true), frame("syscall", false)],
        },
    ];
    let samples = parse(script);
    assert_eq!(samples, expected);
    assert_eq!(function(&samples[0]), "serde_json::de::from_slice");
    assert_eq!(function(&samples[1]), "do_futex");
}

#[test]
fn a_samples_group_is_whose_time_it_was() {
    for (thread, frames, expected) in [
        (
            "http-0",
            "k:futex_wait k:do_futex syscall std::thread::park",
            "futex",
        ),
        (
            "delivery-0",
            "k:_raw_spin k:tcp_sendmsg k:sock_write_iter writev",
            "kernel: TCP",
        ),
        (
            "store-committer",
            "k:ext4_file_write_iter k:vfs_write pwrite64",
            "kernel: files and disk",
        ),
        (
            "http-0",
            "k:ep_poll k:do_epoll_wait epoll_wait",
            "kernel: epoll, eventfd",
        ),
        (
            "http-0",
            "k:clear_page k:handle_mm_fault memcpy",
            "kernel: memory",
        ),
        ("http-0", "k:native_sched_clock", "kernel: other"),
        ("http-0", "_int_free postrider::api::publish", "malloc"),
        (
            "http-0",
            "__memmove_avx_unaligned_erms serde_json::to_vec",
            "copying",
        ),
        (
            "http-0",
            "core::str::from_utf8 serde_json::de postrider::api::publish",
            "JSON",
        ),
        (
            "store-committer",
            "postrider::journal::append postrider::store::committer",
            "journal",
        ),
        (
            "checkpoints",
            "sled::tree::insert postrider::store::live",
            "sled",
        ),
        (
            "store-committer",
            "core::ptr postrider::store::committer::run",
            "store",
        ),
        (
            "delivery-0",
            "actix_http::h1::encoder awc::sender",
            "HTTP out",
        ),
        (
            "http-0",
            "actix_http::h1::encoder actix_web::app",
            "HTTP in",
        ),
        ("http-0", "core::ops::function", "other"),
    ] {
        let frames = frames
            .split(' ')
            .map(|frame| match frame.strip_prefix("k:") {
                Some(function) => Frame {
                    function: function.to_owned(),
                    is_kernel: true,
                },
                None => Frame {
                    function: frame.to_owned(),
                    is_kernel: false,
                },
            });
        let sample = Sample {
            thread: thread.to_owned(),
            frames: Vec::from_iter(frames),
        };
        assert_eq!(group(&sample), expected, "{sample:?}");
    }
}
