//! When credentials are used, how often, and from where.
//!
//! Nothing of it is an event and nothing is decided by it. Replicas count in memory and add here what
//! they have counted, in batches; whose batch comes first makes no difference. An address is sealed
//! under the key of the person whose credential it is, so that an erasure takes it too.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection, PgPool};
use tally_events::{
    CredentialId, Subject, UserId,
    seal::{Key, SealError},
};
use uuid::Uuid;

use crate::keyring::{KeyRing, KeyRingError};

/// Addresses that are kept of one credential in one hour. Whoever changes theirs with every request makes
/// no row grow.
pub const ADDRESSES_MAX: usize = 8;
const HOUR_SECONDS: i64 = 3600;
/// Hours deleted by one purge: what else there is waits for the next.
const PURGED_HOURS_MAX: i64 = 10_000;

/// An hour of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(u32);

impl Hour {
    /// The hour that a moment is in.
    #[must_use]
    pub fn of(at: DateTime<Utc>) -> Self {
        // In 32 bits, hours are enough until the year 490,000.
        Self(u32::try_from(at.timestamp().div_euclid(HOUR_SECONDS)).unwrap_or_default())
    }

    /// When it begins.
    #[must_use]
    pub fn begins(self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + chrono::TimeDelta::hours(i64::from(self.0))
    }
}

/// What is known of one credential's use in one hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    pub user: UserId,
    pub uses: u32,
    pub first_at: DateTime<Utc>,
    pub last_at: DateTime<Utc>,
    pub addresses: Addresses,
}

impl Used {
    #[must_use]
    pub const fn once(user: UserId, at: DateTime<Utc>, address: IpAddr) -> Self {
        let addresses = Addresses { last: address, earlier: Vec::new() };
        Self { user, uses: 1, first_at: at, last_at: at, addresses }
    }

    /// Adds what else is known of the same credential in the same hour.
    pub fn add(&mut self, other: Self) {
        let Self { user: _, uses, first_at, last_at, addresses } = other;
        self.uses = self.uses.saturating_add(uses);
        self.first_at = self.first_at.min(first_at);
        if last_at >= self.last_at {
            self.last_at = last_at;
            let sooner = std::mem::replace(&mut self.addresses, addresses);
            self.addresses.append(&sooner);
        } else {
            self.addresses.append(&addresses);
        }
    }
}

/// Where a credential was used from, the last first. There is always one, and nearly always only one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    last: IpAddr,
    earlier: Vec<IpAddr>,
}

impl Addresses {
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(self.last).chain(self.earlier.iter().copied())
    }

    /// Behind these, as far as there is room, those that are not among them.
    fn append(&mut self, others: &Self) {
        for address in others.iter() {
            if self.earlier.len() + 1 < ADDRESSES_MAX && !self.iter().any(|known| known == address) {
                self.earlier.push(address);
            }
        }
    }
}

