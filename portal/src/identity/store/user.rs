//! SQL of users, their links and throttles.

use calendar::Timestamp;
use ids::UserId;

use crate::{db::Tx, error::Result, identity::user::User};

/// A user with what verifies its password.
pub(in crate::identity) struct StoredUser {
    pub user: User,
    pub password_hash: String,
}

macro_rules! stored {
    ($row:expr) => {
        StoredUser {
            user: User {
                id: UserId::from_uuid($row.id),
                email: $row.email,
                name: $row.name,
                is_operator: $row.is_operator,
                verified_at: $row.verified_at,
                created_at: $row.created_at,
            },
            password_hash: $row.password_hash,
        }
    };
}

pub(in crate::identity) async fn user_by_email(tx: &mut Tx, email: &str) -> Result<Option<StoredUser>> {
    let row = sqlx::query!(
        "SELECT id, email, name, is_operator, verified_at, created_at, password_hash FROM users WHERE lower(email) = lower($1)",
        email
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| stored!(row)))
}

pub(in crate::identity) async fn user_by_id(tx: &mut Tx, id: UserId) -> Result<Option<StoredUser>> {
    let row =
        sqlx::query!("SELECT id, email, name, is_operator, verified_at, created_at, password_hash FROM users WHERE id = $1", id.uuid())
            .fetch_optional(&mut **tx)
            .await?;
    Ok(row.map(|row| stored!(row)))
}

/// Inserts a user; false if the address is taken.
pub(in crate::identity) async fn insert_user(tx: &mut Tx, user: &User, password_hash: &str) -> Result<bool> {
    let done = sqlx::query!(
        "INSERT INTO users (id, email, name, password_hash, is_operator, verified_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (lower(email)) DO NOTHING",
        user.id.uuid(),
        user.email,
        user.name,
        password_hash,
        user.is_operator,
        user.verified_at,
        user.created_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(in crate::identity) async fn set_name(tx: &mut Tx, id: UserId, name: &str) -> Result<()> {
    sqlx::query!("UPDATE users SET name = $2 WHERE id = $1", id.uuid(), name).execute(&mut **tx).await?;
    Ok(())
}

pub(in crate::identity) async fn set_password(tx: &mut Tx, id: UserId, password_hash: &str) -> Result<()> {
    sqlx::query!("UPDATE users SET password_hash = $2 WHERE id = $1", id.uuid(), password_hash).execute(&mut **tx).await?;
    Ok(())
}

pub(in crate::identity) async fn set_verified(tx: &mut Tx, id: UserId, now: Timestamp) -> Result<()> {
    sqlx::query!("UPDATE users SET verified_at = coalesce(verified_at, $2) WHERE id = $1", id.uuid(), now).execute(&mut **tx).await?;
    Ok(())
}

pub(in crate::identity) async fn insert_email_token(
    tx: &mut Tx,
    digest: &[u8],
    user: UserId,
    purpose: &str,
    expires_at: Timestamp,
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO email_tokens (digest, user_id, purpose, expires_at) VALUES ($1, $2, $3, $4)",
        digest,
        user.uuid(),
        purpose,
        expires_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whose unused link this is.
pub(in crate::identity) async fn email_token(tx: &mut Tx, digest: &[u8], purpose: &str, now: Timestamp) -> Result<Option<UserId>> {
    let user = sqlx::query_scalar!(
        "SELECT user_id FROM email_tokens WHERE digest = $1 AND purpose = $2 AND used_at IS NULL AND expires_at > $3",
        digest,
        purpose,
        now,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(user.map(UserId::from_uuid))
}

/// Uses a link up; `None` if it was used, has expired or never was.
pub(in crate::identity) async fn use_email_token(tx: &mut Tx, digest: &[u8], purpose: &str, now: Timestamp) -> Result<Option<UserId>> {
    let user = sqlx::query_scalar!(
        "UPDATE email_tokens SET used_at = $3 WHERE digest = $1 AND purpose = $2 AND used_at IS NULL AND expires_at > $3 RETURNING user_id",
        digest,
        purpose,
        now,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(user.map(UserId::from_uuid))
}

pub(in crate::identity) async fn void_email_tokens(tx: &mut Tx, user: UserId, now: Timestamp) -> Result<()> {
    sqlx::query!("UPDATE email_tokens SET used_at = $2 WHERE user_id = $1 AND used_at IS NULL", user.uuid(), now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(in crate::identity) async fn hit_throttle(tx: &mut Tx, key: &str, window_at: Timestamp) -> Result<i32> {
    let hits = sqlx::query_scalar!(
        "INSERT INTO throttles (key, window_at, hits) VALUES ($1, $2, 1)
         ON CONFLICT (key, window_at) DO UPDATE SET hits = throttles.hits + 1 RETURNING hits",
        key,
        window_at,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(hits)
}

pub(in crate::identity) async fn give_back_throttle(tx: &mut Tx, key: &str, window_at: Timestamp) -> Result<()> {
    sqlx::query!("UPDATE throttles SET hits = greatest(hits - 1, 0) WHERE key = $1 AND window_at = $2", key, window_at)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes what has ended: sessions, links, windows, REST tokens long dead.
pub(in crate::identity) async fn remove_ended(tx: &mut Tx, now: Timestamp, day_ago: Timestamp) -> Result<()> {
    sqlx::query!("DELETE FROM sessions WHERE expires_at <= $1", now).execute(&mut **tx).await?;
    sqlx::query!("DELETE FROM email_tokens WHERE expires_at <= $1", now).execute(&mut **tx).await?;
    sqlx::query!("DELETE FROM throttles WHERE window_at < $1", day_ago).execute(&mut **tx).await?;
    Ok(())
}
