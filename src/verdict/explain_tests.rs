//! Golden texts: what is known, and the paragraph that is made of it.

use super::*;

/// `sli[:operation] weight ln_e bad/requests bad/requests [ratio low high] [threshold s] [!]`, the second pair
/// being the baseline's; `!` means on the list of degraded ones. `m` in front of the name: of metrics; `b` or `n`
/// at the end of the numbers: told apart at a bound, or not testable.
fn sli(text: &str) -> SliEvidence {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (name, operation) = words[0].split_once(':').map_or((words[0], None), |(n, o)| (n, Some(o)));
    let (source, name) = match name.strip_prefix("m.") {
        Some(name) => (Source::Metrics, name),
        None => (Source::Spans, name),
    };
    let grain = |w: &&str| match *w {
        "b" => Grain::Bound,
        "n" => Grain::NotTestable,
        _ => Grain::Fine,
    };
    let number = |w: &str| w.trim_start_matches(['~', 't']).parse::<f64>().unwrap();
    let pair = |w: &str| {
        let (bad, n) = w.split_once('/').unwrap();
        (bad.parse::<u64>().unwrap(), n.parse::<u64>().unwrap())
    };
    let (c, b) = (pair(words[3]), pair(words[4]));
    let ratio: Vec<f64> = words[5..].iter().filter(|w| w.starts_with('~')).map(|w| number(w)).collect();
    SliEvidence {
        sli: Sli::ALL.into_iter().find(|s| s.as_str() == name).unwrap(),
        operation: operation.map(|o| o.replace('_', " ").into()),
        weight: number(words[1]),
        ln_e: number(words[2]),
        ln_e_pass: None,
        requests: [c.1, b.1],
        bad: [c.0, b.0],
        ratio: <[f64; 3]>::try_from(ratio).ok(),
        threshold_seconds: words[5..].iter().find(|w| w.starts_with('t')).map(|w| number(w)),
        degraded: words.last() == Some(&"!"),
        source,
        grain: words.iter().map(grain).find(|g| *g != Grain::Fine).unwrap_or_default(),
        ..SliEvidence::default()
    }
}

struct Case {
    verdict: Verdict,
    waiting: Waiting,
    slis: &'static str,
    flags: &'static [Flag],
    needed: Option<u64>,
    text: &'static str,
}

const fn case(verdict: Verdict, slis: &'static str, flags: &'static [Flag], text: &'static str) -> Case {
    Case { verdict, waiting: Waiting::Evidence, slis, flags, needed: None, text }
}

fn check(case: &Case) {
    check_with(case, None);
}

fn check_with(case: &Case, coarse_scale: Option<i8>) {
    let slis: Vec<SliEvidence> =
        case.slis.split(',').map(str::trim).filter(|s| !s.is_empty()).map(sli).collect();
    let service = slis.iter().filter(|e| e.operation.is_none()).map(|e| e.requests[0]).max().unwrap_or(0);
    let required = if slis.iter().any(|e| e.source == Source::Spans) && !case.flags.contains(&Flag::Sampled) {
        Source::Spans
    } else {
        slis.first().map(|e| e.source).unwrap_or_default()
    };
    let metrics = slis.iter().any(|e| e.source == Source::Metrics);
    let evidence = Evidence {
        required,
        slot_seconds: metrics.then_some(15),
        coarse_scale,
        span_share: metrics.then_some(0.12),
        slis,
        flags: case.flags.to_vec(),
        requests: [service, 0],
        requests_needed: case.needed,
        ..Evidence::default()
    };
    let input = ExplainInput {
        candidate: "v2",
        baseline: (case.waiting != Waiting::Baseline).then_some("v1"),
        verdict: case.verdict,
        evidence: &evidence,
        policy: &Policy::default(),
        waiting: case.waiting,
    };
    assert_eq!(explain(&input), case.text, "{}", case.slis);
}

