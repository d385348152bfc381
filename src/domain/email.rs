//! An e-mail address: one that can stand in a command of SMTP and in a mail's header as it is.

use serde::{Deserialize, Serialize};

/// The longest address (RFC 5321, 4.5.3.1.3, without the brackets around it).
pub const BYTES_MAX: usize = 254;

/// The sentence for a text that is not such an address.
const MUST: &str = "must be an e-mail address such as 'ops@example.com'";

/// A checked address. It has visible ASCII characters alone, and none that ends a command or a header.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EmailAddress(String);

impl EmailAddress {
    /// Reads an address. The error is a sentence that does not repeat the text.
    pub fn parse(text: &str) -> Result<EmailAddress, &'static str> {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"(),:;<>[\\]".contains(&byte);
        let is_short = text.len() <= BYTES_MAX;
        let is_one = text.parse::<lettre::Address>().is_ok();
        match is_short && text.bytes().all(is_plain) && is_one {
            true => Ok(EmailAddress(text.to_owned())),
            false => Err(MUST),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the `@`.
    pub fn user(&self) -> &str {
        self.parts().0
    }

    /// The part behind the `@`.
    pub fn domain(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        // Every address has one.
        self.0.rsplit_once('@').unwrap_or_default()
    }
}

impl TryFrom<String> for EmailAddress {
    type Error = &'static str;

    fn try_from(text: String) -> Result<EmailAddress, &'static str> {
        EmailAddress::parse(&text)
    }
}

impl From<EmailAddress> for String {
    fn from(address: EmailAddress) -> String {
        address.0
    }
}

impl std::fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_cannot_leave_its_place_in_a_command_or_a_header() {
        for text in [
            "ops@example.com",
            "first.last+tag@mail.example.co.uk",
            "root@localhost",
            "o'neil@example.com",
        ] {
            let address = EmailAddress::parse(text).unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(address.as_str(), text);
            assert_eq!(address.domain(), text.split_once('@').unwrap().1);
        }
        let long = format!("{}@example.com", "a".repeat(BYTES_MAX));
        for text in [
            "",
            "ops",
            "@example.com",
            "ops@",
            "ops@example.com ",
            "ops @example.com",
            "ops@example.com\r\nDATA",
            "ops@example.com>\nBCC:<a@b.c",
            "Ops <ops@example.com>",
            "\"o p\"@example.com",
            "a@b@example.com",
            "ops@[127.0.0.1]",
            "ops@exämple.com",
            "öps@example.com",
            long.as_str(),
        ] {
            assert_eq!(EmailAddress::parse(text), Err(MUST), "{text}");
        }
    }
}
