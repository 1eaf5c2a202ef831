//! How deployments begin and end by other means than a verdict: a new version shows up, somebody starts or
//! cancels one.

use std::sync::Arc;

use super::command::CommandError;
use super::engine::Engine;
use super::journal::Commit;
use super::running::Running;
use crate::deployment::{
    BaselineMerge, Beginning, Deployment, Event, Mode, Origin, Request, Resolution, Sighting, check_request,
    check_time, choose_baseline, is_version, merge_request, resolve_service, starts_deployment,
};
use crate::model::{DeploymentId, ServiceKey, UnixNanos};
use crate::verdict::{OwnSli, Policy, Scope};

impl Engine {
    /// Begins a deployment for every version that was first seen beside a known one.
    pub(super) fn detect(&mut self, now: UnixNanos, commit: &mut Commit) {
        let mut found: Vec<(Arc<ServiceKey>, String, Option<String>)> = Vec::new();
        for (key, service) in &mut self.services {
            let unseen: Vec<Arc<str>> = service
                .versions
                .iter()
                .filter(|(label, v)| !v.looked_at && v.has_traffic() && is_version(label))
                .map(|(label, _)| Arc::clone(label))
                .collect();
            if unseen.is_empty() {
                continue;
            }
            let serving = service.sightings();
            // Known versions without traffic stand beside too: they may be on their way after a restart of ours.
            let absent = self.known.of(key).filter(|label| !service.versions.contains_key(*label));
            let all: Vec<Sighting> =
                serving.iter().cloned().chain(absent.map(|label| Sighting::stored(label))).collect();
            for label in unseen {
                if let Some(version) = service.versions.get_mut(&label) {
                    version.looked_at = true;
                }
                let own = serving.iter().find(|s| s.version == *label);
                let announced = service.running.iter().any(|r| r.needs(&label));
                if !announced && own.is_some_and(|s| starts_deployment(s, &all, self.fresh_start)) {
                    let baseline = choose_baseline(&label, &serving).map(str::to_owned);
                    found.push((Arc::clone(key), label.to_string(), baseline));
                }
            }
        }
        for (key, candidate, baseline) in found {
            let request = Request { version: candidate, baseline, ..Request::default() };
            if self.deciding() < self.parts.deployments.deciding {
                self.begin(&key, request, Origin::Detected, now, commit);
            } else {
                let service = self.services.get_mut(&key);
                let version = service.and_then(|s| s.versions.get_mut(request.version.as_str()));
                let Some(version) = version else { continue };
                // It is asked again as long as it serves: there may be room later.
                version.looked_at = false;
                if std::mem::replace(&mut version.refused, true) {
                    continue;
                }
                self.counters.deployments_refused += 1;
                tracing::warn!(service = %key, version = request.version, limit = self.parts.deployments.deciding,
                    "too many deployments wait for their verdict; this one is not judged");
            }
        }
    }

    fn deciding(&self) -> usize {
        self.services.values().flat_map(|s| &s.running).filter(|r| r.is_deciding()).count()
    }

    /// Ends the oldest watches beyond those that there is room for.
    pub(super) fn bound_watches(&mut self, now: UnixNanos, commit: &mut Commit) {
        let most = self.parts.deployments.watched;
        let watched = |r: &&mut Running| r.is_judging() && !r.is_deciding();
        let mut all: Vec<_> =
            self.services.values_mut().flat_map(|s| s.running.iter_mut()).filter(watched).collect();
        if all.len() <= most {
            return;
        }
        all.sort_by_key(|r| (r.deployment().decided_at, r.deployment().started_at));
        let beyond = all.len() - most;
        for running in all.into_iter().take(beyond) {
            running.apply(Event::WatchEnded { others: most }, now, commit);
        }
    }

    fn begin(
        &mut self,
        key: &Arc<ServiceKey>,
        request: Request,
        origin: Origin,
        now: UnixNanos,
        commit: &mut Commit,
    ) -> Arc<Deployment> {
        let release = request.release.unwrap_or_else(|| Deployment::VERSION.to_owned());
        let (policy, mode) = self.policy(key, &request.version, &release);
        let id = (self.parts.ids)();
        let beginning = Beginning {
            id: id.clone(),
            service: (**key).clone(),
            baseline: request.baseline,
            candidate: request.version,
            time: None,
            scope: Scope::default(),
            origin,
            release,
            mode,
            policy,
            url: request.url,
            commit: request.commit,
            share: request.share,
        };
        let running = Running::new(beginning.begin(now));
        let deployment = Arc::clone(running.deployment());
        commit.deployments.push(Arc::clone(&deployment));
        let service = self.service(key, now);
        service.admit(&deployment.policy, now);
        // What began by itself has to be more than a stray request first, and what waits for its time has not begun.
        if origin == Origin::Requested {
            for other in service.running.iter_mut().filter(|other| !other.is_waiting()) {
                other.apply(Event::SupersededBy(id.clone()), now, commit);
            }
        }
        service.running.push(running);
        deployment
    }

