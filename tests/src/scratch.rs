//! A directory and the processes in it, gone when the test is, however it ends.
//!
//! A guard process waits for the test process to close its pipe: by dropping the scratch, by
//! ending, or by being killed. Then it stops what was started and removes the directory. A process
//! that has ended and that the test did not wait for is a zombie, and counts as ended.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

const GUARD: &str = r#"
cat > /dev/null
alive() { for f in "$1"/pids/*; do grep -qs '^State:[[:space:]]*[RSDTtI]' "/proc/${f##*/}/status" && return 0; done; return 1; }
signal() { for f in "$1"/pids/*; do [ -e "$f" ] && kill "-$2" "${f##*/}" 2>/dev/null; done; }
signal "$1" CONT
signal "$1" TERM
i=0; while alive "$1" && [ $i -lt 300 ]; do sleep 0.1; i=$((i + 1)); done
signal "$1" KILL
[ -d "$1/volume" ] && umount -l "$1/volume"
i=0; while [ -e "$1" ] && [ $i -lt 100 ]; do rm -rf "$1" 2>/dev/null || sleep 0.1; i=$((i + 1)); done
"#;

pub struct Scratch {
    path: PathBuf,
    guard: Child,
}

impl Scratch {
    /// A new directory, which any user may pass through: PostgreSQL does not run as root.
    ///
    /// # Panics
    /// When the machine gives no temporary directory or no shell.
    #[must_use]
    pub fn new() -> Self {
        let path =
            tempfile::Builder::new().prefix("tally-test-").tempdir().expect("a temporary directory").keep();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).expect("our own directory");
        fs::create_dir(path.join("pids")).expect("our own directory");
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "scratch-guard"]).arg(&path).stdin(Stdio::piped());
        // Its own group: Ctrl-C at the terminal ends the test, and then the guard does its work.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let guard = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a shell");
        Self { path, guard }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new directory with a volume of its own of so many bytes: a file system that can be full. A
    /// loop device with ext4 where there is one, else memory.
    ///
    /// # Errors
    /// What mounting said, where this user may not mount.
    ///
    /// # Panics
    /// As [`Scratch::new`].
    pub fn with_volume(bytes: u64) -> Result<Self, String> {
        let scratch = Self::new();
        let (image, volume) = (scratch.path.join("volume.img"), scratch.path.join("volume"));
        fs::create_dir(&volume).expect("our own directory");
        let on_loop = || {
            fs::File::create(&image).and_then(|file| file.set_len(bytes)).expect("a sparse file");
            run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-O", "^has_journal"]).arg(&image))?;
            run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&volume))
        };
        let in_memory = |error: String| {
            let size = format!("size={bytes}");
            let mount = run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(&volume));
            mount.map_err(|other| format!("{error}; {other}"))
        };
        on_loop().or_else(in_memory)?;
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o711)).expect("our own directory");
        Ok(scratch)
    }

    /// The volume, if it has one.
    #[must_use]
    pub fn volume(&self) -> Option<PathBuf> {
        Some(self.path.join("volume")).filter(|volume| volume.exists())
    }

    /// Starts a process that the guard will stop.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Guarded> {
        let child = command.spawn()?;
        let mark = self.path.join("pids").join(child.id().to_string());
        fs::write(&mark, "")?;
        Ok(Guarded { child, mark })
    }
}

/// Runs a command to its end; what it said when it failed.
fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        drop(self.guard.wait());
    }
}

/// A process whose end somebody looks after.
pub struct Guarded {
    child: Child,
    mark: PathBuf,
}

impl Guarded {
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to this very process.
    ///
    /// # Panics
    /// When the signal has no such number or the process was waited for already.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .expect("a process id");
        rustix::process::kill_process(id, signal).expect("a process of ours that was not waited for");
    }

    /// Waits for the end, a minute at most.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                drop(fs::remove_file(&self.mark));
                return status;
            }
            assert!(std::time::Instant::now() < deadline, "process {} did not end", self.child.id());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }
}