#[test]
fn fails() {
    for row in [
        case(
            Verdict::Fail,
            "err .2 9 29/1240 12/11900 ~21 ~14.2 ~30.9, err:POST_/checkout .1 8 22/300 3/2900 !, err:GET_/ .1 0 7/940 9/9000",
            &[],
            "v2 fails 2.3 % of requests, v1 0.1 % (14 to 31 times as many); mostly POST /checkout; 1,240 requests.",
        ),
        // One operation decides: the numbers are still the service's.
        case(
            Verdict::Fail,
            "err .2 2 29/1240 12/11900 ~21 ~14.2 ~30.9, err:POST_/checkout .1 12 22/300 3/2900 !",
            &[Flag::SinglePod],
            "v2 fails 2.3 % of requests, v1 0.1 % (14 to 31 times as many); mostly POST /checkout; 1,240 requests.",
        ),
        // Spread over many operations, a baseline without errors, an interval without an upper end.
        case(
            Verdict::Fail,
            "err .2 9 60/1200 0/12000 ~1200 ~80 ~90000, err:GET_/a .1 3 20/400 0/4000 !, err:GET_/b .1 4 20/400 0/4000 !",
            &[],
            "v2 fails 5 % of requests, v1 none (at least 80 times as many); most clearly GET /b; 1,200 requests.",
        ),
        case(
            Verdict::Fail,
            "err .2 9 500/500 5/5000 ~1000 ~700 ~1400",
            &[],
            "v2 fails all requests, v1 0.1 % (at least 700 times as many); 500 requests.",
        ),
        case(
            Verdict::Fail,
            "err .2 1 0/0 0/0, guard .05 9 77/160 16/15800 ~470 ~300 ~700",
            &[],
            "v2 fails 48 % of requests, v1 0.1 % (300 to 700 times as many): beyond the guard of 10 times as many and \
             5 points more, which counts from the first request; 160 requests.",
        ),
        case(
            Verdict::Fail,
            "absolute .05 9 52/1240 0/0, err .2 1 52/1240 9/900 ~4 ~0.9 ~8, err:POST_/pay .1 1 50/60 0/50",
            &[],
            "v2 fails 4.2 % of requests; its objective of 99.9 % allows 0.1 %, and v1 showed nothing like it in its \
             last 30 minutes; mostly POST /pay; 1,240 requests.",
        ),
        case(
            Verdict::Fail,
            "client_errors .04 9 410/1000 110/10000 ~37 ~33 ~42",
            &[],
            "v2 refuses 41 % of requests, v1 1.1 % (33 to 42 times as many), as the client's fault (401, 403 and the \
             like); 1,000 requests.",
        ),
        case(
            Verdict::Fail,
            "p95 .09 9 230/1210 590/12000 ~3.9 ~3.4 ~4.4, p95:GET_/cart .1 9 200/600 300/6000 t0.2165 !",
            &[],
            "v2 is slower: 19 % of its requests take over 9.1 % longer than what 95 of 100 of v1's stayed within (v1: \
             4.9 % above it, 3.4 to 4.4 times as many); mostly GET /cart (over 236 ms); 1,210 requests.",
        ),
        case(
            Verdict::Fail,
            "p50 .07 9 800/1000 5010/10000",
            &[],
            "v2 is slower: 80 % of its requests take over 9.1 % longer than what half of v1's stayed within (v1: 50 % \
             above it); 1,000 requests.",
        ),
        case(
            Verdict::Fail,
            "err .2 9 62/1240 18/18000 ~50 ~30 ~80",
            &[Flag::RememberedBaseline],
            "v2 fails 5 % of requests, v1 0.1 % before it went away (30 to 80 times as many); 1,240 requests.",
        ),
        case(
            Verdict::Fail,
            "err .2 9 62/1240 0/0",
            &[Flag::RememberedBaseline],
            "v2 fails 5 % of requests, against what v1 showed before it went away; 1,240 requests.",
        ),
        case(
            Verdict::Fail,
            "p75 .04 9 900/1000 0/0",
            &[Flag::RememberedBaseline],
            "v2 is slower: 90 % of its requests take over 9.1 % longer than what 75 of 100 of v1's stayed within before \
             it went away; 1,000 requests.",
        ),
    ] {
        check(&row);
    }
}

