//! Certificates for servers of the tests.

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// An authority, and a certificate for `name` that it vouches for: `authority.pem`, `server.pem` and
/// `server.key`.
///
/// # Panics
/// When they cannot be made: `scripts/install openssl` gets what makes them.
pub fn certify(directory: &Path, name: &str) {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        command.current_dir(directory).args(["req", "-x509"]).args(key).args(arguments).stdin(Stdio::null());
        let output = command.output().expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    openssl(&["-subj", "/CN=authority", "-keyout", "authority.key", "-out", "authority.pem"]);
    let (subject, alternative) = (format!("/CN={name}"), format!("subjectAltName=DNS:{name}"));
    let signed =
        ["-CA", "authority.pem", "-CAkey", "authority.key", "-keyout", "server.key", "-out", "server.pem"];
    let end = ["-subj", &subject, "-addext", &alternative, "-addext", "basicConstraints=critical,CA:FALSE"];
    openssl(&[&signed[..], &end[..]].concat());
}
