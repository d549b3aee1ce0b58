//! What a server says of its resources under `/.well-known/core`.

use std::fmt::Write;

use crate::option::Options;

/// A resource and what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its path, not encoded; its parts are separated by `/`, and the first of them is preceded by one.
    pub path: String,
    /// What is said of it, by name: `rt`, `if`, `ct`, `sz`, `obs`, `title`.
    pub attributes: Vec<(&'static str, Attribute)>,
}

/// What is said of a resource under one name.
//= RFC6690 2
//= RFC7252 7.2.1
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// That it is so.
    Flag,
    /// Numbers, of content formats or of bytes.
    Numbers(Vec<u32>),
    /// Words: several with spaces between them, where there may be several.
    Text(String),
}

/// What may stand in a path as it is.
//= RFC6690 2
const PLAIN: &[u8] = b"-._~!$&'()*+,=:@/";

/// The links that all arguments of a request's query allow, in the link format. None at all is no error.
//= RFC6690 2, 4.1
#[must_use]
pub fn links(links: &[Link], asked: &Options) -> String {
    let mut out = String::new();
    let allowed = links.iter().filter(|link| asked.uri_query().all(|query| link.is_allowed(query)));
    for link in allowed {
        if !out.is_empty() {
            out.push(',');
        }
        link.put(&mut out);
    }
    out
}

impl Link {
    /// Whether an argument says nothing against it: `rt=abc` wants that word, `rt=ab*` one that begins so. What is no such
    /// argument says nothing.
    //= RFC6690 4.1
    fn is_allowed(&self, query: &[u8]) -> bool {
        let Some((name, wanted)) = std::str::from_utf8(query).ok().and_then(|query| query.split_once('=')) else {
            return true;
        };
        let matches = |value: &str| match wanted.strip_suffix('*') {
            Some(begin) => value.starts_with(begin),
            None => value == wanted,
        };
        if name == "href" {
            return matches(&self.path);
        }
        let mut said = self.attributes.iter().filter(|(of, _)| *of == name).map(|(_, attribute)| attribute);
        // Only what has several words by its nature is looked at word by word.
        let is_several = matches!(name, "rt" | "if" | "rel");
        said.any(|attribute| match attribute {
            Attribute::Flag => matches(""),
            Attribute::Numbers(numbers) => numbers.iter().any(|number| matches(&number.to_string())),
            Attribute::Text(text) if is_several => text.split(' ').any(matches),
            Attribute::Text(text) => matches(text),
        })
    }

    fn put(&self, out: &mut String) {
        out.push('<');
        for byte in self.path.bytes() {
            if byte.is_ascii_alphanumeric() || PLAIN.contains(&byte) {
                out.push(char::from(byte));
            } else {
                // A string takes whatever it is given.
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out.push('>');
        for (name, attribute) in &self.attributes {
            out.push(';');
            out.push_str(name);
            match attribute {
                Attribute::Flag => {}
                Attribute::Numbers(numbers) => {
                    let words: Vec<_> = numbers.iter().map(u32::to_string).collect();
                    let quote = if let [_] = words[..] { "" } else { "\"" };
                    let _ = write!(out, "={quote}{}{quote}", words.join(" "));
                }
                Attribute::Text(text) => {
                    out.push_str("=\"");
                    text.chars().for_each(|c| {
                        if matches!(c, '"' | '\\') {
                            out.push('\\');
                        }
                        out.push(c);
                    });
                    out.push('"');
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::option::OptionNumber;

    fn sensors() -> Vec<Link> {
        let link = |path: &str, attributes| Link { path: path.to_owned(), attributes };
        let text = |text: &str| Attribute::Text(text.to_owned());
        vec![
            link("/sensors", vec![("ct", Attribute::Numbers(vec![40])), ("title", text("Sensor \"Index\""))]),
            link("/sensors/temp", vec![("rt", text("temperature-c outdoor")), ("if", text("sensor"))]),
            link("/messages/a b", vec![("ct", Attribute::Numbers(vec![110, 112])), ("obs", Attribute::Flag)]),
        ]
    }

    fn check(query: &str, expected: &str) {
        let parts = query.split('&').filter(|part| !part.is_empty());
        let asked: Options = parts.map(|part| (OptionNumber::URI_QUERY, part)).collect();
        assert_eq!(links(&sensors(), &asked), expected, "{query}");
    }

    //= RFC6690 2
    //= RFC7252 7.2.1
    #[test]
    fn each_link_says_what_is_said_of_it() {
        check(
            "",
            "</sensors>;ct=40;title=\"Sensor \\\"Index\\\"\",\
             </sensors/temp>;rt=\"temperature-c outdoor\";if=\"sensor\",\
             </messages/a%20b>;ct=\"110 112\";obs",
        );
    }

    //= RFC6690 4.1
    #[test]
    fn a_query_leaves_what_it_names() {
        let temperature = "</sensors/temp>;rt=\"temperature-c outdoor\";if=\"sensor\"";
        for query in ["rt=temperature-c", "rt=outdoor", "rt=temp*", "href=/sensors/*", "if=*", "if=sensor&rt=out*"] {
            check(query, temperature);
        }
        check("ct=112", "</messages/a%20b>;ct=\"110 112\";obs");
        check("obs=", "</messages/a%20b>;ct=\"110 112\";obs");
        check("title=Sensor*", "</sensors>;ct=40;title=\"Sensor \\\"Index\\\"\"");
        for query in ["rt=temperature", "rt=temperature-c&if=other", "anchor=x", "href=/other"] {
            check(query, "");
        }
    }
}
