"""The services of the worked examples: what they do, what goes wrong with them, and what goes wrong beside them.

A function an example: it lets its services run in a world, by the case that is recorded. `fault` is found, `twin` is an
A/A twin, `neighbour` looks alike and is not the change's doing."""

import math

from opentelemetry.metrics import Observation
from opentelemetry.trace import SpanKind

# How long the old version serves alone, and how long the new one beside it.
ALONE = 150
BESIDE = 360
# Changes without a version: when they are, and how long is recorded after them. tests/it/examples.rs names the time.
BEFORE = 300
AFTER = 300
# After so long what begins is known to have begun, and gauges of it count for its age.
LISTENED = 312


def entry(pod, end, method, route, seconds, status=200, **attributes):
    """The span of a request as an HTTP server has it."""
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    http = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
    return pod.span(f"{method} {route}", SpanKind.SERVER, end, seconds, {**http, **named}, failed=status >= 500)


def call(pod, parent, end, name, seconds, failed=False, **attributes):
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    return pod.span(name, SpanKind.CLIENT, end, seconds, named, parent, failed)


def canary(world, name, old, new, request, pods=3, rates=(9, 6), alone=ALONE, **resource):
    """`old` alone, then `new` beside it with a part of the traffic: both groups, when `new` has begun."""
    before = world.group(name, old, pods, sum(rates), request, **resource)
    world.run(alone)
    before.rate = rates[0]
    after = world.group(name, new, pods, rates[1], request, **resource)
    return before, after


def payment_canary(world, case):
    """Each payment calls the acquirer. The fault: 2.4.0 takes half as long again. The neighbour: the acquirer does, for
    both versions."""
    acquirer = {"slower": 1.0}

    def request(pod, end):
        if pod.chance(0.3):
            entry(pod, end, "GET", "/payments/{id}", pod.about(0.012))
            return
        slower = 1.5 if case == "fault" and pod.group.resource["service.version"] == "2.4.0" else 1.0
        charge = pod.about(0.060) * acquirer["slower"]
        own = (charge + pod.about(0.050)) * slower
        status = 502 if pod.chance(0.002) else 200
        span = entry(pod, end, "POST", "/payments", own, status)
        call(pod, span, end - 2_000_000, "charge", charge, peer__service="acquirer")

    canary(world, "payment", "2.3.0", "2.4.0", request)
    world.run(90)
    if case == "neighbour":
        acquirer["slower"] = 2.0
    world.run(BESIDE - 90)


def authentication(world, case):
    """Sign-ins of three classes of clients, of which some are refused. The fault: 5.2.0 refuses a third of the mobile
    app's. The neighbour: bots try passwords, on both versions."""
    bots = {"share": 0.0}

    def request(pod, end):
        new = pod.group.resource["service.version"] == "5.2.0"
        kind = pod.random.choices(["web", "mobile", "partner"], [5, 4, 2])[0]
        refused = 0.04
        if pod.chance(bots["share"]):
            kind, refused = "web", 0.95
        elif case == "fault" and new and kind == "mobile":
            refused = 0.33
        status = 401 if pod.chance(refused) else 200
        entry(pod, end, "POST", "/token", pod.about(0.025), status, client__class=kind)

    canary(world, "auth", "5.1.0", "5.2.0", request)
    world.run(120)
    if case == "neighbour":
        bots["share"] = 0.35
        for group in world.groups:
            group.rate *= 1.5
    world.run(BESIDE - 120)


def third_party_api(world, case):
    """Quotes of carriers, over their API. The fault: 4.0.0 calls the carrier's new API and cannot read an eighth of its
    answers; it falls back to a list price, so that no request fails. The neighbour: the carrier is out for both."""
    carrier = {"out": 0.01}

    def request(pod, end):
        new = pod.group.resource["service.version"] == "4.0.0"
        took = pod.about(0.080)
        span = entry(pod, end, "POST", "/quotes", took + pod.about(0.010))
        failed = pod.chance(carrier["out"])
        status = {"http__response__status_code": 503 if failed else 200}
        call(pod, span, end - 8_000_000, "POST", took, failed, peer__service="carrier", **status)
        if not failed:
            unread = pod.chance(0.12 if case == "fault" and new else 0.002)
            pod.span("parse quote", SpanKind.INTERNAL, end - 2_000_000, 0.003, {}, span, failed=unread)

    canary(world, "shipping-quotes", "3.9.0", "4.0.0", request, rates=(7, 5))
    world.run(90)
    if case == "neighbour":
        carrier["out"] = 0.6
    world.run(BESIDE - 90)


