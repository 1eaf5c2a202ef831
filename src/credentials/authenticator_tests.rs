//! Headers in, decisions out.

use super::*;
use crate::credentials::{HtpasswdConfig, Secret};

fn headers(name: &str, value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if !value.is_empty() {
        headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    headers
}

fn bearer(config: &BearerConfig) -> Authenticator {
    Authenticator::Bearer(BearerAuth::load(config).unwrap())
}

fn basic(htpasswd: HtpasswdConfig) -> Result<Authenticator, CredentialError> {
    BasicAuth::load(&BasicConfig { htpasswd: Some(htpasswd), ..Default::default() }).map(Authenticator::Basic)
}

#[tokio::test]
async fn tokens_are_told_from_others() {
    let two = ["first-token", "second-token"].map(Secret::from).to_vec();
    let auth = bearer(&BearerConfig { tokens: two.clone(), ..Default::default() });
    for (value, expected) in [
        ("Bearer first-token", Ok(())),
        ("bearer  second-token ", Ok(())),
        ("Bearer first-toke", Err(Denied::Wrong)),
        ("Bearer first-token2", Err(Denied::Wrong)),
        ("Bearer ", Err(Denied::Malformed)),
        ("Bearerfirst-token", Err(Denied::Malformed)),
        ("Basic first-token", Err(Denied::Malformed)),
        ("first-token", Err(Denied::Malformed)),
        ("", Err(Denied::Missing)),
    ] {
        assert_eq!(auth.check(&headers("authorization", value)).await, expected, "{value}");
    }
    let bare =
        BearerConfig { tokens: two, scheme: String::new(), header: "X-Token".into(), ..Default::default() };
    let auth = bearer(&bare);
    assert_eq!(auth.check(&headers("x-token", "first-token")).await, Ok(()));
    assert_eq!(auth.check(&headers("x-token", "Bearer first-token")).await, Err(Denied::Wrong));
    assert_eq!(auth.check(&headers("authorization", "first-token")).await, Err(Denied::Missing));
    assert_eq!(auth.challenge(), "Token realm=\"rollguard\"");
}

#[tokio::test]
async fn a_new_tokens_file_counts_at_the_next_look() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    std::fs::write(&path, "old-token\n").unwrap();
    let auth = bearer(&BearerConfig { filename: Some(path.clone()), ..Default::default() });
    let check = async |token: &str| auth.check(&headers("authorization", &format!("Bearer {token}"))).await;
    std::fs::write(&path, "new-token\r\n\nold-token\n").unwrap();
    assert_eq!(check("new-token").await, Err(Denied::Wrong));
    assert!(auth.refresh().unwrap());
    assert_eq!((check("new-token").await, check("old-token").await), (Ok(()), Ok(())));
    for bad in ["", " \n", "two words\n", "bad\u{7}token"] {
        std::fs::write(&path, bad).unwrap();
        let error = auth.refresh().unwrap_err().to_string();
        assert!(error.contains("token"), "{error}");
        assert_eq!(check("new-token").await, Ok(()), "{bad:?} changes nothing");
    }
}

#[tokio::test]
async fn users_are_told_from_others() {
    let auth = basic(HtpasswdConfig { inline: Some("robot:pass:word".into()), file: None }).unwrap();
    for (value, expected) in [
        (format!("Basic {}", STANDARD.encode("robot:pass:word")), Ok(())),
        (format!("basic {}", STANDARD.encode("robot:pass:word")), Ok(())),
        (format!("Basic {}", STANDARD.encode("robot:pass")), Err(Denied::Wrong)),
        (format!("Basic {}", STANDARD.encode("robot")), Err(Denied::Malformed)),
        (format!("Basic {}", STANDARD.encode("")), Err(Denied::Malformed)),
        ("Basic robot:pass:word".to_owned(), Err(Denied::Malformed)),
        ("Bearer x".to_owned(), Err(Denied::Malformed)),
        (String::new(), Err(Denied::Missing)),
    ] {
        assert_eq!(auth.check(&headers("authorization", &value)).await, expected, "{value}");
    }
    assert!(auth.challenge().to_str().unwrap().starts_with("Basic realm="));
}

#[tokio::test]
async fn inline_users_go_before_those_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    std::fs::write(&path, "a:file\nb:file\n").unwrap();
    let auth = basic(HtpasswdConfig { file: Some(path.clone()), inline: Some("a:inline".into()) }).unwrap();
    let check = async |text: &str| {
        auth.check(&headers("authorization", &format!("Basic {}", STANDARD.encode(text)))).await
    };
    assert_eq!((check("a:inline").await, check("b:file").await), (Ok(()), Ok(())));
    assert_eq!(check("a:file").await, Err(Denied::Wrong));
    std::fs::write(&path, "b:new\n").unwrap();
    assert!(auth.refresh().unwrap());
    assert_eq!((check("b:new").await, check("b:file").await), (Ok(()), Err(Denied::Wrong)));
}

#[test]
fn what_can_never_work_is_refused() {
    let config = |change: fn(&mut BearerConfig)| {
        let mut config = BearerConfig { token: Some("t".into()), ..Default::default() };
        change(&mut config);
        BearerAuth::load(&config).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(config(|_| ()), "");
    type Change = fn(&mut BearerConfig);
    let rows: [(Change, &str); 4] = [
        (|c| c.token = None, "find a token: write one on a line of `filename`, or set `token`"),
        (|c| c.header = "a b".into(), "use the header of header"),
        (|c| c.scheme = "a\n".repeat(2), "use the word before the token"),
        (|c| c.tokens = vec![Secret::from("t"); 101], "more than 100"),
    ];
    for (change, expected) in rows {
        let message = config(change);
        assert!(message.contains(expected), "{message}");
    }
    let error = BasicAuth::load(&BasicConfig::default()).unwrap_err().to_string();
    assert!(error.contains("`client_auth` is for exporters"), "{error}");
}
