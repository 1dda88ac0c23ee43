//! Invitations: how somebody becomes a member.
//!
//! An owner names an address and a role; the address gets a mail with a link that works once, for a week. Whoever is signed in with that address, and has
//! verified it, accepts or declines. What the owner is told does not depend on whether the address has an account.

use std::time::Duration;

use calendar::Timestamp;
use ids::{InvitationId, TenantId};
use serde_json::{Value, json};

use super::{MAX_MEMBERSHIPS, invitation_store as store, letter, store as members_store};
use crate::{
    app::App,
    audit::{self, Entry},
    db::Tx,
    error::{Error, Result},
    identity::{
        Actor, Permission, Role,
        throttle::{self, Throttle},
        user,
    },
    random, text,
};

/// How long an invitation can be accepted.
pub const LIFETIME: Duration = Duration::from_secs(7 * 86_400);
/// An organization has at most so many open invitations.
const MAX_PENDING: usize = 100;
/// For how long what became of an invitation is kept beside the audit log.
const KEPT: Duration = Duration::from_secs(90 * 86_400);

/// An open invitation, as the organization sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The organization.
    pub tenant: TenantId,
    /// Its id.
    pub id: InvitationId,
    /// Who is invited.
    pub email: String,
    /// As what.
    pub role: Role,
    /// The name of who invited, while that person has an account.
    pub invited_by: Option<String>,
    /// When.
    pub created_at: Timestamp,
    /// From when on it cannot be accepted.
    pub expires_at: Timestamp,
}

/// An open invitation, as the invited person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The invitation.
    pub invitation: Invitation,
    /// The organization's name.
    pub tenant_name: String,
}

/// Whom to invite.
#[derive(Debug, Clone)]
pub struct NewInvitation {
    /// The address.
    pub email: String,
    /// The role that the person will have.
    pub role: Role,
}

/// What the invited person says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Accept,
    /// No.
    Decline,
}

/// How an invitation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Accepted,
    Declined,
    Revoked,
}

impl Outcome {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Declined => "declined",
            Self::Revoked => "revoked",
        }
    }

    const fn action(self) -> &'static str {
        match self {
            Self::Accepted => "invitation.accepted",
            Self::Declined => "invitation.declined",
            Self::Revoked => "invitation.revoked",
        }
    }
}

/// Invites somebody, and sends the mail. An open invitation of the same address is replaced, so that its link stops working.
///
/// # Errors
/// `Invalid` where the address is no address or that of a member, `Conflict` where there are too many open invitations, `TooManyAttempts` where the
/// address or the organization has had too many mails.
pub async fn invite(app: &App, tx: &mut Tx, actor: &Actor, tenant: TenantId, input: NewInvitation, now: Timestamp) -> Result<Invitation> {
    actor.require(Permission::Own(tenant))?;
    let email = text::email("email", &input.email)?;
    let organization = members_store::lock(tx, tenant).await?.ok_or_else(|| Error::not_found("This organization"))?;
    // Owners see the members, so this tells nothing new.
    if members_store::members(tx, tenant).await?.iter().any(|member| member.email.to_lowercase() == email.to_lowercase()) {
        return Err(Error::invalid("email", "This person is a member already."));
    }
    store::remove_old(tx, tenant, now.minus(KEPT)).await?;
    if let Some(replaced) = store::open_of_address(tx, tenant, &email).await? {
        end(tx, actor, &replaced, Outcome::Revoked, now).await?;
    }
    if store::pending(tx, tenant, now).await?.len() >= MAX_PENDING {
        return Err(Error::conflict(format!("There are {MAX_PENDING} open invitations, which is the most. Revoke some first.")));
    }
    throttle::take_in(tx, &Throttle::invitations_of(tenant), now).await?;
    throttle::take_in(tx, &Throttle::mails_to(&email), now).await?;
    let inviter = match actor.user_id() {
        Some(_) => Some(user::myself(tx, actor).await?),
        None => None,
    };
    let (token, digest) = random::token()?;
    let invitation = Invitation {
        tenant,
        id: InvitationId::new(),
        email,
        role: input.role,
        invited_by: inviter.as_ref().map(|user| user.name.clone()),
        created_at: now,
        expires_at: now.plus(LIFETIME),
    };
    store::insert(tx, &invitation, &digest, inviter.map(|user| user.id)).await?;
    let offer = Offer { invitation, tenant_name: organization.name };
    letter::invitation(app, tx, &offer, &token, now).await?;
    let Offer { invitation, .. } = offer;
    let entry = Entry {
        tenant: Some(tenant),
        action: "invitation.created",
        target: invitation.id.to_string(),
        before: None,
        after: Some(told(&invitation)),
    };
    audit::record(tx, actor, entry, now).await?;
    Ok(invitation)
}

