//! What senders say of themselves beside their spans: change and SDK reach the deployment, foreign telemetry the
//! version, and the picture of a service says what it lacks.

use rollguard::deployment::Mode;
use rollguard::model::{ResourceAttribute, ResourceView, SpanSink};
use rollguard::pipeline::{ServiceTelemetry, Signal};
use rollguard::verdict::{Flag, Verdict};

use super::world::{World, quick, traffic};

/// A resource of `shop` says more of itself.
fn tell(world: &World, version: &str, texts: &[(ResourceAttribute, &str)]) {
    let mut resource =
        ResourceView { service: b"shop", version: version.as_bytes(), ..ResourceView::default() };
    resource.version_from = "service.version";
    texts.iter().for_each(|(attribute, text)| resource.texts.set(*attribute, text.as_bytes()));
    let mut batch = world.intake.begin(world.now());
    batch.sender_of_spans(&resource, 100);
    batch.commit().unwrap();
}

fn shop(world: &World) -> ServiceTelemetry {
    let board = world.engine.board(world.now());
    board.telemetry.iter().find(|s| s.service.name == "shop").unwrap().clone()
}

/// Scenario: v2 fails, built from another commit and with another SDK. Guarantees: the deployment, and the one
/// that the rollback carries, say which commit and run it was (R6), and that the SDKs differ (R8); the flag
/// holds nothing back.
#[test]
fn r6_r8_the_deployment_says_which_change_it_is_and_that_sdks_differ() {
    use ResourceAttribute::{PipelineRun, Revision, SdkLanguage, SdkVersion};
    let mut world = World::with_known_v1(quick(), Mode::Act, 60.0, 0.001);
    world.sends("v2", traffic(2, 20.0, 0.1));
    tell(&world, "v1", &[(SdkLanguage, "go"), (SdkVersion, "1.0"), (Revision, "old")]);
    world.run(10);
    let d = world.deployment("v2").unwrap();
    assert!(d.change.is_empty() && !d.evidence.has(Flag::SdkDiffers));
    tell(&world, "v2", &[(SdkLanguage, "go"), (SdkVersion, "1.1"), (Revision, "abc"), (PipelineRun, "7")]);
    world.run(80);
    let d = world.deployment("v2").unwrap();
    assert_eq!(d.verdict, Verdict::Fail);
    assert!(d.evidence.has(Flag::SdkDiffers), "{:?}", d.evidence.flags);
    assert_eq!((d.commit(), d.change.get(PipelineRun)), (Some("abc"), Some("7")));
    let rollback = &world.kept.rollbacks[0];
    assert_eq!((rollback.commit(), rollback.evidence.has(Flag::SdkDiffers)), (Some("abc"), true));
    // After a restart the record still says so.
    world.restart(1);
    assert_eq!(world.deployment("v2").unwrap().commit(), Some("abc"));
}

/// Scenario: v1 and v2 of one SDK; metrics of an agent that know a pod only. Guarantees: no flag; the metrics
/// count for the version of the pod, and the picture says what the spans lack.
#[test]
fn foreign_metrics_reach_the_version_and_the_picture_says_what_is_missing() {
    use ResourceAttribute::{PodUid, SdkVersion};
    let mut world = World::with_known_v1(quick(), Mode::Observe, 60.0, 0.0);
    world.sends("v2", traffic(2, 60.0, 0.0));
    world.run(5);
    for (version, pod) in [("v1", "pod-1"), ("v2", "pod-2")] {
        tell(&world, version, &[(SdkVersion, "1.0"), (PodUid, pod)]);
    }
    let mut of_a_pod = ResourceView::default();
    of_a_pod.texts.set(PodUid, b"pod-2");
    let mut batch = world.intake.begin(world.now());
    batch.sender(Signal::Metrics, &of_a_pod, 50);
    batch.commit().unwrap();
    world.run(40);
    assert!(!world.deployment("v2").unwrap().evidence.has(Flag::SdkDiffers));
    let shop = shop(&world);
    let records: Vec<_> = shop.versions.iter().map(|v| (v.version.as_str(), v.records)).collect();
    assert_eq!(records, [("v1", [100, 0, 0]), ("v2", [100, 50, 0])]);
    let missing: Vec<_> = shop.missing.iter().map(|m| m.what).collect();
    assert_eq!(missing, ["environment", "placement"]);
}