#[test]
fn passes_and_what_is_open() {
    let row = |verdict, slis, flags, needed, text| Case { needed, ..case(verdict, slis, flags, text) };
    for row in [
        row(
            Verdict::Pass,
            "err .2 -1 50/45000 400/405000 ~1.1 ~0.72 ~1.6",
            &[],
            None,
            "v2 is not worse than v1: v2 fails 0.11 % of its requests, v1 0.099 % (0.72 to 1.6 times as many); p50, p95 \
             and p99 are less than 24 % longer; 45,000 requests.",
        ),
        row(
            Verdict::Pass,
            "err .2 -1 0/9000 0/0",
            &[Flag::RememberedBaseline],
            None,
            "v2 is not worse than what v1 showed before it went away: v2 fails none of its requests, against what v1 \
             showed before it went away; p50, p95 and p99 are less than 24 % longer; 9,000 requests.",
        ),
        row(
            Verdict::Pending,
            "err .2 1 3/340 4/3400 ~7 ~0.9 ~30",
            &[],
            Some(8_234),
            "Not decided: v2 fails 0.88 % of its requests, v1 0.12 % (0.9 to 30 times as many); 340 requests; about \
             8,200 more are needed for a pass.",
        ),
        row(
            Verdict::Pending,
            "err .2 1 0/340 4/3400",
            &[Flag::SinglePod, Flag::Bursty],
            None,
            "Not decided: v2 fails none of its requests, v1 0.12 %; 340 requests; how many more a pass needs cannot be \
             said yet. No pass while the new version runs on one instance only.",
        ),
        row(Verdict::Pending, "", &[], None, "v2 and v1 have no requests that can be compared yet."),
        row(
            Verdict::Inconclusive,
            "err .2 1 3/1340 4/3400 ~7 ~0.9 ~30",
            &[Flag::CandidateSilent],
            Some(812),
            "No decision within 30 minutes: v2 fails 0.22 % of its requests, v1 0.12 % (0.9 to 30 times as many); about \
             810 more requests would be needed; 1,340 requests. No pass while the new version has stopped sending.",
        ),
        row(
            Verdict::Inconclusive,
            "",
            &[],
            None,
            "No decision within 30 minutes: no request of v2 could be compared.",
        ),
        row(
            Verdict::Inconclusive,
            "err .2 1 30/1340 4/3400",
            &[],
            None,
            "No decision within 30 minutes: v2 fails 2.2 % of its requests, v1 0.12 %; the evidence does not lean \
             towards a pass, so more of it may not help; 1,340 requests.",
        ),
        row(
            Verdict::Pass,
            "err .2 9 300/9000 0/0",
            &[Flag::RememberedBaseline, Flag::Degraded],
            None,
            "v2 is worse than what v1 showed before it went away (3.3 % of requests fail); that came too late to be \
             laid at the deployment's door, so nothing is rolled back; 9,000 requests.",
        ),
    ] {
        check(&row);
    }
    let waits = |waiting, text| Case { waiting, ..case(Verdict::Pending, "err .2 0 0/12 0/120", &[], text) };
    check(&waits(Waiting::Traffic, "v2 has served no request yet."));
    check(&waits(Waiting::Baseline, "There is no version to compare v2 with; 12 requests."));
    check(&waits(Waiting::Warmup(41.6), "v2 warms up; the comparison with v1 begins in 42 s."));
    check(&waits(Waiting::Warmup(0.0), "v2 warms up; the comparison with v1 begins now."));
}