/// Adds a batch to what is known, as one: all of it or nothing. Rows are locked in the order of their
/// keys, so that replicas never wait for each other in a circle.
///
/// # Errors
/// When the database does not answer. If it was lost during the commit, the batch may stand all the same.
pub async fn add_usage(
    connection: &mut PgConnection,
    keys: &KeyRing,
    batch: &[(CredentialId, Hour, Used)],
) -> Result<(), KeyRingError> {
    let people: BTreeSet<UserId> = batch.iter().map(|(_, _, used)| used.user).collect();
    let keys = keys.subjects_by(&mut *connection, people.into_iter().map(Subject::User)).await?;
    let ids: Vec<Uuid> = batch.iter().map(|(credential, ..)| credential.uuid()).collect();
    let hours: Vec<DateTime<Utc>> = batch.iter().map(|(_, hour, _)| hour.begins()).collect();
    let users: Vec<Uuid> = batch.iter().map(|(.., used)| used.user.0).collect();
    let uses: Vec<i64> = batch.iter().map(|(.., used)| i64::from(used.uses)).collect();
    let firsts: Vec<DateTime<Utc>> = batch.iter().map(|(.., used)| used.first_at).collect();
    let lasts: Vec<DateTime<Utc>> = batch.iter().map(|(.., used)| used.last_at).collect();
    let addresses: Vec<String> = batch
        .iter()
        .map(|(credential, hour, used)| {
            // Of somebody erased it is not kept where they were.
            let key = keys.get(&Subject::User(used.user));
            array(key.into_iter().flat_map(|key| {
                used.addresses.iter().map(move |address| seal(key, credential.uuid(), *hour, address))
            }))
        })
        .collect();

    let mut transaction = connection.begin().await?;
    sqlx::query!(
        r#"insert into credential_usage as u (credential_id, user_id, uses, last_used_at)
           select b.credential_id, b.user_id, sum(b.uses)::bigint, max(b.last_used_at)
             from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[])
               as b(credential_id, user_id, uses, last_used_at)
            group by b.credential_id, b.user_id
            order by b.credential_id
           on conflict (credential_id) do update
              set uses = u.uses + excluded.uses,
                  last_used_at = greatest(u.last_used_at, excluded.last_used_at)"#,
        &ids,
        &users,
        &uses,
        &lasts,
    )
    .execute(&mut *transaction)
    .await?;
    // Equal addresses of one hour are sealed alike, so what is known twice is seen.
    sqlx::query!(
        r#"insert into credential_usage_hourly as h
                  (credential_id, hour, uses, first_used_at, last_used_at, addresses)
           select b.credential_id, b.hour, b.uses, b.first_used_at, b.last_used_at, b.addresses::bytea[]
             from unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::text[])
               as b(credential_id, hour, uses, first_used_at, last_used_at, addresses)
            order by b.credential_id, b.hour
           on conflict (credential_id, hour) do update
              set uses = h.uses + excluded.uses,
                  first_used_at = least(h.first_used_at, excluded.first_used_at),
                  last_used_at = greatest(h.last_used_at, excluded.last_used_at),
                  addresses = array(
                      select known.address
                        from unnest(case when excluded.last_used_at >= h.last_used_at
                                         then excluded.addresses || h.addresses
                                         else h.addresses || excluded.addresses end)
                             with ordinality as known(address, place)
                       group by known.address
                       order by min(known.place)
                       limit $7)"#,
        &ids,
        &hours,
        &uses,
        &firsts,
        &lasts,
        &addresses,
        i64::try_from(ADDRESSES_MAX).unwrap_or(i64::MAX),
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// An array of bytes as PostgreSQL writes it: an array of arrays would lose where each ends.
fn array(elements: impl Iterator<Item = Vec<u8>>) -> String {
    let elements: Vec<String> = elements.map(|bytes| format!(r#""\\x{}""#, hex::encode(bytes))).collect();
    format!("{{{}}}", elements.join(","))
}

/// Frozen: an address opens only for its credential and its hour. It is as long as any other.
fn place(credential: Uuid, hour: Hour) -> Vec<u8> {
    format!("usage/{credential}/{}", hour.0).into_bytes()
}

fn seal(key: &Key, credential: Uuid, hour: Hour, address: IpAddr) -> Vec<u8> {
    let octets = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    key.encrypt(&place(credential, hour), &octets)
}

fn open(key: &Key, credential: Uuid, hour: Hour, sealed: &[u8]) -> Result<IpAddr, SealError> {
    let opened = key.decrypt(&place(credential, hour), sealed)?;
    let octets = <[u8; 16]>::try_from(opened.as_slice()).map_err(|_| SealError::Malformed)?;
    Ok(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
}

/// An address that a credential was used from, as it stands in a row, with what opens it beside it.
#[derive(Clone, Copy, Debug)]
pub struct SealedAddress<'a> {
    pub credential: CredentialId,
    pub used_at: DateTime<Utc>,
    pub sealed: &'a [u8],
}

impl KeyRing {
    /// Opens addresses with a key that was read beside them: the row of `keys.subject`, none if there is
    /// none any more, and then nothing opens.
    ///
    /// # Errors
    /// When one was altered or moved.
    pub fn open_addresses_with<'a>(
        &self,
        user: UserId,
        wrapped: Option<&[u8]>,
        addresses: impl IntoIterator<Item = Option<SealedAddress<'a>>>,
    ) -> Result<Vec<Option<IpAddr>>, KeyRingError> {
        let key = wrapped.map(|wrapped| self.unwrap(Subject::User(user), wrapped)).transpose()?;
        let opened = addresses.into_iter().map(|address| match (&key, address) {
            (Some(key), Some(SealedAddress { credential, used_at, sealed })) => {
                open(key, credential.uuid(), Hour::of(used_at), sealed).map(Some)
            }
            (None, _) | (_, None) => Ok(None),
        });
        Ok(opened.collect::<Result<_, _>>()?)
    }
}

/// Everything that is known of a credential's use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialUsage {
    pub user: UserId,
    pub uses: i64,
    pub last_used_at: DateTime<Utc>,
    /// Those that are still kept, the last first.
    pub hours: Vec<UsedHour>,
}

