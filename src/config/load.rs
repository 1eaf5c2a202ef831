//! From a file to a checked [`Config`]: read, substitute environment variables, parse strictly, check the
//! values. Every error says where (line, column, snippet) and what to write instead.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_saphyr::Options;

use super::files::{self, Files};
use super::substitute::{SubstituteError, substitute};
use super::validate::Problem;
use super::{Config, locate, validate};

/// A configuration is small; a larger file is a mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// For files from before there were exporters.
const FORWARD_IS_GONE: &str = "`forward` is now `exporters`, with the Collector's names and keys; for example exporters: \
                               {otlp_grpc: {endpoint: http://collector:4317, signals: [traces]}}. queue_bytes is \
                               sending_queue.queue_bytes, retry is retry_on_failure";

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The file is no configuration.
    #[error("read {path}: larger than {MAX_FILE_BYTES} bytes, this is no configuration")]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// An environment variable.
    #[error(transparent)]
    Substitute(#[from] SubstituteError),
    /// Syntax, unknown or duplicate keys, wrong types. The message holds place, snippet and a way out.
    #[error("{0}")]
    Parse(String),
    /// Values that cannot be right, all of them.
    #[error("{}", Listed(.0))]
    Invalid(Vec<Problem>),
}

struct Listed<'a>(&'a [Problem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// Reads and checks a file, and where `files` says so those that it names; environment variables come from
/// this process.
pub fn load(path: &Path, files: Files) -> Result<Config, LoadError> {
    let fail = |cause| LoadError::Read { path: path.to_owned(), cause };
    if std::fs::metadata(path).map_err(fail)?.len() > MAX_FILE_BYTES {
        return Err(LoadError::TooLarge { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path).map_err(fail)?;
    check(&text, |name| std::env::var(name).ok(), files)
}

/// Checks a configuration given as text; environment variables come from `lookup`.
pub fn parse(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Config, LoadError> {
    check(text, lookup, Files::Elsewhere)
}

fn check(text: &str, lookup: impl Fn(&str) -> Option<String>, files: Files) -> Result<Config, LoadError> {
    let text = substitute(text, lookup)?;
    let config = if is_blank(&text) {
        Config::default()
    } else {
        serde_saphyr::from_str_with_options(&text, options()).map_err(|e| LoadError::Parse(explain(&e)))?
    };
    let mut problems = validate::problems(&config);
    if files == Files::Tried {
        problems.extend(files::problems(&config));
    }
    if problems.is_empty() {
        return Ok(config);
    }
    for problem in &mut problems {
        problem.place = locate::locate(&text, &problem.path, options());
    }
    Err(LoadError::Invalid(problems))
}

/// Whether the file holds nothing but comments.
fn is_blank(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#'))
}

/// Strict, and with small budgets: a configuration needs few nodes, an alias bomb many.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: 20_000,
            max_events: 60_000,
            max_aliases: 100,
            max_anchors: 100,
            max_depth: 32,
            max_documents: 1,
        },
    }
}

/// The parser's message with its snippet, and for an unknown key the known one that is nearest.
fn explain(error: &serde_saphyr::Error) -> String {
    let rendered = error.to_string();
    match error.without_snippet() {
        serde_saphyr::Error::SerdeUnknownField { field, .. } if field == "forward" => {
            format!("{rendered}\n{FORWARD_IS_GONE}")
        }
        serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
            format!("{rendered}\n{}", way_out(field, expected, "key"))
        }
        serde_saphyr::Error::SerdeUnknownVariant { variant, expected, .. } => {
            format!("{rendered}\n{}", way_out(variant, expected, "value"))
        }
        _ => rendered,
    }
}