/// Two sources, explicit buckets: what is tested where, what is not, and what the interval costs.
#[test]
fn metrics_say_what_they_can_and_cannot_tell() {
    for row in [
        case(
            Verdict::Fail,
            "m.err .2 9 29/1240 12/11900 ~21 ~14.2 ~30.9, m.err:POST_/pay .1 8 22/300 3/2900 !",
            &[],
            "v2 fails 2.3 % of requests, v1 0.1 % (14 to 31 times as many); mostly POST /pay; 1,240 requests counted by \
             metrics. Metrics arrive every 15 s; a decision takes at least 45 s.",
        ),
        // Both are there, and the metrics decide it: the place is theirs too.
        case(
            Verdict::Fail,
            "err .1 1 2/1200 12/11900, err:GET_/ .05 2 2/1000 1/9000, m.err .1 9 29/1240 12/11900 ~21 ~14.2 ~30.9, \
             m.err:POST_/pay .05 8 22/300 3/2900 !",
            &[],
            "v2 fails 2.3 % of requests, v1 0.1 % (14 to 31 times as many); mostly POST /pay; 1,240 requests counted by \
             metrics.",
        ),
        case(
            Verdict::Fail,
            "m.p95 .09 9 230/1210 590/12000 ~3.9 ~3.4 ~4.4 b, m.p95:GET_/cart .1 9 200/600 300/6000 t0.25 b !",
            &[],
            "v2 is slower: 19 % of its requests take longer than the bucket bound nearest to what 95 of 100 of v1's \
             stayed within (v1: 4.9 % above it, 3.4 to 4.4 times as many); mostly GET /cart (over 250 ms); 1,210 requests \
             counted by metrics. Metrics arrive every 15 s; a decision takes at least 45 s.",
        ),
        case(
            Verdict::Pass,
            "m.err .2 -1 50/45000 400/405000, m.p50 .07 0 1/2 1/2 b, m.p95 .09 0 1/2 1/2 b, m.p99 .05 0 0/0 0/0 n",
            &[],
            "v2 is not worse than v1: v2 fails 0.11 % of its requests, v1 0.099 %; less than twice as many requests lie \
             above the bucket bounds that stand for p50 and p95; 45,000 requests. p99 is not tested: no bucket bound is \
             near. Metrics arrive every 15 s; a decision takes at least 45 s.",
        ),
        case(
            Verdict::Pass,
            "m.err .2 -1 50/45000 400/405000, m.p50 .07 0 0/0 0/0 n, m.p95 .09 0 0/0 0/0 n, m.p99 .05 0 0/0 0/0 n",
            &[],
            "v2 is not worse than v1: v2 fails 0.11 % of its requests, v1 0.099 %; latency could not be tested; 45,000 \
             requests. p50, p95 and p99 are not tested: no bucket bound is near. Metrics arrive every 15 s; a decision \
             takes at least 45 s.",
        ),
        case(
            Verdict::Pending,
            "m.err .1 1 3/340 4/3400 ~7 ~0.9 ~30, err .1 0 1/40 1/400",
            &[Flag::Sampled],
            "Not decided: v2 fails 0.88 % of its requests, v1 0.12 % (0.9 to 30 times as many); 340 requests; how many \
             more a pass needs cannot be said yet. Spans are sampled, 12 % of the requests that metrics count, so a pass \
             rests on the metrics. Metrics arrive every 15 s; a decision takes at least 45 s.",
        ),
    ] {
        check(&row);
    }
    let coarse = case(
        Verdict::Pass,
        "m.err .2 -1 50/45000 400/405000, m.p50 .07 0 1/2 1/2, m.p95 .09 0 1/2 1/2, m.p99 .05 0 1/2 1/2",
        &[],
        "v2 is not worse than v1: v2 fails 0.11 % of its requests, v1 0.099 %; p50, p95 and p99 are less than 24 % \
         longer; 45,000 requests. Metrics arrive every 15 s; a decision takes at least 45 s. Their exponential buckets \
         are of scale 3: a latency is known to within 4.3 %.",
    );
    check_with(&coarse, Some(3));
}
