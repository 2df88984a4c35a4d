//! What must hold of any log at any moment, asked in plain SQL and of no code of ours.

use sqlx::PgConnection;

/// Each finds what may not be, one line per finding.
const CHECKS: [(&str, &str); 5] = [
    (
        "positions run from 1 to the head without a gap",
        "select format('position %s where %s belongs', position, row_number)
           from (select position, row_number() over (order by position) from event) as e
          where position <> row_number
         union all
         select format('the head is at %s, the last event at %s', h.position, e.last)
           from log_head h, (select coalesce(max(position), 0) as last from event) as e
          where h.position <> e.last",
    ),
    (
        "versions of a stream run from 1 without a gap, in the order of positions",
        "select format('%s has version %s where %s belongs', stream_id, stream_version, row_number)
           from (select stream_id, stream_version,
                        row_number() over (partition by stream_id order by position) from event) as e
          where stream_version <> row_number",
    ),
    (
        "each stream stands at its last event",
        "select format('%s stands at %s, its last event at %s', id, s.version, e.version)
           from stream s
           full join (select stream_id as id, max(stream_version) as version from event group by 1) as e using (id)
          where s.version is distinct from e.version",
    ),
    (
        "time never decreases with position",
        "select format('position %s is of %s, the one before of %s', position, recorded_at, before)
           from (select position, recorded_at, lag(recorded_at) over (order by position) as before from event) as e
          where recorded_at < before",
    ),
    // The leaf of RFC 6962 over the frozen encoding, made here from the columns once more.
    (
        "every leaf hash is that of its row",
        r"select format('the leaf hash of position %s', position)
            from event
           where leaf_hash <> sha256(
                 '\x0001'::bytea || int8send(position) || uuid_send(stream_id) || int8send(stream_version)
              || int2send(octet_length(name)::smallint) || convert_to(name, 'UTF8') || int2send(schema_version)
              || case when workspace_id is null then decode(repeat('00', 17), 'hex') else '\x01' || uuid_send(workspace_id) end
              || int2send(octet_length(actor_kind)::smallint) || convert_to(actor_kind, 'UTF8')
              || case when actor_id is null then decode(repeat('00', 17), 'hex') else '\x01' || uuid_send(actor_id) end
              || case when credential_id is null then decode(repeat('00', 17), 'hex') else '\x01' || uuid_send(credential_id) end
              || case when request_id is null then decode(repeat('00', 17), 'hex') else '\x01' || uuid_send(request_id) end
              || uuid_send(causation)
              || int8send((extract(epoch from recorded_at) * 1000000)::bigint)
              || sha256(convert_to(payload::text, 'UTF8')))",
    ),
];

/// Everything that is wrong with the log; empty when nothing is.
///
/// # Panics
/// When the database does not answer.
pub async fn damage(connection: &mut PgConnection) -> Vec<String> {
    let mut found = Vec::new();
    for (promise, statement) in CHECKS {
        let lines: Vec<String> =
            sqlx::query_scalar(statement).fetch_all(&mut *connection).await.expect("the log can be read");
        found.extend(lines.iter().take(5).map(|line| format!("{promise}: {line}")));
    }
    found
}

/// # Panics
/// When the log breaks one of its promises, or holds nothing: an empty log proves nothing.
pub async fn assert_sound(connection: &mut PgConnection) {
    let damage = damage(connection).await;
    assert!(damage.is_empty(), "{}", damage.join("\n"));
    let events: i64 = sqlx::query_scalar("select count(*) from event")
        .fetch_one(connection)
        .await
        .expect("the log can be read");
    assert!(events > 0, "an empty log proves nothing");
}
