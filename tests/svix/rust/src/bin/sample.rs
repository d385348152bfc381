use serde_json::json;
use svix::api::{Svix, SvixOptions};
use svix::models::MessageIn;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), svix::error::Error> {
    let options = SvixOptions {
        server_url: Some("http://127.0.0.1:8071".to_owned()),
        ..SvixOptions::default()
    };
    let svix = Svix::new("TOKEN".to_owned(), Some(options));
    let message = MessageIn::new("invoice.paid".to_owned(), json!({ "id": 3 }));
    let sent = svix
        .message()
        .create("acme".to_owned(), message, None)
        .await?;
    println!("{}", sent.id);
    Ok(())
}
