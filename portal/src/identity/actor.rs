//! Who performs an operation, and what they may.

use ids::{ApiTokenId, TenantId, UserId};

use crate::{
    audit::Who,
    error::{Error, Kind, Result},
};

/// A member's role in a tenant. Later roles include the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees everything, changes nothing.
    Viewer,
    /// Manages applications, keys and subscriptions.
    Developer,
    /// Manages members and billing too.
    Owner,
}

impl Role {
    /// The name in Postgres.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Developer => "developer",
            Self::Owner => "owner",
        }
    }

    /// Reads [`Self::as_str`].
    pub fn parse(text: &str) -> Result<Self> {
        [Self::Viewer, Self::Developer, Self::Owner]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| Error::internal(anyhow::anyhow!("unknown role {text}")))
    }
}

/// What an operation asks of its actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// To be signed in, with a verified address.
    SignedIn,
    /// To be an operator of this installation.
    Operate,
    /// To see a tenant's rows.
    View(TenantId),
    /// To change a tenant's applications, keys and subscriptions.
    Develop(TenantId),
    /// To change a tenant's members and billing.
    Own(TenantId),
}

/// What kind of actor, for the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorKind {
    /// Nobody signed in.
    Anonymous,
    /// A person with a session.
    User(UserId),
    /// A REST token that acts as a person.
    ApiToken(ApiTokenId, UserId),
    /// The product itself: a job, a migration, the demo seed.
    System,
}

/// Who performs an operation.
#[derive(Debug, Clone)]
pub struct Actor {
    /// What kind of actor.
    pub kind: ActorKind,
    /// Whether it is of the platform team.
    pub is_operator: bool,
    /// Whether its mail address is verified.
    pub is_verified: bool,
    /// The tenants that it is a member of.
    pub memberships: Vec<(TenantId, Role)>,
    /// Where it calls from.
    pub ip: Option<String>,
}

impl Actor {
    /// Nobody.
    pub fn anonymous(ip: Option<String>) -> Self {
        Self { kind: ActorKind::Anonymous, is_operator: false, is_verified: false, memberships: Vec::new(), ip }
    }

    /// The product itself, which may do everything.
    pub fn system() -> Self {
        Self { kind: ActorKind::System, is_operator: true, is_verified: true, memberships: Vec::new(), ip: None }
    }

    /// The person behind it.
    pub fn user_id(&self) -> Option<UserId> {
        match self.kind {
            ActorKind::User(user) | ActorKind::ApiToken(_, user) => Some(user),
            ActorKind::Anonymous | ActorKind::System => None,
        }
    }

    /// Its role in a tenant.
    pub fn role_in(&self, tenant: TenantId) -> Option<Role> {
        self.memberships.iter().find(|(id, _)| *id == tenant).map(|(_, role)| *role)
    }

    /// The first line of every operation. A tenant's rows do not exist for those who are neither members nor operators; operators may see them,
    /// and change them only as members or as the system.
    pub fn require(&self, permission: Permission) -> Result<()> {
        match self.kind {
            ActorKind::System => return Ok(()),
            ActorKind::Anonymous => return Err(Error::new(Kind::Unauthenticated, "Please sign in.")),
            ActorKind::User(_) | ActorKind::ApiToken(..) => {}
        }
        if !self.is_verified {
            return Err(Error::new(Kind::Forbidden, "Please verify your e-mail address first."));
        }
        let (tenant, needed) = match permission {
            Permission::SignedIn => return Ok(()),
            Permission::Operate if self.is_operator => return Ok(()),
            Permission::Operate => return Err(Error::forbidden()),
            Permission::View(_) if self.is_operator => return Ok(()),
            Permission::View(tenant) => (tenant, Role::Viewer),
            Permission::Develop(tenant) => (tenant, Role::Developer),
            Permission::Own(tenant) => (tenant, Role::Owner),
        };
        match self.role_in(tenant) {
            Some(role) if role >= needed => Ok(()),
            Some(_) => Err(Error::forbidden()),
            None if self.is_operator => Err(Error::forbidden()),
            None => Err(Error::not_found("This page")),
        }
    }
}

impl From<&Actor> for Who {
    fn from(actor: &Actor) -> Self {
        let (kind, id) = match actor.kind {
            ActorKind::User(user) => ("user", Some(user.uuid())),
            ActorKind::ApiToken(token, _) => ("api_token", Some(token.uuid())),
            ActorKind::Anonymous | ActorKind::System => ("system", None),
        };
        Self { kind, id, ip: actor.ip.clone() }
    }
}