    /// Policy and mode for a release of this version.
    fn policy(&self, key: &Arc<ServiceKey>, version: &str, release: &str) -> (Policy, Mode) {
        let (mut policy, mode) = self.parts.policies.resolve(key, release);
        let candidate = self.services.get(key).and_then(|s| s.versions.get(version));
        if candidate.is_some_and(|version| version.is_short_lived()) {
            policy.warmup_s = 0;
        }
        (policy, mode)
    }

    /// Starts a deployment that somebody asks for, or merges the request with one that began by itself.
    pub fn start(
        &mut self,
        request: &Request,
        now: UnixNanos,
        commit: &mut Commit,
    ) -> Result<Arc<Deployment>, CommandError> {
        check_request(request).map_err(|e| CommandError::Invalid(e.to_string()))?;
        if let Some(time) = request.time {
            return self.start_change(request, time, now, commit);
        }
        let key = self.named(request)?;
        self.check_baseline(&key, request.baseline.as_deref())?;
        let held = request.release.as_deref().map(|release| self.policy(&key, &request.version, release));
        let service = self.service(&key, now);
        held.iter().for_each(|(policy, _)| service.admit(policy, now));
        let merging = |r: &&mut Running| {
            r.is_judging() && r.change_at().is_none() && r.deployment().candidate == request.version
        };
        if let Some(running) = service.running.iter_mut().find(merging) {
            let mut merged = merge_request(running.deployment(), request);
            let is_other = merged.deployment.release != running.deployment().release;
            if let Some((policy, mode)) = held.filter(|_| is_other) {
                // Nothing is decided yet: it begins anew under the policy of its kind.
                (merged.deployment.policy, merged.deployment.mode) = (policy, mode);
            }
            if merged.baseline == BaselineMerge::TooLate {
                let held = running.deployment().baseline.clone().unwrap_or_default();
                return Err(CommandError::Conflict(format!(
                    "{} is held against {held} already; cancel the deployment first to compare it with another version",
                    request.version
                )));
            }
            if let Some(asked) = request.release.as_ref().filter(|asked| **asked != merged.deployment.release)
            {
                return Err(CommandError::Conflict(format!(
                    "the verdict on {} as a {} is there already; a {asked} is judged by another policy, so deploy it anew",
                    request.version,
                    running.deployment().release
                )));
            }
            check_share(&request.service, request.share, &merged.deployment.policy)?;
            if merged.changed {
                let restart = is_other || merged.baseline == BaselineMerge::Replaced;
                running.replace(merged.deployment, restart, now, commit);
            }
            return Ok(Arc::clone(running.deployment()));
        }
        let release = request.release.as_deref().unwrap_or(Deployment::VERSION);
        check_share(&request.service, request.share, &self.policy(&key, &request.version, release).0)?;
        let most = self.parts.deployments.deciding;
        if self.deciding() >= most {
            let text = format!("{most} deployments wait for their verdict; try again when one has its own");
            return Err(CommandError::Unavailable(text));
        }
        let mut request = request.clone();
        if request.baseline.is_none() {
            let sightings = self.service(&key, now).sightings();
            request.baseline = choose_baseline(&request.version, &sightings).map(str::to_owned);
        }
        Ok(self.begin(&key, request, Origin::Requested, now, commit))
    }

    /// A baseline that was never seen is a slip of the keyboard: nothing could be held against it.
    fn check_baseline(&self, key: &ServiceKey, baseline: Option<&str>) -> Result<(), CommandError> {
        let (Some(baseline), Some(service)) = (baseline, self.services.get(key)) else { return Ok(()) };
        let is_known = self.known.of(key).any(|known| **known == *baseline);
        if service.versions.is_empty() || service.versions.contains_key(baseline) || is_known {
            return Ok(());
        }
        let mut names: Vec<&str> = self.known.of(key).map(|known| &**known).collect();
        names.sort_unstable();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let text =
            format!("no request of baseline {baseline:?} of {key} was ever seen; known versions: {names}");
        Err(CommandError::Invalid(text))
    }

