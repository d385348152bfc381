//! How fast the disk syncs: no durable figure means anything without it.

use std::fs::File;
use std::io::Result;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::line;

const BLOCK: [u8; 4096] = [7; 4096];

pub fn report(directory: &Path) {
    let appends = syncs_per_second(directory, |round| round);
    let overwrites = syncs_per_second(directory, |round| round % 64);
    match (appends, overwrites) {
        (Ok(appends), Ok(overwrites)) => line(
            "disk: 4 KiB + fdatasync, one thread",
            format!("{appends:.0}/s appending, {overwrites:.0}/s overwriting"),
        ),
        (Err(error), _) | (_, Err(error)) => line("disk", format!("not measured: {error}")),
    }
}

fn syncs_per_second(directory: &Path, block: impl Fn(u64) -> u64) -> Result<f64> {
    let path = directory.join("syncs");
    let file = File::create(&path)?;
    for one in 0..64 {
        file.write_all_at(&BLOCK, one * BLOCK.len() as u64)?;
    }
    file.sync_all()?;
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < Duration::from_secs(1) {
        file.write_all_at(&BLOCK, (64 + block(rounds)) * BLOCK.len() as u64)?;
        file.sync_data()?;
        rounds += 1;
    }
    std::fs::remove_file(&path)?;
    Ok(rounds as f64 / start.elapsed().as_secs_f64())
}
