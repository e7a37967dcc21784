// SPDX-License-Identifier: GPL-2.0-or-later
//! Where another machine keeps things, as an address of one line says it.

use std::fmt;

/// `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]` or `http://[USER:PASSWORD@]HOST[:PORT][/PATH]`.
///
/// What it shows of itself is without the user and the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// What is spoken there.
    pub protocol: Protocol,
    /// Name or number; one with colons stands in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// User and password, either may be empty.
    pub login: Option<(String, String)>,
    /// What comes after the host, without the first slash.
    pub path: String,
}

/// What is spoken with another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// GET and SET of Redis.
    Redis,
    /// GET and PUT of HTTP.
    Http,
}

impl Address {
    /// Understands an address.
    pub fn parse(text: &str) -> Option<Self> {
        let (protocol, rest) = match text.split_once("://")? {
            ("redis", rest) => (Protocol::Redis, rest),
            ("http", rest) => (Protocol::Http, rest),
            _ => return None,
        };
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_graphic() && !"\"<>\\^`{|}?#".contains(c));
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = match place.rsplit_once('@') {
            Some((login, place)) => (Some(login.split_once(':').filter(|_| plain(login))?), place),
            None => (None, place),
        };
        let (host, port) = match place.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
            None => (place, if protocol == Protocol::Redis { 6379 } else { 80 }),
        };
        let name = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        let number = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit() || ":.".contains(c));
        let named = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
            Some(bare) => bare.is_some_and(number),
            None => name(host),
        };
        let path = path.trim_end_matches('/');
        let leads = protocol == Protocol::Http && plain(path) || path.is_empty() || path.parse::<u16>().is_ok();
        let login = match login {
            Some((user, password)) => Some((decoded(user)?, decoded(password)?)),
            None => None,
        };
        let known = named && leads && !host.is_empty();
        known.then(|| Self { protocol, host: host.to_owned(), port, login, path: path.to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, host, port, path, .. } = self;
        let scheme = if *protocol == Protocol::Redis { "redis" } else { "http" };
        write!(f, "{scheme}://{host}:{port}{}{path}", if path.is_empty() { "" } else { "/" })
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What stands for what in an address: `%40` for `@`.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        bytes.push(match byte {
            b'%' => {
                let (code, after) = rest.split_at_checked(2)?;
                rest = after;
                let code = std::str::from_utf8(code).ok().filter(|code| !code.starts_with('+'))?;
                u8::from_str_radix(code, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The other way round, for any bytes.
pub fn encoded(text: &str) -> String {
    let code = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(code).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_and_show_no_password() {
        for (text, shown, login) in [
            ("redis://cache", "redis://cache:6379", None),
            ("redis://:se%40cret@10.0.0.1:7000/3", "redis://10.0.0.1:7000/3", Some(("", "se@cret"))),
            ("redis://me:a:b@[fd00::1]/", "redis://[fd00::1]:6379", Some(("me", "a:b"))),
            ("http://u:p@h.example/a/b/", "http://h.example:80/a/b", Some(("u", "p"))),
            ("http://[::1]:8080", "http://[::1]:8080", None),
        ] {
            let address = Address::parse(text).expect(text);
            assert_eq!((address.to_string(), format!("{address:?}")), (shown.to_owned(), shown.to_owned()));
            let found = address.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str()));
            assert_eq!(found, login, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_none() {
        for text in [
            "",
            "redis",
            "redis://",
            "redis://host:port",
            "redis://host:0",
            "redis://host/name",
            "redis://secret@host",
            "redis://:%4@host",
            "redis://:%+4@host",
            "redis://:%ff@host",
            "redis://[::1",
            "redis://a b",
            "https://host",
            "http://host/a?b",
            "http://host/a b",
            "http://u:a b@host",
            "http://ho%73t/",
            "file:/tmp",
        ] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_is_one_part_of_a_path() {
        assert_eq!(encoded("a-1.0~x_Y"), "a-1.0~x_Y");
        assert_eq!(encoded("a/b:c%d é"), "a%2Fb%3Ac%25d%20%C3%A9");
        assert_eq!(decoded(&encoded("a/b:c%d é")).as_deref(), Some("a/b:c%d é"));
    }
}
