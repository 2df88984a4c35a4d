//! What a setting is, after the command line, the environment, the profile and the defaults had their say in this order.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use tally_domain::credential::Plaintext;
use url::{Host, Url};

use super::failure::Failure;
use super::machine::Environment;
use super::profile::Profile;

const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";

/// The settings a profile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    ServerUrl,
    AppUrl,
    Token,
    WorkspaceId,
}

impl Key {
    pub(super) const ALL: [Self; 4] = [Self::ServerUrl, Self::AppUrl, Self::Token, Self::WorkspaceId];

    /// Its name in the profile's file.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ServerUrl => "server_url",
            Self::AppUrl => "app_url",
            Self::Token => "token",
            Self::WorkspaceId => "workspace_id",
        }
    }

    /// Its names in the environment, the one that wins first.
    pub(super) const fn variables(self) -> [&'static str; 2] {
        match self {
            Self::ServerUrl => ["TALLY_SERVER_URL", "MULTICA_SERVER_URL"],
            Self::AppUrl => ["TALLY_APP_URL", "MULTICA_APP_URL"],
            Self::Token => ["TALLY_TOKEN", "MULTICA_TOKEN"],
            Self::WorkspaceId => ["TALLY_WORKSPACE_ID", "MULTICA_WORKSPACE_ID"],
        }
    }
}

/// Who set a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Flag,
    Variable(&'static str),
    Profile,
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "--server",
            Self::Variable(name) => name,
            Self::Profile => "profile",
            Self::Default => "default",
        })
    }
}

/// A setting and who set it.
#[derive(Clone, Debug)]
pub(super) struct Setting<T> {
    pub(super) value: T,
    pub(super) source: Source,
}

/// What the command line, the environment and the profile come to.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) server: Setting<ServerUrl>,
    pub(super) app_url: Option<String>,
    pub(super) token: Option<Setting<Plaintext>>,
    pub(super) workspace_id: Option<String>,
    /// The server the profile's token is for.
    home: ServerUrl,
}

impl Settings {
    pub(super) fn resolve(
        server_flag: Option<&ServerUrl>,
        environment: &Environment,
        profile: &Profile,
    ) -> Result<Self, Failure> {
        let find = |key| -> Result<Option<Setting<String>>, Failure> {
            let given = environment
                .setting(key)?
                .map(|(name, value)| Setting { value: value.to_owned(), source: Source::Variable(name) });
            let saved = || profile.get(key).map(|v| Setting { value: v.to_owned(), source: Source::Profile });
            Ok(given.or_else(saved))
        };
        let parse = |text: &str, place: &dyn fmt::Display| {
            ServerUrl::from_str(text)
                .map_err(|reason| Failure::Input(format!("server URL of {place}: {reason}")))
        };
        let home = parse(profile.get(Key::ServerUrl).unwrap_or(DEFAULT_SERVER), &profile.path().display())?;
        let server = match (server_flag, find(Key::ServerUrl)?) {
            (Some(url), _) => Setting { value: url.clone(), source: Source::Flag },
            (None, Some(Setting { source: Source::Profile, .. })) => {
                Setting { value: home.clone(), source: Source::Profile }
            }
            (None, Some(found)) => {
                Setting { value: parse(&found.value, &found.source)?, source: found.source }
            }
            (None, None) => Setting { value: home.clone(), source: Source::Default },
        };
        let token = find(Key::Token)?
            .map(|found| Setting { value: Plaintext::new(found.value), source: found.source });
        Ok(Self {
            server,
            app_url: find(Key::AppUrl)?.map(|found| found.value),
            token,
            workspace_id: find(Key::WorkspaceId)?.map(|found| found.value),
            home,
        })
    }

    /// The token to show to the server. One that was saved for another host stays here.
    pub(super) fn token_for_server(&self) -> Result<&Setting<Plaintext>, Failure> {
        let logged_out = || Failure::LoggedOut { server: self.server.value.to_string() };
        let token = self.token.as_ref().ok_or_else(logged_out)?;
        if token.source == Source::Profile {
            self.check_saved_token()?;
        }
        Ok(token)
    }

    /// Refuses to show the profile's token to a server it was not saved for.
    pub(super) fn check_saved_token(&self) -> Result<(), Failure> {
        if self.server_may_have_saved_token() {
            return Ok(());
        }
        Err(Failure::OtherServer { saved: self.home.to_string(), server: self.server.value.to_string() })
    }

    pub(super) fn server_may_have_saved_token(&self) -> bool {
        self.server.value.may_have_what_is_for(&self.home)
    }

    /// The variable a token is in.
    pub(super) fn token_variable(&self) -> Option<&'static str> {
        match self.token.as_ref()?.source {
            Source::Variable(name) => Some(name),
            Source::Flag | Source::Profile | Source::Default => None,
        }
    }
}

/// Where a server is: http or https, a host, perhaps a port and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerUrl(Url);

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "give one such as https://tally.example.org";
        let url = Url::parse(text.trim()).map_err(|reason| format!("not a URL ({reason}); {wanted}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(format!("neither http nor https; {wanted}"));
        }
        // Such a secret would end up in messages and files.
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("it carries a user name or password; {wanted}"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("it has a query or fragment; {wanted}"));
        }
        Ok(Self(url))
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl ServerUrl {
    /// The URL of a path on this server, which begins with a slash.
    pub(super) fn join(&self, path: &str, query: &[(&'static str, String)]) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{path}", self.0.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Whether the server is on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
            None => false,
        }
    }

    /// Whether what is sent can be read on the way.
    pub(super) fn is_in_the_clear(&self) -> bool {
        self.0.scheme() == "http" && !self.is_loopback()
    }

    /// Replicas on other ports of the same host may have its token; another host may not, nor may plain HTTP have
    /// what was saved for HTTPS.
    fn may_have_what_is_for(&self, saved: &Self) -> bool {
        let same_host = self.0.host() == saved.0.host() || (self.is_loopback() && saved.is_loopback());
        same_host && (self.is_loopback() || self.0.scheme() == "https" || saved.0.scheme() == "http")
    }
}
