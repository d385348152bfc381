//! Stops, and calls of several threads.

use super::*;

/// Reads what a channel brings.
struct Channel(mpsc::Receiver<Vec<u8>>);

impl Read for Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Ok(bytes) = self.0.recv() else {
            return Ok(0);
        };
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

#[test]
fn a_stop_ends_a_call_whose_reader_waited() {
    let folder = tempfile::tempdir().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let is_stopping = stop.clone();
    let target = folder_target(folder.path(), false);
    let target = target.stop_when(move || is_stopping.load(Ordering::Relaxed));
    let (sender, receiver) = mpsc::channel();
    let other = target.folder("a");
    let call = std::thread::spawn(move || other.put("b", &mut Channel(receiver)));
    // More than a part, so that an upload is under way.
    for stretch in content(2 * PART_BYTES).chunks(CHUNK_BYTES) {
        sender.send(stretch.to_vec()).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let _ = sender.send(vec![1]);
    let error = call.join().unwrap().unwrap_err();
    assert!(matches!(error, TargetError::Stopped), "{error}");
    drop(sender);
    let left = std::fs::read_dir(folder.path().join("a"))
        .into_iter()
        .flatten();
    assert_eq!(left.count(), 0);
    for error in [
        target.create("a", b"x").err(),
        target.read("a", 1).err(),
        target.list("").err(),
        target.folders().err(),
        target.delete(&["a".to_owned()]).err(),
    ] {
        assert!(matches!(error, Some(TargetError::Stopped)), "{error:?}");
    }
}

#[test]
fn a_stop_ends_a_request_that_is_not_answered() {
    let (asked, was_asked) = mpsc::channel();
    let (answer, answers) = mpsc::channel::<()>();
    let server = Server::new(move |_| {
        asked.send(()).unwrap();
        // Until the test is over.
        let _ = answers.recv();
        Reply::Cut
    });
    let stop = Arc::new(AtomicBool::new(false));
    let is_stopping = stop.clone();
    let target = bucket_target(&server, false);
    let target = target.stop_when(move || is_stopping.load(Ordering::Relaxed));
    let call = std::thread::spawn(move || target.read("a", 10));
    was_asked.recv().unwrap();
    stop.store(true, Ordering::Relaxed);
    let error = call.join().unwrap().unwrap_err();
    assert!(matches!(error, TargetError::Stopped), "{error}");
    drop(answer);
}

#[test]
fn calls_of_several_threads_go_on_beside_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder_target(folder.path(), true);
    let (sender, receiver) = mpsc::channel();
    let slow = target.clone();
    let call = std::thread::spawn(move || slow.put("slow", &mut Channel(receiver)));
    sender.send(vec![1]).unwrap();
    target.create("quick", b"x").unwrap();
    assert_eq!(target.read("quick", 1).unwrap(), b"x");
    drop(sender);
    assert_eq!(call.join().unwrap().unwrap().bytes, 1);
    let threads = (0..8).map(|number: usize| {
        let target = target.clone();
        std::thread::spawn(move || target.create("one", number.to_string().as_bytes()).is_ok())
    });
    let threads: Vec<_> = threads.collect();
    let created = threads.into_iter().filter(|_| true);
    let created = created.map(|thread| thread.join().unwrap());
    assert_eq!(created.filter(|is_created| *is_created).count(), 1);
}
