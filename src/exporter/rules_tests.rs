//! Prometheus itself reads the file: it has nothing to object to, and its own test runner sees each alert fire when it
//! should and only then.

use std::process::Command;

use super::*;

fn identity() -> Vec<String> {
    vec!["cluster".into()]
}

/// Runs promtool over files in a folder; what it says, or `None` where it is not installed.
fn promtool(files: &[(&str, &str)], arguments: &[&str]) -> Option<(bool, String)> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let Ok(output) = Command::new("promtool").args(arguments).current_dir(folder.path()).output() else {
        eprintln!("SKIPPED: promtool is not installed, the rules were not checked");
        assert!(std::env::var_os("CI").is_none(), "promtool must be installed in CI");
        return None;
    };
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    Some((output.status.success(), said.concat()))
}

#[test]
fn promtool_accepts_the_file_for_one_service_for_several_and_for_all() {
    let runbook_url = Some("https://wiki.example/\"budget\"".to_owned());
    let named = |name: &str| ("service_name", name.to_owned());
    for only in
        [vec![], vec![named("checkout")], vec![("environment", "prod".into()), named("odd \"\\\n name")]]
    {
        let text = rules(&Wanted { only, runbook_url: runbook_url.clone() }, &identity());
        let Some((ok, said)) = promtool(&[("rules.yml", &text)], &["check", "rules", "rules.yml"]) else {
            return;
        };
        assert!(ok, "{said}\n{text}");
        assert!(said.contains("11 rules found"), "{said}");
        assert!(!said.contains("duplicate"), "{said}");
    }
}

/// A series of promtool's tests: 100 requests a second, and so many failures a second from a minute on.
fn scenario(failures: &str, deploying: bool) -> String {
    let labels = r#"service_namespace="shop",service_name="checkout",environment="prod",cluster="eu \"1\"""#;
    let phase = if deploying { "watching" } else { "closed" };
    let series = [
        (format!("rollguard_objective_requests_total{{{labels}}}"), "0+3000x9000".to_owned()),
        (format!("rollguard_objective_errors_total{{{labels}}}"), failures.to_owned()),
        (format!("rollguard_slo_ratio{{{labels}}}"), "0.999x9000".to_owned()),
        (
            format!("rollguard_deployment_info{{{labels},version=\"v2\",phase=\"{phase}\"}}"),
            "1x9000".to_owned(),
        ),
    ];
    let one = |(series, values): &(String, String)| {
        format!("      - series: {}\n        values: '{values}'\n", quoted_yaml(series))
    };
    series.iter().map(one).collect()
}

fn quoted_yaml(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[test]
fn promtools_own_tests_see_each_alert_fire_when_it_should() {
    // What fails over time in steps of 30 s of 3,000 requests, whether something is deployed, when to look, and the
    // alerts that fire then.
    let rows: [(&str, bool, &str, &[&str]); 5] = [
        ("0+1x9000", true, "3h", &[]),
        ("0+60x9000", false, "2h", &["ErrorBudgetBurnsFast", "ErrorBudgetBurnsSlowly"]),
        (
            "0+18x20 360x9000",
            true,
            "9m",
            &["DeploymentBurnsErrorBudget", "DeploymentUnderReview", "ErrorBudgetBurnsSlowly"],
        ),
        ("0+10x9000", true, "12m", &["DeploymentUnderReview", "ErrorBudgetBurnsSlowly"]),
        ("0+10x9000", false, "12m", &["ErrorBudgetBurnsSlowly"]),
    ];
    let text = rules(&Wanted::default(), &identity());
    for (failures, deploying, at, firing) in rows {
        let mut test = format!(
            "rule_files: [rules.yml]\nevaluation_interval: 30s\ntests:\n  - interval: 30s\n    input_series:\n{}    \
             promql_expr_test:\n",
            scenario(failures, deploying)
        );
        let _ = write!(
            test,
            "      - expr: sort(sum by (alertname) (ALERTS{{alertstate=\"firing\"}}))\n        eval_time: {at}\n        exp_samples:\n"
        );
        for name in firing {
            let _ = write!(test, "          - labels: '{{alertname=\"{name}\"}}'\n            value: 1\n");
        }
        if firing.is_empty() {
            test = test.replace("        exp_samples:\n", "        exp_samples: []\n");
        }
        let Some((ok, said)) =
            promtool(&[("rules.yml", &text), ("test.yml", &test)], &["test", "rules", "test.yml"])
        else {
            return;
        };
        assert!(ok, "{failures} deploying {deploying}: {said}");
    }
}
