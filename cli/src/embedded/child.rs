//! Children that do not outlive tally, however it ends.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Lets the kernel send `signal` to the child when its parent dies, were it by SIGKILL.
///
/// The parent, to the kernel, is the *thread* that spawns: it must live for as long as the child may.
pub(super) fn die_with_parent(command: &mut Command, signal: Signal) {
    let parent = std::process::id().cast_signed();
    let arm = move || -> io::Result<()> {
        set_parent_process_death_signal(Some(signal))?;
        // A parent that died before the line above sends nothing any more.
        match getppid() {
            Some(pid) if pid.as_raw_nonzero().get() == parent => Ok(()),
            _ => Err(Errno::SRCH.into()),
        }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. `arm` makes two system calls, allocates
    // nothing and takes no lock. It runs after std changed the user, which would have cleared the signal again.
    #[expect(unsafe_code, reason = "std has no safe way to set the parent-death signal of a child")]
    unsafe {
        command.pre_exec(arm);
    }
}