    /// Starts a deployment that names a time, or fills in the links of the one that does already.
    fn start_change(
        &mut self,
        request: &Request,
        time: UnixNanos,
        now: UnixNanos,
        commit: &mut Commit,
    ) -> Result<Arc<Deployment>, CommandError> {
        check_time(time, now).map_err(|e| CommandError::Invalid(e.to_string()))?;
        let key = self.named(request)?;
        let Some(serving) = self.services.get(&key).and_then(|service| service.serving()) else {
            return Err(CommandError::Invalid(format!(
                "service {:?} has served no request that was seen, so there is nothing to hold a time against",
                request.service
            )));
        };
        let release = request.release.clone().unwrap_or_else(|| Deployment::BEFORE_AFTER.to_owned());
        let (policy, mode) = self.policy(&key, &serving, &release);
        let scope = &request.scope;
        scope.check(&policy).map_err(|e| CommandError::Invalid(e.to_string()))?;
        let policy = policy.within(scope);
        let known = self.services.get_mut(&key).and_then(|service| service.change_at(time, scope));
        if let Some(running) = known {
            if running.deployment().release != release && request.release.is_some() {
                return Err(CommandError::Conflict(format!(
                    "a change at that time was announced as a {}; cancel it first to judge it as a {release}",
                    running.deployment().release
                )));
            }
            let request = Request { release: None, baseline: None, ..request.clone() };
            let merged = merge_request(running.deployment(), &request);
            if merged.changed {
                running.replace(merged.deployment, false, now, commit);
            }
            return Ok(Arc::clone(running.deployment()));
        }
        let service = self.service(&key, now);
        let Some(serving) = service.serving_in(scope) else {
            return Err(CommandError::Invalid(service.unseen(scope, &serving)));
        };
        let waiting = self.services.values().flat_map(|s| &s.running).filter(|r| r.is_waiting()).count();
        let most = self.parts.deployments.deciding;
        if self.deciding() + waiting >= most {
            return Err(CommandError::Unavailable(format!(
                "{most} deployments wait for their verdict or their time; try again when one has its own"
            )));
        }
        let beginning = Beginning {
            id: (self.parts.ids)(),
            service: (*key).clone(),
            baseline: None,
            candidate: serving.to_string(),
            time: Some(time),
            scope: scope.clone(),
            origin: Origin::Requested,
            release,
            mode,
            policy,
            url: request.url.clone(),
            commit: request.commit.clone(),
            share: None,
        };
        let running = Running::new(beginning.begin(now));
        let announced = Arc::clone(running.deployment());
        commit.deployments.push(Arc::clone(&announced));
        let service = self.service(&key, now);
        service.admit(&announced.policy, now);
        Ok(service.take_change(running, now, commit).unwrap_or(announced))
    }

    fn named(&self, request: &Request) -> Result<Arc<ServiceKey>, CommandError> {
        let known = self.services.keys().map(Arc::as_ref);
        match resolve_service(&request.service, request.environment.as_deref(), known) {
            Resolution::Found(key) | Resolution::Unknown(key) => Ok(Arc::new(key)),
            Resolution::Ambiguous(keys) => {
                let names: Vec<String> = keys.iter().map(ToString::to_string).collect();
                let text = format!(
                    "{:?} could be {}; say which environment or namespace",
                    request.service,
                    names.join(" or ")
                );
                Err(CommandError::Ambiguous(text))
            }
        }
    }

    /// Ends a deployment that somebody does not want any more.
    pub fn cancel(
        &mut self,
        id: &DeploymentId,
        now: UnixNanos,
        commit: &mut Commit,
    ) -> Result<Arc<Deployment>, CommandError> {
        let mut all = self.services.values_mut().flat_map(|s| &mut s.running);
        if let Some(running) = all.find(|r| r.deployment().id == *id) {
            running.apply(Event::CancelledBy("by request".to_owned()), now, commit);
            return Ok(Arc::clone(running.deployment()));
        }
        match self.ended.iter().find(|d| d.id == *id) {
            Some(over) => {
                Err(CommandError::Conflict(format!("deployment {id} is {} already", over.phase.as_str())))
            }
            None => Err(CommandError::NotFound(id.clone())),
        }
    }
}

/// A share that nothing is held against would be forgotten without a word.
fn check_share(service: &str, share: Option<f64>, policy: &Policy) -> Result<(), CommandError> {
    if share.is_none() || policy.slis.iter().any(OwnSli::is_share) {
        return Ok(());
    }
    Err(CommandError::Invalid(format!(
        "share has nothing to be held against: the policy of {service:?} has no SLI of kind `traffic_share`. Add one (`slis: \
         {{traffic_share: {{kind: traffic_share}}}}`) or leave the share out"
    )))
}
