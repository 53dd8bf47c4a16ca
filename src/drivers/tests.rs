//! What holds on every driver.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::accept_turn::Sharing;
use super::ring::{RingDriver, RingSizes};
use super::*;
use crate::clock::stand_still;
use crate::follower::{Waker, link};
use crate::mesh::Parking;
use crate::shard::{Listener, ShardSetup};

const PATIENCE: Duration = Duration::from_secs(30);

const SIZES: RingSizes = RingSizes {
    submissions: 64,
    completions: 256,
    buffers: 64,
    buffer_bytes: 4_096,
    connections: 16,
    spin: Spin::For(0),
};

/// A shard has looked at the clock, and its host lets it stand still. Callers of whom half a question has come send the rest meanwhile: they
/// have come by when it goes on, whatever the clock said before, and what was young enough then is too old for them.
fn what_comes_while_a_shard_stands_still_came_after_its_look_at_the_clock<D: Driver>(settings: D::Settings)
where
    D::Settings: Send,
{
    const MAX_AGE_MS: u64 = 50;
    let clock = Clock::new(None);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let wakers: Arc<[ShardWaker]> = [ShardWaker::new().unwrap()].into();
    let parking = Arc::new(Parking::new());
    let waker: Waker = {
        let wakers = Arc::clone(&wakers);
        Arc::new(move || wakers[0].wake())
    };
    let (_outlet, feed) = link(Arc::clone(&parking), waker);
    let watermark = Arc::clone(&feed.watermark);
    let shutdown = Arc::new(Shutdown::new(1));
    let stands = Arc::new(AtomicBool::new(false));
    let ((has_looked, looked), (go_on, goes_on)) = (mpsc::channel(), mpsc::channel());

    let serve = {
        let (wakers, shutdown, stands) = (Arc::clone(&wakers), Arc::clone(&shutdown), Arc::clone(&stands));
        move || {
            let context = ShardContext {
                shard: Shard::new(ShardSetup::alone(parking, feed)),
                clock,
                listening: vec![Listening {
                    listener: Listener::Any,
                    socket: listener.into(),
                    sharing: Sharing::Own,
                    is_inherited: false,
                }],
                arrivals: None,
                wakers,
                own_shard: 0,
                shutdown,
            };
            stand_still::after_each_look(move || {
                if stands.load(Ordering::Acquire) && has_looked.send(()).is_ok() {
                    // Whoever holds it up may have given up.
                    let _ = goes_on.recv();
                }
            });
            D::set_up(context, settings)?.run()
        }
    };
    let judged = move || {
        let mut callers: Vec<TcpStream> = (0..4)
            .map(|_| {
                let caller = TcpStream::connect(address).unwrap();
                caller.set_nodelay(true).unwrap();
                caller.set_read_timeout(Some(PATIENCE)).unwrap();
                caller
            })
            .collect();
        watermark.store(1, clock.monotonic_us());
        let get = |query: &str| format!("GET /v1/users/1/balance{query} HTTP/1.1\r\nHost: h\r\n\r\n");
        for caller in &mut callers {
            caller.write_all(get("").as_bytes()).unwrap();
            assert_eq!(status_of(caller), "404");
        }
        stands.store(true, Ordering::Release);
        callers[0].write_all(get("").as_bytes()).unwrap();
        looked.recv_timeout(PATIENCE).unwrap();
        let question = get(&format!("?max_age_ms={MAX_AGE_MS}"));
        let (half, rest) = question.split_at(question.len() / 2);
        callers.iter_mut().for_each(|caller| caller.write_all(half.as_bytes()).unwrap());
        watermark.store(2, clock.monotonic_us());
        go_on.send(()).unwrap();
        looked.recv_timeout(PATIENCE).unwrap();
        let late_us = clock.monotonic_us() + (MAX_AGE_MS + 10) * 1_000;
        while clock.monotonic_us() < late_us {
            thread::yield_now();
        }
        callers.iter_mut().for_each(|caller| caller.write_all(rest.as_bytes()).unwrap());
        stands.store(false, Ordering::Release);
        go_on.send(()).unwrap();
        assert_eq!(status_of(&mut callers[0]), "404");
        callers.iter_mut().map(status_of).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let shard = scope.spawn(serve);
        let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(judged));
        shutdown.begin();
        wakers[0].wake();
        shard.join().unwrap().unwrap();
        assert_eq!(judged.unwrap(), ["412"; 4]);
    });
}

/// The status of the next answer, which is read to its end.
fn status_of(caller: &mut TcpStream) -> String {
    let (mut head, mut byte) = (String::new(), [0]);
    while !head.ends_with("\r\n\r\n") {
        caller.read_exact(&mut byte).unwrap();
        head.push(char::from(byte[0]));
    }
    let length =
        head.to_lowercase().split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse();
    caller.read_exact(&mut vec![0; length.unwrap()]).unwrap();
    head["HTTP/1.1 ".len()..][..3].to_owned()
}

#[test]
fn on_ring_what_comes_while_it_stands_still_came_after() {
    what_comes_while_a_shard_stands_still_came_after_its_look_at_the_clock::<RingDriver>(SIZES);
}

#[cfg(feature = "monoio")]
#[test]
fn on_monoio_what_comes_while_it_stands_still_came_after() {
    use super::monoio::{Backend, MonoioDriver, MonoioSettings};

    for backend in [Backend::IoUring, Backend::Epoll] {
        let settings = MonoioSettings { backend, sizes: SIZES.into() };
        what_comes_while_a_shard_stands_still_came_after_its_look_at_the_clock::<MonoioDriver>(settings);
    }
}

#[cfg(feature = "glommio")]
#[test]
fn on_glommio_what_comes_while_it_stands_still_came_after() {
    use super::glommio::GlommioDriver;

    what_comes_while_a_shard_stands_still_came_after_its_look_at_the_clock::<GlommioDriver>(SIZES.into());
}
