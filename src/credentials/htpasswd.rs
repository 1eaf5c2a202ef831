//! Users and their passwords in the format of Apache's `htpasswd`. bcrypt takes milliseconds on purpose, and
//! every export brings the password again; so what was found once is remembered, as a hash and within bounds,
//! for as long as the file does not change.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::CredentialError;

/// Answers remembered, of each kind. Beyond it all are forgotten and found anew.
const REMEMBERED: usize = 1_024;
/// More users are a mistake in a file.
const USERS_MAX: usize = 10_000;

/// The users of a file.
pub(super) struct Htpasswd {
    users: HashMap<String, Password>,
    found: Mutex<HashMap<[u8; 32], bool>>,
}

enum Password {
    Bcrypt(String),
    Plain([u8; 32]),
}

impl Htpasswd {
    /// Reads texts with one `user:hash` on each line. A later line goes before an earlier one.
    pub(super) fn parse<'a>(
        texts: impl IntoIterator<Item = (String, &'a str)>,
    ) -> Result<Self, CredentialError> {
        let mut users = HashMap::new();
        for (place, text) in texts {
            for (index, line) in text.lines().map(str::trim).enumerate() {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let wrong = |why| CredentialError::Htpasswd { line: index + 1, place: place.clone(), why };
                let (user, hash) = entry(line).map_err(wrong)?;
                users.insert(user, hash);
                if users.len() > USERS_MAX {
                    return Err(wrong("more than 10,000 users"));
                }
            }
        }
        if users.is_empty() {
            return Err(CredentialError::Nothing {
                what: "a user in htpasswd",
                way_out: "write a line with `htpasswd -nB USER`",
            });
        }
        Ok(Self { users, found: Mutex::default() })
    }

    /// What is known of `user:password` without any work.
    pub(super) fn remembered(&self, credentials: &[u8]) -> Option<bool> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(&digest(credentials)).copied()
    }

    /// Whether this is a user with the right password. May take as long as bcrypt does, also for users that
    /// are not there, so that the time does not tell who is.
    pub(super) fn verify(&self, user: &str, password: &[u8]) -> bool {
        let known = self.users.get(user);
        let is_right = match known.or_else(|| self.users.values().next()) {
            Some(Password::Bcrypt(hash)) => bcrypt::verify(password, hash).unwrap_or(false),
            Some(Password::Plain(expected)) => bool::from(digest(password).ct_eq(expected)),
            None => false,
        };
        let is_right = is_right && known.is_some();
        self.remember(user, password, is_right);
        is_right
    }

    fn remember(&self, user: &str, password: &[u8], is_right: bool) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        // Wrong passwords, of which there is no end, must not push out the right ones.
        if found.values().filter(|v| **v == is_right).count() >= REMEMBERED {
            found.retain(|_, v| *v != is_right);
        }
        found.insert(digest(&[user.as_bytes(), b":", password].concat()), is_right);
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn entry(line: &str) -> Result<(String, Password), &'static str> {
    let (user, hash) = line.split_once(':').ok_or("it is not `user:hash`")?;
    if user.is_empty() || hash.is_empty() {
        return Err("the user or the password is empty");
    }
    let password = if ["$2y$", "$2a$", "$2b$"].iter().any(|prefix| hash.starts_with(prefix)) {
        bcrypt::HashParts::from_str(hash).map_err(|_| "it is no whole bcrypt hash")?;
        Password::Bcrypt(hash.to_owned())
    } else if hash.starts_with('$') || hash.starts_with('{') {
        return Err("hashes other than bcrypt are not accepted; write the line with `htpasswd -B`");
    } else {
        Password::Plain(digest(hash.as_bytes()))
    };
    Ok((user.to_owned(), password))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `htpasswd -nbB -C 4 robot beep`.
    const ROBOT: &str = "robot:$2y$04$DCDVT3Ldz2lROBW/EKpUp.eXaIMb18OmNfwMZAIiD6D4pXWdcRhiq";

    fn parse(text: &str) -> Result<Htpasswd, CredentialError> {
        Htpasswd::parse([("users".to_owned(), text)])
    }

    #[test]
    fn users_are_told_from_others() {
        let hash = bcrypt::hash_with_salt("beep", 4, *b"0123456789abcdef").unwrap();
        let users = parse(&format!(
            "# ours\n\nrobot:{}\nold:first\nold:pass:word\n",
            hash.format_for_version(bcrypt::Version::TwoY)
        ))
        .unwrap();
        for (user, password, expected) in [
            ("robot", "beep", true),
            ("robot", "boop", false),
            ("robot", "", false),
            ("old", "pass:word", true),
            ("old", "first", false),
            ("old", "pass", false),
            ("nobody", "beep", false),
            ("nobody", "pass:word", false),
        ] {
            let credentials = format!("{user}:{password}");
            assert_eq!(users.remembered(credentials.as_bytes()), None, "{credentials}");
            assert_eq!(users.verify(user, password.as_bytes()), expected, "{credentials}");
            assert_eq!(users.remembered(credentials.as_bytes()), Some(expected), "{credentials}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_right_ones_stay() {
        let users = parse("a:right").unwrap();
        assert!(users.verify("a", b"right"));
        for n in 0..3 * REMEMBERED {
            assert!(!users.verify("a", n.to_string().as_bytes()));
        }
        assert!(users.found.lock().unwrap().len() <= 2 * REMEMBERED);
        assert_eq!(users.remembered(b"a:right"), Some(true));
    }

    #[test]
    fn bad_lines_are_named_without_what_they_hold() {
        let rows = [
            ("ok:1\nsecretsecret", "line 2 of users: it is not"),
            ("a:", "line 1 of users: the user or the password is empty"),
            ("a:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/", "htpasswd -B"),
            ("a:{SHA}secretsecret", "htpasswd -B"),
            ("a:$2y$05$secretsecret", "no whole bcrypt hash"),
            ("# nobody", "htpasswd -nB USER"),
        ];
        for (text, expected) in rows {
            let message = parse(text).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(message.contains(expected), "{text}: {message}");
            assert!(!message.contains("secretsecret"), "{message}");
        }
        assert!(parse(ROBOT).is_ok());
    }
}
