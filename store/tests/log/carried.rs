//! What clients carry: unreadable, unalterable, good for one purpose, on every replica.

use tally_store::KeyRing;

use crate::support::{Log, MASTER, SIGNING};

async fn keys(log: &Log) -> KeyRing {
    KeyRing::unlock(log.pool(), &MASTER, &SIGNING).await.unwrap()
}

#[tokio::test]
async fn what_is_carried_opens_for_its_purpose_on_every_replica() {
    let log = Log::new().await;
    let (here, there) = (keys(&log).await, keys(&log).await);
    let text = here.seal_carried("one", b"a letter to ourselves");
    assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
    assert_eq!(there.open_carried("one", &text).unwrap().as_slice(), b"a letter to ourselves");
    assert_eq!(there.open_carried("another", &text), None);
    // Nobody learns that two say the same.
    assert_ne!(here.seal_carried("one", b"a letter to ourselves"), text);
}

#[tokio::test]
async fn what_was_altered_or_made_up_does_not_open() {
    let (log, other) = (Log::new().await, Log::new().await);
    let ring = keys(&log).await;
    let text = ring.seal_carried("one", b"a letter to ourselves");
    for at in 0..text.len() {
        let mut altered = text.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).unwrap();
        assert_eq!(ring.open_carried("one", &altered), None, "{at}");
    }
    for made_up in ["", "A", "AAAA", "not base64!", &text[1..], &text[..20], &format!("{text}A")] {
        assert_eq!(ring.open_carried("one", made_up), None, "{made_up}");
    }
    assert_eq!(keys(&other).await.open_carried("one", &text), None, "another installation");
}
