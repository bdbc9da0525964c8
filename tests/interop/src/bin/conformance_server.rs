//! The conformance fixtures, served: `conformance_server [--layers | --delegate] [--stdio | --listen ADDRESS]`.

use std::net::SocketAddr;

use rmcp::ServerHandler;
use rmcp_layers_interop::conformance::Everything;
use rmcp_layers_interop::layers;
use rmcp_layers_interop::serve::{self, Result};

struct Options {
    listen: SocketAddr,
    stdio: bool,
    layers: bool,
    delegate: bool,
}

impl Options {
    fn from_arguments() -> Result<Self> {
        let mut options = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            stdio: false,
            layers: false,
            delegate: false,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--stdio" => options.stdio = true,
                "--layers" => options.layers = true,
                "--delegate" => options.delegate = true,
                "--listen" => {
                    let address = arguments.next().ok_or("--listen needs an address")?;
                    options.listen = address.parse()?;
                }
                other => return Err(format!("unknown argument {other:?}").into()),
            }
        }
        Ok(options)
    }
}

fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    serve::run(serve_as(Options::from_arguments()?))
}

async fn serve_as(options: Options) -> Result<()> {
    let everything = Everything::default();
    if options.layers {
        let stack = layers::stacked(everything);
        serve(options, move || stack.clone()).await
    } else if options.delegate {
        let stack = layers::delegating(everything)?;
        serve(options, move || stack.clone()).await
    } else {
        serve(options, move || everything.session()).await
    }
}

async fn serve<S: ServerHandler>(
    options: Options,
    session: impl Fn() -> S + Clone + Send + Sync + 'static,
) -> Result<()> {
    match options.stdio {
        true => serve::stdio(session()).await,
        false => serve::http(options.listen, session).await,
    }
}
