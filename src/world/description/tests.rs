use super::*;
use crate::world::promql::SeriesStore;
use crate::world::sim::Sim;

const SHOP: &str = "\
services:
  door: {role: gateway, calls: {cart: 0.8}}
  cart: {calls: {cart-db: 1.0}}
  cart-db: {role: database}
  names: {role: name_server}
";

#[track_caller]
fn refused(rest: &str, expected: &str) {
    let error = World::parse(&format!("{SHOP}{rest}")).expect_err("it is refused");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_mistake_is_told_with_its_line() {
    refused(
        "faults:\n  - {kind: bad_image, service: cart}\n  - {kind: bad_image, service: carts}\n",
        "line 8: faults[1]: there is no service `carts`; there are door, cart, cart-db, names",
    );
    refused(
        "faults:\n  - {kind: slow_query, service: cart}\n",
        "line 7: faults[0]: slow_query befalls a Database; cart is a Service",
    );
    refused(
        "faults:\n  - {kind: disk_full, service: cart-db, hours: 3}\n",
        "line 7: faults[0]: `hours` does not belong to disk_full; it takes minutes",
    );
    refused(
        "faults:\n  - {kind: network, service: cart, to: door}\n",
        "line 7: faults[0]: to: cart does not call door",
    );
    refused(
        "faults:\n  - {kind: slow_query, service: cart-db, change: {image: \"2\"}}\n",
        "line 7: faults[0]: no rollout brings slow_query; leave `change` away",
    );
    refused(
        "changes:\n  - {service: cart, at: -5m}\n",
        "line 7: changes[0]: it changes nothing; give image, config, env or memory",
    );
    refused(
        "changes:\n  - {service: cart-db, at: -5m, image: \"2\"}\n",
        "line 7: changes[0]: cart-db is Database; only deployments are rolled out",
    );
}

#[test]
fn what_nobody_reads_is_refused() {
    for wrong in [
        "changes:\n  - {service: cart, at: -5m, image: \"2\", imge: \"3\"}\n",
        "faults:\n  - {kind: bad_image, service: cart, change: {imge: \"3\"}}\n",
        "logs:\n  - {service: cart, text: x, evry: 5s}\n",
        "trafic: 5\n",
        "faults:\n  - {kind: bad_image, service: cart, at: 5 minutes}\n",
    ] {
        let error = World::parse(&format!("{SHOP}{wrong}")).expect_err(wrong);
        assert!(error.line.is_some(), "{wrong}: {error}");
    }
}

#[test]
fn who_calls_whom_has_no_circle() {
    let error = World::parse("services:\n  a: {role: gateway, calls: [b]}\n  b: {calls: [c]}\n  c: {calls: [b]}\n");
    assert_eq!(error.expect_err("a circle").to_string(), "line 3: services: b, c call each other in a circle");
}

#[test]
fn spans_are_read() {
    assert_eq!([span("90s"), span("-20m"), span("1h30m")], [Some(90_000), Some(-1_200_000), Some(5_400_000)]);
    assert_eq!([span("5"), span(""), span("5d"), span("m")], [None; 4]);
}

/// Lives through a world for some minutes and gives what was asked of each tick's end.
fn live(yaml: &str, minutes: i64) -> Sim {
    let world = World::parse(yaml).expect("a world");
    let mut sim = Sim::of(world.seed, world.start, world.estate, world.script);
    sim.quiet(1, MINUTE, &mut SeriesStore::new());
    sim.advance(world.start + minutes * MINUTE, &mut SeriesStore::new(), &mut |_| {});
    sim
}

#[test]
fn a_fault_hurts_where_it_sits_and_going_back_cures_it() {
    let mut sim = live(&format!("{SHOP}faults:\n  - {{kind: bad_image, service: cart, at: 1m}}\n"), 8);
    let at = sim.estate.find("cart").expect("there");
    assert!(sim.conditions[at].errors > 0.3, "{}", sim.conditions[at].errors);
    assert!(!sim.is_cured());
    let before = format!("registry.example/{}:2.39.0", sim.estate.nodes[at].name);
    let change = crate::world::kubernetes::TemplateChange { image: Some(before), ..Default::default() };
    let (namespace, now) = (sim.estate.nodes[at].namespace.clone(), sim.now);
    sim.kube().roll_out(&namespace, "cart", &change, now).expect("a workload");
    sim.advance(now + 6 * MINUTE, &mut SeriesStore::new(), &mut |_| {});
    assert!(sim.conditions[at].errors < 0.01 && sim.is_cured());
}

#[test]
fn what_is_not_a_fault_of_a_place_leaves_it_alone() {
    let sim = live(&format!("{SHOP}faults:\n  - {{kind: network, service: door, to: cart, at: 1m}}\n"), 6);
    let errors = |name: &str| sim.conditions[sim.estate.find(name).expect("there")].errors;
    assert!(errors("door") > 0.1 && errors("cart") < 0.01, "{} {}", errors("door"), errors("cart"));
}

#[test]
fn a_quota_keeps_lost_pods_lost() {
    let sim = live(&format!("{SHOP}faults:\n  - {{kind: quota, service: cart, lost: 2, at: 1m}}\n"), 6);
    let cart = &sim.conditions[sim.estate.find("cart").expect("there")];
    assert_eq!((cart.ready, cart.pods), (1, 1));
}

#[test]
fn a_described_world_is_the_same_each_time() {
    let yaml = format!("{SHOP}faults:\n  - {{kind: dns_failure, service: names, at: 1m}}\n");
    let state =
        |sim: &Sim| sim.conditions.iter().map(|it| format!("{:.9} {:.9}", it.errors, it.seconds)).collect::<Vec<_>>();
    assert_eq!(state(&live(&yaml, 5)), state(&live(&yaml, 5)));
}