def incident(world, case):
    """A shop. The fault: 8.1.0 fails a quarter of the checkouts, with an exception that was never seen; after four minutes
    a person takes it back. The neighbour: a client upstream retries without end, and both versions shed its load."""
    storm = {"shed": 0.0}
    routes = [("GET", "/products", 0.015, 5), ("POST", "/cart", 0.025, 3), ("POST", "/checkout", 0.080, 2)]

    def request(pod, end):
        new = pod.group.resource["service.version"] == "8.1.0"
        method, route, usual, _ = pod.random.choices(routes, [r[3] for r in routes])[0]
        status = 200
        if route == "/checkout":
            if pod.chance(storm["shed"]):
                status = 503
            elif case == "fault" and new and pod.chance(0.25):
                status = 500
                pod.error(end, "shop.pricing.NoRateError",
                          'Traceback (most recent call last):\n  File "checkout.py", line 41, in total\n'
                          '  File "pricing.py", line 12, in rate\nshop.pricing.NoRateError: no rate', "checkout failed")
        if status == 200 and pod.chance(0.003):
            status = 500
            pod.error(end, "TimeoutError",
                      'Traceback (most recent call last):\n  File "store.py", line 80, in read\nTimeoutError: store', "read failed")
        entry(pod, end, method, route, pod.about(usual), status)

    # An exception is new when the old version did not show it in five minutes.
    before, after = canary(world, "shop", "8.0.3", "8.1.0", request, alone=320)
    world.run(120)
    if case == "neighbour":
        storm["shed"] = 0.3
        before.rate, after.rate = 2 * before.rate, 2 * after.rate
    world.run(120)
    if case == "fault":
        before.rate += after.rate
        after.scale(0)
    world.run(BESIDE - 240)


def user_api_kubernetes(world, case):
    """Accounts, with 5 % of the traffic on the new ReplicaSet. The fault: 2 % of its requests fail instead of 0.1 %. The
    neighbour: its pods are cold, and slow in their first half minute."""

    def request(pod, end):
        new = pod.group.resource["service.version"] == "1.31.0"
        status = 500 if pod.chance(0.02 if case == "fault" and new else 0.001) else 200
        cold = case == "neighbour" and new and pod.young(30)
        method, route = pod.random.choice([("GET", "/users/{id}"), ("GET", "/users/{id}/avatar"), ("PUT", "/users/{id}")])
        entry(pod, end, method, route, pod.about(0.020) * (6 if cold else 1), status)

    canary(world, "user-api", "1.30.2", "1.31.0", request, pods=4, rates=(38, 2), k8s__namespace__name="accounts")
    world.run(540)


def security_policy(world, case):
    """A gateway that decides by a policy who may do what. The fault: at T the new policy denies half of the exports of
    users who may export. The neighbour: at T + 20 s a scanner begins to try everything, and is denied."""
    policy = {"wrong": 0.0}
    routes = [("GET", "/reports", 5), ("POST", "/reports", 2), ("POST", "/exports", 3)]
    scanner = None

    def request(pod, end):
        method, route, _ = pod.random.choices(routes, [r[2] for r in routes])[0]
        denied = pod.chance(policy["wrong"] if route == "/exports" else 0.01) or pod.chance(0.01)
        entry(pod, end, method, route, pod.about(0.012), 403 if denied else 200, enduser__known=True,
              policy__decision="deny" if denied else "allow")

    def scan(pod, end):
        method, route, _ = pod.random.choices(routes, [r[2] for r in routes])[0]
        entry(pod, end, method, route, pod.about(0.004), 401, enduser__known=False, policy__decision="deny")

    gateway = world.group("gateway", "9.4.0", 3, 15, request)
    world.run(BEFORE)
    if case == "fault":
        policy["wrong"] = 0.5
    world.run(20)
    if case == "neighbour":
        usual, gateway.rate = gateway.request, 2.2 * gateway.rate
        gateway.request = lambda pod, end: (scan if pod.chance(0.55) else usual)(pod, end)
    world.run(AFTER - 20)