/// An hour in which a credential was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedHour {
    pub begins: DateTime<Utc>,
    pub uses: i64,
    pub first_used_at: DateTime<Utc>,
    pub last_used_at: DateTime<Utc>,
    /// The last first, [`ADDRESSES_MAX`] at most; none of somebody who was erased.
    pub addresses: Vec<IpAddr>,
}

/// What is known of a credential, which may long have been revoked; none if it was never used.
///
/// # Errors
/// When the database does not answer, or an address was altered or moved.
pub async fn usage_of(
    pool: &PgPool,
    keys: &KeyRing,
    credential: Uuid,
) -> Result<Option<CredentialUsage>, KeyRingError> {
    let Some(total) = sqlx::query!(
        "select user_id, uses, last_used_at from credential_usage where credential_id = $1",
        credential,
    )
    .fetch_optional(pool)
    .await?
    else {
        return Ok(None);
    };
    let user = UserId(total.user_id);
    let rows = sqlx::query!(
        r#"select hour, uses, first_used_at, last_used_at, addresses from credential_usage_hourly
            where credential_id = $1
            order by hour desc"#,
        credential,
    )
    .fetch_all(pool)
    .await?;
    let key = keys.subjects_by(pool, [Subject::User(user)]).await?.remove(&Subject::User(user));
    let hours = rows.into_iter().map(|row| {
        let hour = Hour::of(row.hour);
        let opened = key
            .iter()
            .flat_map(|key| row.addresses.iter().map(move |sealed| open(key, credential, hour, sealed)));
        Ok(UsedHour {
            begins: row.hour,
            uses: row.uses,
            first_used_at: row.first_used_at,
            last_used_at: row.last_used_at,
            addresses: opened.collect::<Result<_, SealError>>()?,
        })
    });
    let hours = hours.collect::<Result<_, KeyRingError>>()?;
    Ok(Some(CredentialUsage { user, uses: total.uses, last_used_at: total.last_used_at, hours }))
}

/// Deletes hours that began more than `days` ago, the oldest first and so many at most. Replicas that
/// purge at once leave each other's rows alone.
pub(crate) async fn purge_hours(pool: &PgPool, days: u16) -> Result<u64, sqlx::Error> {
    let hours = sqlx::query!(
        r#"delete from credential_usage_hourly
            where ctid = any(array(
                select ctid from credential_usage_hourly
                 where hour < clock_timestamp() - make_interval(days => $1)
                 order by hour
                 limit $2
                   for update skip locked))"#,
        i32::from(days),
        PURGED_HOURS_MAX,
    );
    Ok(hours.execute(pool).await?.rows_affected())
}

#[cfg(test)]
mod tests;
