//! `GET /api/v1/deployments/{id}/slots`: the log from which the sum of a decision can be made again; where
//! spans and metrics are judged, that of the metrics is in `metrics`, and those of SLIs of the policy's own are in
//! `own`. Each
//! line is what one slot of traffic added to one process; `checkpoint` holds the processes before the first
//! line. `purpose` says what they are for and `statistic` what they hold: E of a decision, R of a watch. `docs/statistics.md`, section 13, has the formulas.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::error::ApiError;
use super::state::ApiState;
use crate::stats::Term;
use crate::verdict::{Key, Sli, SlotLog};

pub(super) async fn of_deployment(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let found = state.deployment(&id)?;
    let Some(log) = &found.evidence.slot_log else {
        let text = format!("deployment {id} has no slot log: it is not decided");
        return Err(ApiError::not_found(text));
    };
    let name = |key: &Key| match key.sli {
        Sli::Own(place) => {
            let own = found.policy.slis.get(usize::from(place));
            own.map_or_else(|| key.name(), |own| format!("own/{}", own.name))
        }
        _ => key.name(),
    };
    let mut answer = view(&id, log, name);
    if let Some(log) = &found.evidence.metric_slot_log {
        answer["metrics"] = view(&id, log, name);
    }
    let own: Vec<Value> = found.evidence.own_slot_logs.iter().map(|log| view(&id, log, name)).collect();
    if !own.is_empty() {
        answer["own"] = Value::Array(own);
    }
    Ok(Json(answer).into_response())
}

fn view(id: &str, log: &SlotLog, name: impl Fn(&Key) -> String) -> Value {
    let checkpoint: serde_json::Map<String, Value> = log
        .checkpoint
        .iter()
        .map(|(key, process)| {
            let [ln_mass, block] = process.masses();
            let state = json!({ "start": process.start(), "elapsed_seconds": process.elapsed_s(),
                "ln_mass": ln_mass, "block": block, "unspent": process.unspent(), "fed": process.is_fed() });
            (name(key), state)
        })
        .collect();
    let lines: Vec<Value> = log
        .lines
        .iter()
        .map(|line| json!({ "slot": line.slot, "start": line.start, "process": name(&line.key), "term": term(&line.term) }))
        .collect();
    let shape = &log.shape;
    json!({ "deployment_id": id, "purpose": shape.purpose.as_str(), "statistic": shape.statistic(),
        "cap": shape.cap, "horizon_seconds": shape.horizon_s,
        "block_seconds": shape.rhythm.block_s, "restart_seconds": shape.rhythm.restart_s,
        "through_slot": log.through, "checkpoint": checkpoint, "lines": lines })
}

fn term(term: &Term) -> Value {
    match *term {
        Term::RateRatio { n_c, x_c, n_b, x_b, r0, delta, c } => json!({ "form": "rate_ratio", "n_c": n_c,
            "x_c": x_c, "n_b": n_b, "x_b": x_b, "r0": r0, "delta": delta, "cbar": c }),
        Term::Bernoulli { n_c, x_c, n_b, x_b, p, phi } => {
            json!({ "form": "bernoulli", "n_c": n_c, "x_c": x_c,
            "n_b": n_b, "x_b": x_b, "p": p, "phi": phi })
        }
        Term::OneSample { n, x, p0, c } => {
            json!({ "form": "one_sample", "n": n, "x": x, "p0": p0, "cbar": c })
        }
        Term::OneSampleBelow { n, x, p0, c } => {
            json!({ "form": "one_sample_below", "n": n, "x": x, "p0": p0, "cbar": c })
        }
    }
}