def database_migration(world, case):
    """Orders and their database. The fault: at T the migration drops an index, and what reads orders takes four times as
    long, and holds its locks so long that some wait for each other. The neighbour: at T + 30 s twice the traffic comes."""
    index = {"slower": 1.0}
    deadlocks = {}

    def request(pod, end):
        if pod not in deadlocks:
            deadlocks[pod] = pod.meter().create_counter("db.client.deadlocks")
            deadlocks[pod].add(0)
        if pod.chance(0.05 if index["slower"] > 1 else 0.002):
            deadlocks[pod].add(1)
        writes = pod.chance(0.3)
        reading = pod.about(0.006) * index["slower"]
        writing = pod.about(0.009) if writes else 0
        method, route = ("POST", "/orders") if writes else ("GET", "/orders/{id}")
        span = entry(pod, end, method, route, reading + writing + pod.about(0.010), 500 if pod.chance(0.001) else 200)
        database = {"db__system__name": "postgresql", "db__collection__name": "orders"}
        call(pod, span, end - int(writing * 1e9) - 2_000_000, "SELECT orders", reading, **database)
        if writes:
            call(pod, span, end - 2_000_000, "INSERT orders", writing, **database)

    orders = world.group("orders", "12.0.1", 3, 10, request)
    world.run(BEFORE)
    if case == "fault":
        index["slower"] = 4.0
    world.run(30)
    if case == "neighbour":
        orders.rate *= 2
    world.run(AFTER - 30)


def cdn(world, case):
    """An edge that answers from its cache, or asks the origin. The fault: at T the time to live is cut, and four of ten
    requests miss instead of one. The neighbour: the traffic grows threefold; popular things hit a little more often."""
    cache = {"hits": 0.90}

    def request(pod, end):
        hit = pod.chance(cache["hits"])
        asked = 0 if hit else pod.about(0.045)
        span = entry(pod, end, "GET", "/assets/{path}", pod.about(0.003) + asked, cdn__cache__status="HIT" if hit else "MISS")
        if not hit:
            call(pod, span, end - 1_000_000, "GET", asked, server__address="origin.example.com")

    edge = world.group("edge", "2026.11", 3, 14, request)
    world.run(BEFORE)
    if case == "fault":
        cache["hits"] = 0.60
    world.run(30)
    if case == "neighbour":
        edge.rate, cache["hits"] = 3 * edge.rate, 0.92
    world.run(AFTER - 30)


def experiment_cohort(world, case):
    """One version of a search with a flag that a process reads at its start: cohort a has the old ranking, cohort b the
    new one. The fault: the new ranking takes twice as long. The neighbour: cohort b is asked other things, among
    them something slow that cohort a hardly gets."""

    def request(pod, end):
        b = pod.group.resource["feature_flag.ranking"] == "b"
        shares = [1, 5, 4] if case == "neighbour" and b else [6, 3.5, 0.5]
        route, usual = pod.random.choices([("/search", 0.030), ("/suggest", 0.010), ("/related", 0.120)], shares)[0]
        slower = 2.0 if case == "fault" and b and route == "/search" else 1.0
        entry(pod, end, "GET", route, pod.about(usual) * slower, 500 if pod.chance(0.002) else 200)

    a = world.group("search", "3.1.0", 3, 20, request, **{"feature_flag.ranking": "a"})
    world.run(ALONE)
    a.rate = 12
    world.group("search", "3.1.0", 3, 8, request, **{"feature_flag.ranking": "b"})
    world.run(BESIDE)


