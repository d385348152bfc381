//! How fast the disk syncs: no durable figure means anything without it.

use std::fs::File;
use std::io::Result;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Latency, line};

const MEASURED_FOR: Duration = Duration::from_secs(1);
const BLOCK: [u8; 4096] = [7; 4096];

pub fn report(directory: &Path) {
    for (name, written_before) in [("appending", 0), ("overwriting", 64)] {
        match sync_times(directory, written_before) {
            Ok(times) => {
                let rate = times.len() as f64 / MEASURED_FOR.as_secs_f64();
                let latency = Latency::of(times);
                line(
                    &format!("disk: 4 KiB and fdatasync, {name}"),
                    format!("{rate:.0}/s  {latency}"),
                );
            }
            Err(error) => line("disk", format!("not measured: {error}")),
        }
    }
}

/// How long each sync took, in microseconds: of the blocks written before, in turn, or of ever
/// new ones where there are none.
fn sync_times(directory: &Path, written_before: u64) -> Result<Vec<u32>> {
    let path = directory.join("syncs");
    let file = File::create(&path)?;
    for block in 0..written_before {
        file.write_all_at(&BLOCK, block * BLOCK.len() as u64)?;
    }
    file.sync_all()?;
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < MEASURED_FOR {
        let round = times.len() as u64;
        let block = round.checked_rem(written_before).unwrap_or(round);
        let before = Instant::now();
        file.write_all_at(&BLOCK, block * BLOCK.len() as u64)?;
        file.sync_data()?;
        times.push(u32::try_from(before.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    std::fs::remove_file(&path)?;
    Ok(times)
}
