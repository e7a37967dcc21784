// SPDX-License-Identifier: GPL-2.0-or-later
//! GET and PUT of HTTP, as any server of files understands them.

use std::io;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ureq::{Agent, Error};

use super::address::{Address, encoded};
use super::{LARGEST, PATIENCE, Upstream};

/// A server; connections are kept.
#[derive(Debug)]
pub struct Http {
    base: String,
    agent: Agent,
    login: Option<Login>,
}

/// What the header says, which is not for a log.
struct Login(String);

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

impl Http {
    pub fn new(address: &Address) -> Self {
        let login = |(user, password): &(String, String)| STANDARD.encode(format!("{user}:{password}"));
        // Nobody else gets to see what goes there, whatever the server or the environment says.
        let config = Agent::config_builder()
            .max_redirects(0)
            .proxy(None)
            .http_status_as_error(false)
            .timeout_resolve(Some(PATIENCE))
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .timeout_per_write(Some(PATIENCE));
        Self {
            base: address.to_string(),
            agent: config.build().into(),
            login: address.login.as_ref().map(|it| Login(format!("Basic {}", login(it)))),
        }
    }

    fn url(&self, owner: &str, name: &str) -> String {
        format!("{}/dkms/{}/{}", self.base, encoded(owner), encoded(name))
    }

    /// A request, ready but for what it sends.
    fn dress<Body>(&self, request: ureq::RequestBuilder<Body>, until: Instant) -> ureq::RequestBuilder<Body> {
        let left = until.saturating_duration_since(Instant::now());
        let request = match &self.login {
            Some(Login(login)) => request.header("Authorization", login),
            None => request,
        };
        request.config().timeout_global(Some(left)).build()
    }
}

impl Upstream for Http {
    fn get(&self, owner: &str, name: &str, until: Instant) -> io::Result<Option<Vec<u8>>> {
        let mut answer = self.dress(self.agent.get(self.url(owner, name)), until).call().map_err(Error::into_io)?;
        match answer.status().as_u16() {
            200 => {
                let body = answer.body_mut().with_config().limit(LARGEST + 1).read_to_vec();
                body.map(Some).map_err(Error::into_io)
            }
            404 | 410 => Ok(None),
            _ => Err(io::Error::other(format!("GET: {}", answer.status()))),
        }
    }

    fn put(&self, owner: &str, name: &str, bytes: &[u8], until: Instant) -> io::Result<()> {
        let answer = self.dress(self.agent.put(self.url(owner, name)), until).send(bytes).map_err(Error::into_io)?;
        if answer.status().is_success() { Ok(()) } else { Err(io::Error::other(format!("PUT: {}", answer.status()))) }
    }
}