def serverless(world, case):
    """A function that makes thumbnails. Of its three instances the oldest ends every 40 s, and another one begins, whose
    first call is a cold start and whose memory rises in its first minute. The fault: the role of version 18 may not
    write to the bucket. The neighbour: version 18 gets little traffic and its instances end sooner, so more of its
    calls meet a cold start."""
    started = set()

    def request(pod, end):
        new = pod.group.resource["service.version"] == "18"
        cold = pod not in started
        if cold:
            started.add(pod)
            size = pod.random.uniform(0.95, 1.05) * 2**20
            rise = lambda _: [Observation(int(size * (140 - 50 * math.exp(-pod.age() / 20))))]
            pod.meter().create_observable_up_down_counter("process.memory.usage", [rise], unit="By")
        writing = pod.about(0.030)
        refused = pod.chance(0.3 if case == "fault" and new else 0.001)
        status = 500 if refused else 200
        span = entry(pod, end, "POST", "/thumbnails", writing + pod.about(0.060) * (1.8 if cold else 1), status, faas__coldstart=cold)
        call(pod, span, end - 1_000_000, "PutObject", writing, refused, peer__service="thumbnails-bucket")

    def run(seconds):
        """Renews the instances while time passes."""
        for second in range(5, seconds + 1, 5):
            world.run(5)
            for group in world.groups:
                if second % (25 if group.rate < 2 else 40) == 0:
                    group.renew()

    before = world.group("thumbnails", "17", 3, 8, request, faas__name="thumbnails")
    run(480)
    before.rate = 5
    world.group("thumbnails", "18", 3, 1.5 if case == "neighbour" else 3, request, faas__name="thumbnails")
    run(BESIDE)


def autoscaling(world, case):
    """A search index whose pods have a queue each, and grow in number with the traffic. At T the autoscaler gets new
    settings, and at T + 40 s three times the traffic comes. The fault: the new settings allow two more pods than there
    are. The neighbour: there are three times as many, and the spike is all that happens. The twin: it grows by a
    pod, as it did before T."""
    index = None
    waiting = {}

    def request(pod, end):
        if pod not in waiting:
            pod.meter().create_observable_gauge("app.queue.length", [lambda _: [Observation(waiting[pod])]], unit="{request}")
        load = index.rate / len(index.pods)
        waiting[pod] = queue = int(pod.about(1 if load < 3 else 12, 0.5))
        entry(pod, end, "GET", "/search", pod.about(0.020) * (1 + queue / 3), app__queue__length=queue)

    index = world.group("index", "6.0.0", 3, 6, request)
    world.run(LISTENED)
    for _ in range(3):
        index.scale(len(index.pods) + 1)
        index.rate += 2
        world.run(36)
    world.run(40)
    pods, index.rate = {"fault": (8, 36), "neighbour": (18, 36), "twin": (7, 14)}[case]
    index.scale(pods)
    world.run(AFTER - 40)


def multi_region(world, case):
    """A catalogue in three regions. The fault: version 2.8.0 is configured wrongly in one of them, and fails an eighth of
    its requests there. The neighbour: one region is far from the database and slow, and 2.8.0 has more of its traffic
    there than 2.7.0."""
    regions = {"eu-west-1": 0.020, "us-east-1": 0.022, "ap-south-1": 0.024}
    if case == "neighbour":
        regions["ap-south-1"] = 0.110

    def request(pod, end):
        region, version = pod.group.resource["cloud.region"], pod.group.resource["service.version"]
        wrong = case == "fault" and version == "2.8.0" and region == "us-east-1"
        status = 500 if pod.chance(0.125 if wrong else 0.002) else 200
        entry(pod, end, "GET", "/catalogue/{id}", pod.about(regions[region]), status)

    def serve(version, rate, shares):
        return [world.group("catalogue", version, 2, rate * share, request, cloud__region=region)
                for region, share in zip(regions, shares)]

    old = serve("2.7.0", 18, [0.4, 0.4, 0.2])
    world.run(ALONE)
    for group in old:
        group.rate *= 0.6
    serve("2.8.0", 9, [0.25, 0.25, 0.5] if case == "neighbour" else [0.4, 0.4, 0.2])
    world.run(BESIDE)


EXAMPLES = {
    "payment-canary": payment_canary,
    "database-migration": database_migration,
    "authentication": authentication,
    "autoscaling": autoscaling,
    "cdn": cdn,
    "security-policy": security_policy,
    "serverless": serverless,
    "third-party-api": third_party_api,
    "experiment-cohort": experiment_cohort,
    "multi-region": multi_region,
    "user-api-kubernetes": user_api_kubernetes,
    "incident": incident,
}
