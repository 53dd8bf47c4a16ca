//! Reaching a name: all its addresses, asked anew for each connection.

use std::io;
use std::net::{IpAddr, SocketAddr};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::sleep;

use crate::builder::Resolver;
use crate::limits::ATTEMPT_AFTER;

/// Connects to the first of the name's addresses that answers. A node may have moved, so the name is resolved each time.
pub(super) async fn reach(resolver: Option<&Resolver>, host: &str, port: u16) -> io::Result<TcpStream> {
    let found: Vec<SocketAddr> = match resolver {
        // Addresses are nobody's to resolve.
        Some(resolve) if host.parse::<IpAddr>().is_err() => resolve(host, port).await?,
        Some(_) | None => lookup_host((host, port)).await?.collect(),
    };
    first(&found, TcpStream::connect).await
}

/// The first connection that is made. The others are given up.
async fn first<T, F: Future<Output = io::Result<T>>>(
    addresses: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let mut waiting = addresses.iter().copied();
    let mut under_way = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match waiting.next() {
            Some(address) => under_way.push(connect(address)),
            None if under_way.is_empty() => return Err(last),
            None => {}
        }
        tokio::select! {
            Some(ended) = under_way.next() => match ended {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            },
            () = sleep(ATTEMPT_AFTER) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    /// A name's first address that swallowed packets took the whole time of an attempt, and those behind it were never
    /// tried.
    #[tokio::test]
    async fn all_addresses_of_a_name_are_tried() {
        let [silent, refuses, answers] =
            ["192.0.2.1:7400", "192.0.2.2:7400", "[2001:db8::1]:7400"].map(|text| text.parse().unwrap());
        let connect = |address| async move {
            match address {
                address if address == silent => pending().await,
                address if address == refuses => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                address => Ok(address),
            }
        };
        assert_eq!(first(&[answers, silent], connect).await.unwrap(), answers);
        assert_eq!(first(&[refuses, answers], connect).await.unwrap(), answers);
        assert_eq!(first(&[silent, refuses, answers], connect).await.unwrap(), answers);
        let refused = first(&[refuses, refuses], connect).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(first(&[], connect).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