fn way_out(wrong: &str, known: &[&'static str], what: &str) -> String {
    let nearest = known.iter().map(|k| (distance(wrong, k), *k)).min();
    match nearest {
        Some((far, name)) if far <= 1 + name.len() / 3 => format!("did you mean `{name}`?"),
        _ if known.is_empty() => format!("no {what} may stand here"),
        _ => format!("the {what}s that may stand here: {}", known.join(", ")),
    }
}

/// Edits (insert, remove, replace, swap of neighbours) between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(text: &str) -> String {
        parse(text, |_| None).expect_err("must not load").to_string()
    }

    #[test]
    fn errors_say_where_and_what_to_do() {
        let rows: [(&str, &[&str]); 17] = [
            ("forward:\n  traces: null\n", &["line 1", "is now `exporters`", "otlp_grpc"]),
            ("exporters:\n  kafka: {}\n", &["line 2", "no exporter of type `kafka`", "otlp_http"]),
            ("exporters:\n  otlp_grpc:\n    endpiont: x\n", &["line 3", "did you mean `endpoint`?"]),
            (
                "exporters:\n  debug:\n  otlp_http/b:\n    endpoint: collector:4318\n",
                &["line 4, column 15: exporters.otlp_http/b.endpoint: ", "http://collector:4318"],
            ),
            ("apo:\n  endpoint: x\n", &["line 1", "column 1", "unknown", "did you mean `api`?"]),
            ("api:\n  endpiont: x:1\n", &["line 2", "column 3", "did you mean `endpoint`?"]),
            ("api:\n  colour: blue\n", &["line 2", "the keys that may stand here: endpoint, token_file"]),
            ("api: {}\napi: {}\n", &["line 2", "duplicate", "api"]),
            ("policies:\n  defaults:\n    slo: high\n", &["line 3", "column 10"]),
            ("policies:\n  defaults:\n    mode: acts\n", &["line 3", "did you mean `act`?"]),
            ("policies:\n  defaults:\n    warmup: 60\n", &["line 3", "write it with its unit"]),
            ("policies:\n\tdefaults: {}\n", &["line 2"]),
            ("pipeline:\n  limits:\n    services: -1\n", &["line 3"]),
            ("pipeline:\n  limits:\n    services: 99999999999999999999\n", &["line 3"]),
            ("- api\n", &["line 1"]),
            ("api:\n  endpoint: ${env:NOWHERE}\n", &["line 2, column 13: NOWHERE is not set"]),
            (
                "policies:\n  defaults: {slo: 2.0, alpha: 0.9}\n",
                &["line 2, column 19: policies.defaults.slo", "line 2, column 31: policies.defaults.alpha"],
            ),
        ];
        for (text, expected) in rows {
            let message = error_of(text);
            for part in expected {
                assert!(message.contains(part), "{text}\nshould say {part:?}, says:\n{message}");
            }
        }
    }

    #[test]
    fn a_snippet_is_shown() {
        let message = error_of("api:\n  endpiont: somewhere:1\n");
        assert!(message.contains("endpiont: somewhere:1"), "{message}");
    }

    #[test]
    fn empty_files_are_the_default() {
        for text in ["", "\n\n", "# nothing\n", "{}\n"] {
            assert_eq!(parse(text, |_| None).expect("loads"), Config::default(), "{text:?}");
        }
    }

    #[test]
    fn alias_bombs_are_refused_quickly() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let list = vec![format!("*a{}", i - 1); 9].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{list}]\n"));
        }
        assert!(parse(&text, |_| None).is_err());
        let inside = text.replace("\na", "\n  a");
        assert!(parse(&format!("policies:\n  {inside}"), |_| None).is_err());
    }

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("slo", "slo", 0), ("sol", "slo", 1), ("", "abc", 3), ("endpiont", "endpoint", 1)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_missing_file_names_itself() {
        let error = load(Path::new("does/not/exist.yaml"), Files::Tried).unwrap_err();
        assert_eq!(error.to_string(), "read does/not/exist.yaml");
    }

    #[test]
    fn credentials_are_tried_at_the_keys_that_name_them() {
        let here = tempfile::tempdir().unwrap();
        let path = |name: &str| here.path().join(name);
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(path("crt"), made.cert.pem()).unwrap();
        std::fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
        std::fs::write(path("other"), other.signing_key.serialize_pem()).unwrap();
        std::fs::write(path("tokens"), "").unwrap();
        let tls = |cert: &str, key: &str, ca: &str| {
            let ca =
                if ca.is_empty() { String::new() } else { format!("client_ca_file: {}", path(ca).display()) };
            let (cert, key) = (path(cert), path(key));
            format!(
                "receiver:\n  grpc:\n    tls:\n      cert_file: {}\n      key_file: {}\n      min_version: 1.3\n      {ca}\n",
                cert.display(),
                key.display()
            )
        };
        let tls_of = |keys: &str| format!("receiver:\n  grpc:\n    tls:\n      {keys}\n");
        let auth = format!(
            "extensions:\n  bearertokenauth: {{filename: {}}}\nreceiver:\n  http:\n    auth:\n      \
             authenticator: bearertokenauth\n",
            path("tokens").display()
        );
        let rows = [
            (tls("crt", "key", ""), ""),
            (tls("crt", "key", "crt"), ""),
            (tls("none", "key", ""), "line 4, column 18: receiver.grpc.tls.cert_file: failed to read"),
            (
                tls("crt", "crt", ""),
                "line 5, column 17: receiver.grpc.tls.key_file: failed to find a private key",
            ),
            (
                tls("crt", "other", ""),
                "line 4, column 18: receiver.grpc.tls.cert_file: failed to use the certificate",
            ),
            (
                tls("crt", "key", "key"),
                "line 7, column 23: receiver.grpc.tls.client_ca_file: failed to find a certificate",
            ),
            (
                tls_of("cert_pem: 'x'\n      key_pem: 'y'"),
                "line 4, column 17: receiver.grpc.tls.cert_pem: failed to find",
            ),
            (auth, "line 6, column 22: receiver.http.auth.authenticator: failed to find a token: write one"),
            (
                format!(
                    "exporters:\n  otlp_grpc:\n    endpoint: https://a:1\n    tls: {{ca_file: {}}}\n",
                    path("key").display()
                ),
                "line 4, column 10: exporters.otlp_grpc.tls: failed to find a certificate in",
            ),
            (
                "receiver: {grpc: {auth: {authenticator: oidc}}}".to_owned(),
                "line 1, column 41: receiver.grpc.auth.authenticator: names no entry of `extensions`",
            ),
            ("extensions:\n  bearertoken: {}\n".to_owned(), "did you mean `bearertokenauth`?"),
        ];
        for (text, expected) in rows {
            std::fs::write(path("config.yaml"), &text).unwrap();
            let message =
                load(&path("config.yaml"), Files::Tried).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(
                message.contains(expected) && message.is_empty() == expected.is_empty(),
                "{text}\n{message}"
            );
        }
    }

    #[test]
    fn files_that_are_missing_or_unusable_are_named_at_their_key() {
        let here = tempfile::tempdir().unwrap();
        let path = |name: &str| here.path().join(name);
        std::fs::write(path("short"), "secret").unwrap();
        std::fs::write(path("token"), "a-token-of-sixteen-characters").unwrap();
        std::fs::write(
            path("config.yaml"),
            format!(
                "api:\n  token_file: {short}\nwebhooks:\n  a: {{url: 'http://a/', secret_file: {none}}}\n  \
             b:\n    url: http://b/\n    secret_file: {short}\n",
                short = path("short").display(),
                none = path("none").display(),
            ),
        )
        .unwrap();
        let error = load(&path("config.yaml"), Files::Tried).unwrap_err().to_string();
        let rows = [
            "line 2, column 15: api.token_file: failed to read the API token",
            "line 4, column 38: webhooks.a.secret_file: failed to read",
            "line 7, column 18: webhooks.b.secret_file: failed to use the secrets in",
        ];
        assert_eq!(error.lines().count(), rows.len(), "{error}");
        for (line, row) in error.lines().zip(rows) {
            assert!(line.starts_with(row), "{line}\nis not\n{row}");
        }
        assert!(load(&path("config.yaml"), Files::Elsewhere).is_ok());
        std::fs::write(path("config.yaml"), format!("api: {{token_file: {}}}", path("token").display()))
            .unwrap();
        assert!(load(&path("config.yaml"), Files::Tried).is_ok());
    }
}
