//! The real binary, serving.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use serde_json::Value;

use crate::{
    client::Client,
    eventually,
    scratch::{Guarded, Scratch},
    watch::Watch,
};

/// A `tally serve` in a scratch directory of its own.
pub struct Server {
    scratch: Scratch,
    binary: PathBuf,
    settings: BTreeMap<String, String>,
    process: Guarded,
    url: String,
    starts: u32,
    watch: Arc<Watch>,
}

impl Server {
    /// Starts the binary with its embedded database and waits until it is ready. `settings` go
    /// before the defaults of tests: a free port, logs as JSON, and no limits per address.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn start(binary: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_in(Scratch::new(), binary, settings).await
    }

    /// The same in a directory that is there, its data on the directory's volume if it has one.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn start_in(scratch: Scratch, binary: &str, settings: &[(&str, &str)]) -> Self {
        let data = scratch.volume().map_or_else(|| scratch.path().join("data"), |volume| volume.join("data"));
        #[expect(clippy::disallowed_methods, reason = "the server finds its programs where the test does")]
        let search_path = std::env::var("PATH").unwrap_or_default();
        let mut all: BTreeMap<String, String> = [
            ("PATH", search_path.as_str()),
            ("PORT", "0"),
            ("TALLY_DATA_DIR", data.to_str().expect("a temporary path is UTF-8")),
            ("TALLY_LOG_FORMAT", "json"),
            ("RATE_LIMIT_AUTH", "1000000"),
            ("RATE_LIMIT_AUTH_VERIFY", "1000000"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        all.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let process = spawn(&scratch, Path::new(binary), &all);
        let watch = Arc::new(Watch::new(log_path(&scratch)));
        let (binary, url) = (binary.into(), String::new());
        let mut server = Self { scratch, binary, settings: all, process, url, starts: 1, watch };
        server.url = server.listening().await;
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        PathBuf::from(&self.settings["TALLY_DATA_DIR"])
    }

    /// A directory that goes with the server.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.url, self.watch.clone())
    }

    /// Another command of the same binary with the same settings, such as `projections verify`.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.env_clear().envs(&self.settings).args(arguments).stdin(Stdio::null());
        command
    }

    pub fn process(&mut self) -> &mut Guarded {
        &mut self.process
    }

    /// Starts it again, on the same data, after it ended.
    pub async fn restart(&mut self) {
        self.starts += 1;
        self.process = spawn(&self.scratch, &self.binary, &self.settings);
        self.url = self.listening().await;
    }

    /// Stops it in order and starts it again, on the same data, with other settings.
    ///
    /// # Panics
    /// When it does not stop, or not get ready again.
    pub async fn restart_with(&mut self, settings: &[(&str, &str)]) {
        self.process.signal(rustix::process::Signal::TERM);
        let ended = self.process.wait();
        assert!(ended.success(), "{ended}");
        self.settings.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.restart().await;
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.watch.path()).unwrap_or_default()
    }

    /// The address in the log line of the latest start.
    async fn listening(&mut self) -> String {
        self.told("listening").await
    }

    /// Where its metrics are, if `METRICS_ADDR` is among its settings.
    pub async fn metrics_url(&mut self) -> String {
        self.told("metrics are served").await + "/metrics"
    }

    /// The address in the line with this message of the latest start.
    async fn told(&mut self, message: &str) -> String {
        let starts = self.starts as usize;
        let log_path = self.watch.path().to_owned();
        let process = &mut self.process;
        let address = eventually(message, async || {
            let log = fs::read_to_string(&log_path).unwrap_or_default();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let addresses: Vec<Value> =
                lines.filter(|line| line["message"] == message).map(|line| line["address"].clone()).collect();
            assert!(process.is_running(), "the server ended: {log}");
            addresses.get(starts - 1).and_then(Value::as_str).map(str::to_owned)
        })
        .await;
        format!("http://{}", address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "127.0.0.1"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.watch.look();
        }
    }
}

fn log_path(scratch: &Scratch) -> PathBuf {
    scratch.path().join("serve.log")
}

fn spawn(scratch: &Scratch, binary: &Path, settings: &BTreeMap<String, String>) -> Guarded {
    let log = OpenOptions::new().create(true).append(true).open(log_path(scratch)).expect("a log file");
    let mut command = Command::new(binary);
    command.arg("serve").env_clear().envs(settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    scratch.spawn(&mut command).expect("the binary runs")
}
