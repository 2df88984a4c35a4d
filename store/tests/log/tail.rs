//! P1: no reader's cursor ever passes an event that becomes visible later.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use sqlx::{Connection, Executor};
use tally_events::UserId;

use crate::support::{Log, toggle};

const WRITERS: usize = 64;
const APPENDS: usize = 25;

/// One append by a writer, its how-manieth, and the pages the reader has read until now.
trait Strategy: Send + Sync + 'static {
    fn append(&self, writer: usize, number: usize, pages: &AtomicUsize) -> impl Future<Output = ()> + Send;
}

/// Reads as fast as it can beside the writers, and says which positions it never saw, or saw out of
/// order. The cursor is always the last row's.
async fn missed<S: Strategy>(log: &Log, table: &str, strategy: S) -> Vec<i64> {
    let total = WRITERS * APPENDS;
    let strategy = Arc::new(strategy);
    let (written, pages) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let writers = join_all((0..WRITERS).map(|writer| {
        let (strategy, written, pages) = (strategy.clone(), written.clone(), pages.clone());
        tokio::spawn(async move {
            for number in 0..APPENDS {
                strategy.append(writer, number, &pages).await;
                written.fetch_add(1, Ordering::SeqCst);
            }
        })
    }));
    let mut connection = log.connection().await;
    let read = format!("select position from {table} where position > $1 order by position");
    let reader = tokio::spawn(async move {
        let (mut cursor, mut seen, mut reads_beside) = (0, Vec::new(), 0);
        loop {
            // Looked at before the read, so that the last read follows the last write.
            let over = written.load(Ordering::SeqCst) == total;
            let rows: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(read.as_str()))
                .bind(cursor)
                .fetch_all(&mut connection)
                .await
                .unwrap();
            pages.fetch_add(1, Ordering::SeqCst);
            cursor = rows.last().copied().unwrap_or(cursor);
            reads_beside += usize::from(!over && !rows.is_empty());
            seen.extend(rows);
            if over {
                return (seen, reads_beside);
            }
        }
    });
    for writer in writers.await {
        writer.unwrap();
    }
    let (seen, reads_beside) = reader.await.unwrap();
    assert!(reads_beside > 10, "the reader read beside the writers: {reads_beside} pages");
    assert!(seen.is_sorted_by(|a, b| a < b), "in order, each once");
    (1..=i64::try_from(total).unwrap()).filter(|position| seen.binary_search(position).is_err()).collect()
}

/// The real committers: two of them, as two replicas.
struct Committers([Arc<tally_store::Store>; 2], Vec<UserId>);

impl Strategy for Committers {
    async fn append(&self, writer: usize, _: usize, _: &AtomicUsize) {
        toggle(self.1[writer]).by(&self.0[writer % 2]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_beside_writers_misses_no_position() {
    let log = Log::new().await;
    let stores = [log.store().await, log.store().await];
    let users = (0..WRITERS).map(|_| UserId::new()).collect();
    assert_eq!(missed(&log, "event", Committers(stores, users)).await, Vec::<i64>::new());
    log.assert_sound().await;
}

/// What others do: positions from a sequence, one plain transaction each.
struct Sequence(Log, sqlx::PgPool);

impl Strategy for Sequence {
    async fn append(&self, writer: usize, number: usize, pages: &AtomicUsize) {
        let mut transaction = self.1.begin().await.unwrap();
        let position: i64 = sqlx::query_scalar("insert into by_sequence default values returning position")
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        // One commit comes late: when a later position is there to be read.
        if (writer, number) == (0, 3) {
            let mut connection = self.0.connection().await;
            let passed_by = async {
                let later = "select 1 from by_sequence where position > $1 limit 1";
                while sqlx::query(later)
                    .bind(position)
                    .fetch_optional(&mut connection)
                    .await
                    .unwrap()
                    .is_none()
                {
                    tokio::task::yield_now().await;
                }
                // By the second page from now the reader has seen it.
                let before = pages.load(Ordering::SeqCst);
                while pages.load(Ordering::SeqCst) < before + 2 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), passed_by).await.expect("the reader passes by");
            connection.close().await.unwrap();
        }
        transaction.commit().await.unwrap();
    }
}

/// The check above is able to fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_beside_writers_who_draw_from_a_sequence_does_miss_positions() {
    let log = Log::new().await;
    log.connection()
        .await
        .execute("create table by_sequence (position bigint generated always as identity primary key, payload text)")
        .await
        .unwrap();
    let sequence = Sequence(Log { options: log.options.clone() }, log.pool());
    let missed = missed(&log, "by_sequence", sequence).await;
    assert!(!missed.is_empty(), "a late commit went by unseen");
}
