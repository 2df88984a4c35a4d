//! A server that wrk asks over HTTP, the product's or a bare handler, in rounds.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use tally_tests::Server;

use crate::{
    Result,
    bare::Process,
    bench::{Bench, Side},
    cpu::Meter,
    report::Sample,
    seed::Seed,
    wrk,
};

pub const CONNECTIONS: usize = 64;
pub const TOO_FEW: &str = "a cold round asked for a token twice: it needs more --events or fewer --seconds";

enum Running {
    Product(Box<Server>),
    Bare(Process),
}

/// What is sent.
#[derive(Clone)]
pub struct Script {
    pub path: &'static str,
    /// For wrk. It is given the file and how many threads there are.
    pub text: String,
    /// Credentials that one request asks about.
    pub verdicts: u64,
}

/// One side.
pub struct OverHttp {
    name: &'static str,
    is_baseline: bool,
    url: String,
    server: Running,
    directory: PathBuf,
    script: Script,
    /// The tokens that are asked about.
    pub file: PathBuf,
}

impl OverHttp {
    pub fn product(server: Server, seed: &Seed, script: &Script, file: PathBuf) -> Self {
        Self {
            name: "tally",
            is_baseline: false,
            url: server.url().to_owned(),
            server: Running::Product(Box::new(server)),
            directory: seed.directory().to_owned(),
            script: script.clone(),
            file,
        }
    }

    /// The product once more, otherwise: what the product is compared with.
    pub fn otherwise(self, name: &'static str) -> Self {
        Self { name, is_baseline: true, ..self }
    }

    pub fn bare(name: &'static str, process: Process, seed: &Seed, script: &Script, file: PathBuf) -> Self {
        Self {
            name,
            is_baseline: true,
            url: process.url().to_owned(),
            server: Running::Bare(process),
            directory: seed.directory().to_owned(),
            script: script.clone(),
            file,
        }
    }
}

#[async_trait]
impl Side for OverHttp {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn is_baseline(&self) -> bool {
        self.is_baseline
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        let server = match &mut self.server {
            Running::Product(server) => server.process().id(),
            Running::Bare(process) => process.id(),
        };
        let connections = if bench.options.quick { 4 } else { CONNECTIONS };
        let threads = wrk::threads(connections).to_string();
        let file = self.file.to_str().ok_or("a temporary path is not UTF-8")?;
        let url = format!("{}{}", self.url, self.script.path);
        let meter = bench.measure(Meter::CalledByChild { server })?;
        let arguments = [file, &threads];
        let counted = wrk::run(&self.directory, &url, connections, length, &self.script.text, &arguments)?;
        let sample = counted.sample(self.script.verdicts, meter.stop()?);
        if counted.repeated > 0 && !bench.options.quick {
            return Err(TOO_FEW.into());
        }
        Ok(sample)
    }

    async fn finish(self: Box<Self>, _: &Bench) -> Result<()> {
        Ok(())
    }
}
