//! How fast the real switch can be asked. The bars hold on two idle cores; here they are only shown.

use super::{packets, rng::Rng, world};
use flowproof_ovs::TraceRequest;
use std::time::Instant;

/// Traces and packets a second that a soak counts on.
const BARS: (f64, f64) = (10_000.0, 2_000.0);
const COUNT: usize = 2000;

#[test]
fn the_real_switch_answers_fast_enough() {
    let genuine = world::genuine();
    let world = &genuine[0];
    let Some(mut real) = super::start(world) else { return };
    real.load(world.flows()).unwrap();
    let mut rng = Rng::new(1);
    let packets: Vec<_> = (0..COUNT).map(|_| packets::packet(world, &mut rng)).collect();
    let requests: Vec<_> = packets
        .iter()
        .map(|packet| TraceRequest { in_port: packet.in_port, frame: &packet.frame, ct_next: &[] })
        .collect();
    let began = Instant::now();
    assert_eq!(real.traces(&requests).unwrap().len(), COUNT);
    let traces = COUNT as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    for packet in &packets {
        real.send(packet.in_port, &packet.frame).unwrap();
    }
    let sent = COUNT as f64 / began.elapsed().as_secs_f64();
    super::say(&format!(
        "speed: {traces:.0} traces/s (bar {:.0}), {sent:.0} exact packets/s (bar {:.0})",
        BARS.0, BARS.1
    ));
}
