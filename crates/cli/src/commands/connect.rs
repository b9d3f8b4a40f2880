//! `deltaworks connect`: the pipeline's catalog for any Spark Connect client, until a signal.

use std::net::{IpAddr, SocketAddr};

use deltaworks_spark::connect::service::ServeOptions;
use deltaworks_spark::{Error, Kind, Result};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::args::ConnectArgs;
use crate::engine::Engine;
use crate::exit::Exit;
use crate::output::Output;
use crate::signals;

pub(super) async fn run(engine: &dyn Engine, args: &ConnectArgs, output: &Output) -> Result<Exit> {
    run_until(engine, args, output, signals::cancellation_on_signal()).await
}

/// Serves until `stop` is cancelled.
pub(super) async fn run_until(
    engine: &dyn Engine,
    args: &ConnectArgs,
    output: &Output,
    stop: CancellationToken,
) -> Result<Exit> {
    let options = ServeOptions { token: args.token()?, tls: args.tls()?, ..ServeOptions::default() };
    if options.tls.is_none() && !args.host.is_loopback() {
        output.note(
            "warning: token and data cross the network in plain text; give --tls-cert and --tls-key, or put a proxy that ends TLS before the server.",
        );
    }
    let listener = listen(args.host, args.port).await?;
    let address = listener.local_addr()?;
    output.result(&format!("{}\n", url(address)));
    engine.serve(listener, options, stop).await?;
    Ok(Exit::Done)
}

async fn listen(host: IpAddr, port: u16) -> Result<TcpListener> {
    TcpListener::bind((host, port)).await.map_err(|error| {
        Error::new(Kind::Unavailable, format!("cannot listen on {}: {error}", SocketAddr::new(host, port)))
            .with_help("Choose another port with --port; --port 0 takes a free one.")
            .with_source(error)
    })
}

/// What a client connects to; a server on every address is reached by the local one.
fn url(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if !v6.ip().is_unspecified() => format!("sc://[{}]:{}", v6.ip(), v6.port()),
        address if address.ip().is_unspecified() => format!("sc://localhost:{}", address.port()),
        address => format!("sc://{address}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn url_is_what_a_client_takes() {
        for (address, expected) in [
            ("127.0.0.1:15002", "sc://127.0.0.1:15002"),
            ("[::1]:9", "sc://[::1]:9"),
            ("0.0.0.0:9", "sc://localhost:9"),
            ("[::]:9", "sc://localhost:9"),
        ] {
            assert_eq!(url(address.parse().unwrap()), expected);
        }
    }
}
