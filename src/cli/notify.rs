//! `notify test`: a mail to the operator, by the settings that the server uses.

use super::{Failure, Result, say};
use crate::clock::Clock;
use crate::config::Config;
use crate::notify::Post;

/// Sends the test mail, and says who gets it.
pub fn test(config: &Config) -> Result {
    let Some(post) = Post::from_config(config)? else {
        let reason = "notify.smtp_host: is empty, so that nothing is mailed";
        return Err(Failure::failed(reason));
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let taken = runtime.block_on(post.test(Clock::System.now()));
    // A name that is being looked up holds nothing up.
    runtime.shutdown_background();
    for to in taken.map_err(Failure::Failed)? {
        say(&format!("the mail relay has taken a mail to {to}"))?;
    }
    Ok(())
}