/// The invitations that can still be accepted, newest first.
pub async fn pending(tx: &mut Tx, actor: &Actor, tenant: TenantId, now: Timestamp) -> Result<Vec<Invitation>> {
    actor.require(Permission::View(tenant))?;
    store::pending(tx, tenant, now).await
}

/// Takes an invitation back.
pub async fn revoke(tx: &mut Tx, actor: &Actor, tenant: TenantId, id: InvitationId, now: Timestamp) -> Result<()> {
    actor.require(Permission::Own(tenant))?;
    let invitation = store::lock_open(tx, tenant, id).await?.ok_or_else(gone)?;
    end(tx, actor, &invitation, Outcome::Revoked, now).await
}

/// What a link invites to, for whoever has the link; `None` if it was used, taken back or has expired.
pub async fn of_link(tx: &mut Tx, token: &str, now: Timestamp) -> Result<Option<Offer>> {
    store::offer_of_digest(tx, &random::token_digest(token), now).await
}

/// The open invitations of the person, by the address that the person has verified.
pub async fn of_person(tx: &mut Tx, actor: &Actor, now: Timestamp) -> Result<Vec<Offer>> {
    let person = user::myself(tx, actor).await?;
    store::offers_of_address(tx, &person.email, now).await
}

/// Accepts or declines an invitation of one's own address.
///
/// # Errors
/// `NotFound` where there is no such open invitation of this address, `Conflict` where the person is in too many organizations.
pub async fn answer(tx: &mut Tx, actor: &Actor, tenant: TenantId, id: InvitationId, answer: Answer, now: Timestamp) -> Result<()> {
    actor.require(Permission::SignedIn)?;
    let person = user::myself(tx, actor).await?;
    let invitation = store::lock_open(tx, tenant, id).await?.ok_or_else(gone)?;
    if invitation.email.to_lowercase() != person.email.to_lowercase() || invitation.expires_at <= now {
        return Err(gone());
    }
    if answer == Answer::Decline {
        return end(tx, actor, &invitation, Outcome::Declined, now).await;
    }
    if members_store::memberships_of(tx, person.id).await? >= MAX_MEMBERSHIPS {
        return Err(Error::conflict(format!("You are a member of {MAX_MEMBERSHIPS} organizations, which is the most. Leave one first.")));
    }
    // Who has become a member in another way meanwhile keeps that role.
    members_store::insert_member(tx, tenant, person.id, invitation.role, now).await?;
    end(tx, actor, &invitation, Outcome::Accepted, now).await
}

async fn end(tx: &mut Tx, actor: &Actor, invitation: &Invitation, outcome: Outcome, now: Timestamp) -> Result<()> {
    store::end(tx, invitation.tenant, invitation.id, outcome, now).await?;
    let (tenant, target) = (Some(invitation.tenant), invitation.id.to_string());
    let entry = Entry { tenant, action: outcome.action(), target, before: Some(told(invitation)), after: None };
    audit::record(tx, actor, entry, now).await
}

/// What the audit log says of an invitation.
fn told(invitation: &Invitation) -> Value {
    json!({ "email": invitation.email, "role": invitation.role })
}

fn gone() -> Error {
    Error::not_found("This invitation")
}
